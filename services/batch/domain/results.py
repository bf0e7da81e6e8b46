"""Output tensors become columns: what SPEC calls a prediction, beside the row's key.

The columns and their types follow from the version alone, so that every part of a job has the same.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from services.batch.domain.columns import Column
from services.batch.domain.job import Version
from services.batch.domain.layout import Layout
from services.batch.domain.rows import RowBlock, Tensor
from services.common.errors import MeshError, Reason
from services.common.schema import DataType, TensorSpec

_ARROW = {
    DataType.BOOL: pa.bool_(),
    DataType.UINT8: pa.uint8(),
    DataType.UINT16: pa.uint16(),
    DataType.UINT32: pa.uint32(),
    DataType.UINT64: pa.uint64(),
    DataType.INT8: pa.int8(),
    DataType.INT16: pa.int16(),
    DataType.INT32: pa.int32(),
    DataType.INT64: pa.int64(),
    DataType.FP16: pa.float32(),
    DataType.FP32: pa.float32(),
    DataType.FP64: pa.float64(),
    DataType.BYTES: pa.string(),
}


class ResultShape:
    """The output's columns for one version."""

    def __init__(self, version: Version) -> None:
        outputs = {spec.name: spec for spec in version.schema.outputs}
        if not outputs:
            raise MeshError(Reason.SCHEMA_REQUIRED, f"version {version.version} of {version.model} states no outputs")
        mapping = version.mapping
        self._version = version.version
        self._output = outputs.get(mapping.output_tensor) or version.schema.outputs[0]
        self._probabilities = outputs.get(mapping.probabilities_tensor) if mapping.probabilities_tensor else None
        self._classes = _class_names(self._probabilities, mapping.class_names)
        for spec in (self._output, self._probabilities):
            if spec is not None and spec.data_type not in _ARROW:
                raise MeshError(
                    Reason.NOT_IMPLEMENTED,
                    f"output {spec.name!r} is {spec.data_type}: batch jobs do not write it yet; call the model's "
                    "predict endpoint instead",
                )

    @property
    def tensors(self) -> tuple[str, ...]:
        """The output tensors that must be asked for."""
        names = [self._output.name]
        if self._probabilities is not None and self._probabilities.name != self._output.name:
            names.append(self._probabilities.name)
        return tuple(names)

    def check(self, tensors: Mapping[str, Tensor], row_count: int) -> None:
        """Raises BACKEND_PROTOCOL where an answer lacks a tensor or has another number of rows than were sent."""
        for name in self.tensors:
            rows = len(tensors[name]) if name in tensors else None
            if rows != row_count:
                raise MeshError(
                    Reason.BACKEND_PROTOCOL, f"the answer to {row_count} rows has {rows} rows of output {name!r}"
                )

    def columns(self, key_name: str) -> tuple[str, ...]:
        """The output's columns, in order."""
        scored = ("confidence", "class", "probabilities") if self._probabilities is not None else ()
        names = ("output", *scored, "model_version")
        # Two columns of one name cannot be told apart.
        return (f"key_{key_name}" if key_name in names else key_name, *names)

    def table(self, keys: pa.Array, key_name: str, tensors: Mapping[str, Tensor]) -> pa.Table:
        """The output of some rows."""
        columns = [keys, _column(tensors[self._output.name], self._output)]
        if self._probabilities is not None:
            columns += self._class_columns(tensors[self._probabilities.name], len(keys))
        columns.append(pa.array([self._version] * len(keys), type=pa.string()))
        return pa.table(columns, names=list(self.columns(key_name)))

    def empty(self, keys: pa.Array, key_name: str) -> pa.Table:
        """The output of no rows; `keys` is empty and states their type."""
        specs = [self._output] if self._probabilities is None else [self._output, self._probabilities]
        tensors: dict[str, Tensor] = {
            spec.name: np.zeros((0, *(max(size, 0) for size in spec.shape)), dtype=spec.data_type.numpy_name)
            for spec in specs
        }
        return self.table(keys, key_name, tensors)

    def _class_columns(self, tensor: Tensor, rows: int) -> list[pa.Array]:
        width = len(self._classes)
        if tensor.size != rows * width:
            raise MeshError(
                Reason.BACKEND_PROTOCOL,
                f"the answer to {rows} rows has {tensor.size} probabilities, and the version has {width} classes",
            )
        probabilities = tensor.reshape(rows, width).astype(np.float64)
        best = pa.array(probabilities.argmax(axis=1).astype(np.int32), type=pa.int32())
        return [
            pa.array(probabilities.max(axis=1), type=pa.float64()),
            pa.DictionaryArray.from_arrays(best, pa.array(self._classes, type=pa.string())).dictionary_decode(),
            pa.StructArray.from_arrays(
                [pa.array(np.ascontiguousarray(probabilities[:, place])) for place in range(width)],
                names=list(self._classes),
            ),
        ]


