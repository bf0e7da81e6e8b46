"""Output tensors become columns: what SPEC calls a prediction, beside the row's key.

The columns and their types follow from the version alone, so that every part of a job has the same.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from services.batch.domain import explanations
from services.batch.domain.columns import Column
from services.batch.domain.explanations import Explanation, explanation_columns
from services.batch.domain.job import Format, Version
from services.batch.domain.layout import Layout
from services.batch.domain.lines import AS_JSON
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
    """The output's columns for one version, with explanations or without."""

    def __init__(self, version: Version, *, explain: bool = False) -> None:
        outputs = {spec.name: spec for spec in version.schema.outputs}
        if not outputs:
            raise MeshError(Reason.SCHEMA_REQUIRED, f"version {version.version} of {version.model} states no outputs")
        mapping = version.mapping
        self._version = version
        self.explain = explain
        self.output = outputs.get(mapping.output_tensor) or version.schema.outputs[0]
        self.probabilities = outputs.get(mapping.probabilities_tensor) if mapping.probabilities_tensor else None
        self.classes = _class_names(self.probabilities, mapping.class_names)
        for spec in (self.output, self.probabilities):
            if spec is not None and spec.data_type not in _ARROW:
                raise MeshError(
                    Reason.NOT_IMPLEMENTED,
                    f"output {spec.name!r} is {spec.data_type}: batch jobs do not write it yet; call the model's "
                    "predict endpoint instead",
                )

    @property
    def tensors(self) -> tuple[str, ...]:
        """The output tensors that must be asked for."""
        names = [self.output.name]
        if self.probabilities is not None and self.probabilities.name != self.output.name:
            names.append(self.probabilities.name)
        return tuple(names)

    def check(self, tensors: Mapping[str, Tensor], row_count: int) -> None:
        """Raises BACKEND_PROTOCOL where an answer lacks a tensor or has another number of rows than were sent."""
        for name in self.tensors:
            rows = len(tensors[name]) if name in tensors else None
            if rows != row_count:
                raise MeshError(
                    Reason.BACKEND_PROTOCOL, f"the answer to {row_count} rows has {rows} rows of output {name!r}"
                )

    def columns(self, key_name: str, copied: Sequence[str] = ()) -> tuple[str, ...]:
        """The output's columns, in order."""
        scored = ("confidence", "class", "probabilities") if self.probabilities is not None else ()
        explained = explanations.COLUMNS if self.explain else ()
        names = ("output", *scored, *explained, "model_version")
        # Two columns of one name cannot be told apart.
        return (f"key_{key_name}" if key_name in names else key_name, *copied, *names)

    def table(
        self, keys: pa.Array, key_name: str, tensors: Mapping[str, Tensor], explained: Sequence[Explanation] = ()
    ) -> pa.Table:
        """The output of some rows, each of which is explained where that is asked for."""
        columns = [keys, _column(tensors[self.output.name], self.output)]
        if self.probabilities is not None:
            columns += self._class_columns(tensors[self.probabilities.name], len(keys))
        if self.explain:
            columns += explanation_columns(explained, self._version)
        columns.append(pa.repeat(pa.scalar(self._version.version, type=pa.string()), len(keys)))
        return pa.table(columns, names=list(self.columns(key_name)))

    def empty(self, keys: pa.Array, key_name: str) -> pa.Table:
        """The output of no rows; `keys` is empty and states their type."""
        specs = [self.output] if self.probabilities is None else [self.output, self.probabilities]
        tensors: dict[str, Tensor] = {
            spec.name: np.zeros((0, *(max(size, 0) for size in spec.shape)), dtype=spec.data_type.numpy_name)
            for spec in specs
        }
        return self.table(keys, key_name, tensors)

    def _class_columns(self, tensor: Tensor, rows: int) -> list[pa.Array]:
        width = len(self.classes)
        if tensor.size != rows * width:
            raise MeshError(
                Reason.BACKEND_PROTOCOL,
                f"the answer to {rows} rows has {tensor.size} probabilities, and the version has {width} classes",
            )
        probabilities = tensor.reshape(rows, width).astype(np.float64)
        best = pa.array(probabilities.argmax(axis=1).astype(np.int32), type=pa.int32())
        return [
            pa.array(probabilities.max(axis=1), type=pa.float64()),
            pa.DictionaryArray.from_arrays(best, pa.array(self.classes, type=pa.string())).dictionary_decode(),
            pa.StructArray.from_arrays(
                [pa.array(np.ascontiguousarray(probabilities[:, place])) for place in range(width)],
                names=list(self.classes),
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


def with_copies(table: pa.Table, block: RowBlock, layout: Layout, places: Sequence[int], kind: Format) -> pa.Table:
    """An output of the rows at `places` with the columns that are copied, after the key.

    Typed columns keep their types. JSON Lines have values of any type, and a column has one: as JSON Lines they come
    out as they were, as anything else as texts."""
    taken = pa.array(places, type=pa.int64())
    for number, name in enumerate(layout.copied, 1):
        column = block.columns[name]
        if not isinstance(column, list):
            table = table.add_column(number, pa.field(name, column.type), column.take(taken))
            continue
        values = [column[place] for place in places]
        if kind is Format.JSONL:
            texts = pa.array([orjson.dumps(value).decode() for value in values], type=pa.string())
            table = table.add_column(number, pa.field(name, pa.string(), metadata=AS_JSON), texts)
        else:
            words = pa.array([None if value is None else _key_text(value) for value in values], type=pa.string())
            table = table.add_column(number, pa.field(name, pa.string()), words)
    return table


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
    """Some rows of each tensor, in ascending order; rows that follow one another are not copied."""
    if len(places) and int(places[-1]) - int(places[0]) + 1 == len(places):
        first, stop = int(places[0]), int(places[-1]) + 1
        return {name: tensor[first:stop] for name, tensor in tensors.items()}
    return {name: tensor[places] for name, tensor in tensors.items()}