def _class_names(spec: TensorSpec | None, stated: tuple[str, ...]) -> tuple[str, ...]:
    """The classes in the order of the probabilities; their index where the version does not name them."""
    if spec is None or stated:
        return stated
    width = math.prod(spec.shape)
    if width < 1:
        raise MeshError(
            Reason.NOT_IMPLEMENTED,
            f"output {spec.name!r} has any number of probabilities and the version names no classes: register it with "
            "metadata.class_names to use it in batch jobs",
        )
    return tuple(str(place) for place in range(width))


def _column(tensor: Tensor, spec: TensorSpec) -> pa.Array:
    """A tensor as a column: single values where a row has one element, lists in row-major order where it has more."""
    kind = _ARROW[spec.data_type]
    flat = tensor.reshape(len(tensor), tensor.size // max(1, len(tensor)))
    if spec.data_type is DataType.BYTES:
        texts = [_text(item) for item in flat.ravel().tolist()]
        values = pa.array(texts, type=pa.string())
    else:
        # Half precision has a column type, but few that read it.
        wide = "<f4" if spec.data_type is DataType.FP16 else spec.data_type.numpy_name
        values = pa.array(np.ascontiguousarray(flat.ravel()).astype(wide, copy=False), type=kind)
    if _is_single(spec):
        return values
    width = flat.shape[1]
    offsets = pa.array(np.arange(len(tensor) + 1, dtype=np.int32) * width)
    return pa.ListArray.from_arrays(offsets, values)


def _is_single(spec: TensorSpec) -> bool:
    return all(size == 1 for size in spec.shape)


def _text(item: object) -> str:
    return item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item)


def keys_of(block: RowBlock, layout: Layout, *, key_is_integer: bool) -> pa.Array:
    """The keys of a block's rows, in the type that they have in the output."""
    if not layout.key:
        return pa.array(np.arange(block.first_row, block.first_row + block.row_count), type=pa.int64())
    column = block.columns[layout.key]
    if not isinstance(column, list):
        return column
    if key_is_integer:
        return pa.array([value if _is_whole(value) else None for value in column], type=pa.int64())
    return pa.array([None if value is None else _key_text(value) for value in column], type=pa.string())


def misfit_keys(block: RowBlock, layout: Layout, *, key_is_integer: bool) -> Sequence[int]:
    """The places of rows whose key has another type than the first row's, so that it cannot be written."""
    column: Column | None = block.columns.get(layout.key) if layout.key else None
    if not isinstance(column, list) or not key_is_integer:
        return ()
    return [place for place, value in enumerate(column) if not _is_whole(value) and place not in block.bad]


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63


def _key_text(value: object) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def select(tensors: Mapping[str, Tensor], places: npt.NDArray[np.int64]) -> dict[str, Tensor]:
    """Some rows of each tensor."""
    return {name: tensor[places] for name, tensor in tensors.items()}
