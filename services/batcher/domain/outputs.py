"""Output tensors become predictions: one plan for each version, compiled when the serving table changes.

The scores (class and confidence of each row) are worked out once a request, for every protocol: the prediction log
counts them whether or not the caller's protocol shows them.
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isnan, prod
from typing import cast

import numpy as np
from numpy.typing import NDArray

from services.batcher.domain.request import InferResult, Tensor
from services.batcher.domain.serving import ServedVersion
from services.batcher.domain.tensors import STRUCT_CODES, BytesLike, Value, as_array, pack, unpack
from services.common.schema import DataType, TensorSpec

_STRUCT_VALUES_MAX = 64
"""Up to here `struct` is quicker than numpy."""
_FEW_ROWS = 32
"""Up to here rows become Python values at once."""


@dataclass(slots=True)
class RowScores:
    """What the probabilities of a few rows say. One entry a row."""

    classes: Sequence[int]
    """The index of the most probable class."""
    confidences: Sequence[float]
    """Its probability."""
    probabilities: Sequence[Sequence[float]]
    """The probability of each class."""


class TableScores:
    """The same of many rows. They become Python values where somebody reads them: whoever asks by the Open Inference
    Protocol, as batch jobs do, reads none, and callers of one row would wait for thousands of numbers to be made."""

    __slots__ = ("_found", "confidence", "index", "table")

    def __init__(self, table: NDArray[np.float64], index: NDArray[np.intp], confidence: NDArray[np.float64]) -> None:
        self.table = table
        """rows x classes: probabilities."""
        self.index = index
        """The most probable class of each row."""
        self.confidence = confidence
        """Its probability."""
        self._found: RowScores | None = None

    @property
    def classes(self) -> Sequence[int]:
        """As `RowScores.classes`."""
        return self._read().classes

    @property
    def confidences(self) -> Sequence[float]:
        """As `RowScores.confidences`."""
        return self._read().confidences

    @property
    def probabilities(self) -> Sequence[Sequence[float]]:
        """As `RowScores.probabilities`."""
        return self._read().probabilities

    def _read(self) -> RowScores:
        if self._found is None:
            self._found = RowScores(self.index.tolist(), self.confidence.tolist(), self.table.tolist())
        return self._found


Scores = RowScores | TableScores
"""What the probabilities of a request's rows say."""


class OutputPlan:
    """How a version's outputs become predictions."""

    __slots__ = ("_code", "_one_row", "class_names", "needed", "output", "probabilities", "served", "specs")

    def __init__(self, served: ServedVersion) -> None:
        mapping, outputs = served.mapping, served.schema.outputs
        self.served = served
        self.specs = {spec.name: spec for spec in outputs}
        self.output = mapping.output_tensor or (outputs[0].name if outputs else "")
        """The tensor that is the prediction itself."""
        self.probabilities = mapping.probabilities_tensor
        """The tensor with one probability for each class; empty where the model gives none."""
        self.class_names = _class_names(mapping.class_names, self.specs.get(self.probabilities))
        spec = self.specs.get(self.probabilities)
        self._code = "" if spec is None or spec.data_type is DataType.BOOL else STRUCT_CODES.get(spec.data_type, "")
        self._one_row = struct.Struct("")
        """Reads the probabilities of one row, as many as the last one had."""
        needed = dict.fromkeys(name for name in (self.output, self.probabilities) if name)
        # Empty stands for all: requests that ask for the same need not be told apart.
        self.needed: tuple[str, ...] = () if len(needed) == len(outputs) else tuple(needed)
        """The outputs that predictions are made of, as `InferRequest.outputs` states them."""

    def scores(self, result: InferResult, rows: int) -> Scores | None:
        """The scores of a request's rows; None where the model gives no probabilities or they were not asked for."""
        wanted = self.probabilities
        if not wanted:
            return None
        for tensor in result.outputs:
            if tensor.name == wanted:
                return self._scores(tensor, rows)
        return None

    def class_name(self, index: int) -> str:
        """The name of a class; its index where the version names none."""
        return self.class_names[index] if index < len(self.class_names) else str(index)

    def label(self, output: object) -> str:
        """The class that an output without probabilities names: by its index, where the version has class names."""
        if isinstance(output, int) and not isinstance(output, bool) and 0 <= output < len(self.class_names):
            return self.class_names[output]
        return ""

    def _scores(self, tensor: Tensor, rows: int) -> Scores | None:
        data = tensor.data
        if rows == 1 and self._code:
            one_row = self._one_row
            if one_row.size != len(data):
                one_row = struct.Struct(f"<{len(data) // tensor.data_type.size_bytes}{self._code}")
                self._one_row = one_row
            values = one_row.unpack(data)
            if not values:
                return None
            highest = max(values)
            if not isnan(highest):  # `max` returns NaN only where it comes first, and passes over it elsewhere
                return RowScores((values.index(highest),), (highest,), (values,))
        if not rows or tensor.data_type in (DataType.BYTES, DataType.BOOL):
            return None
        table = as_array(tensor.data_type, data).astype(np.float64, copy=False).reshape(rows, -1)
        if not table.shape[1]:
            return None
        index = table.argmax(axis=1)
        confidence = table[np.arange(rows), index]
        if np.isnan(confidence).any():
            # numpy holds NaN for the largest of all; no class is the most probable by being unknown.
            unknown = np.isnan(table)
            known = np.where(unknown, -np.inf, table)
            index = ((known == known.max(axis=1, keepdims=True)) & ~unknown).argmax(axis=1)
            confidence = table[np.arange(rows), index]
        if rows > _FEW_ROWS:
            return TableScores(table, index, confidence)
        return RowScores(index.tolist(), confidence.tolist(), table.tolist())


def row_values(tensor: Tensor) -> Sequence[object]:
    """The rows of an output tensor as Python values: one value where a row has one element, else a list in row-major
    order. BYTES become text where they are UTF-8. Raises ValueError or struct.error where the bytes are cut short."""
    rows = tensor.shape[0] if tensor.shape else 1
    per_row = prod(tensor.shape[1:])
    values = _readable(tensor)
    if per_row == 1:
        return values
    return [values[row * per_row : (row + 1) * per_row] for row in range(rows)]


def row_bytes(tensor: Tensor) -> list[bytes]:
    """The rows of an output tensor of a type with a fixed size, as bytes. Raises ValueError where there are more or
    fewer bytes than the shape takes."""
    rows = tensor.shape[0] if tensor.shape else 1
    width = prod(tensor.shape[1:]) * tensor.data_type.size_bytes
    data = bytes(tensor.data)
    if len(data) != rows * width:
        raise ValueError(f"output {tensor.name!r} has {len(data)} bytes; shape {tensor.shape} takes {rows * width}")
    return [data] if rows == 1 else [data[row * width : (row + 1) * width] for row in range(rows)]


def integer_writer(
    data_type: DataType, write: Callable[[int], bytes], one_by_one: Callable[[Tensor], Sequence[bytes]]
) -> Callable[[Tensor], Sequence[bytes]]:
    """Writes the rows of a tensor of integers: those that are a number from 0 to 127, as nearly every class index is,
    are found by their bytes; where one is none, `one_by_one` writes them all."""
    known = {pack(data_type, [value]): write(value) for value in range(128)}
    width = data_type.size_bytes

    def written(tensor: Tensor) -> Sequence[bytes]:
        if len(tensor.data) == width:
            one = known.get(bytes(tensor.data))
            if one is not None:
                return (one,)
        rows = [known.get(row) for row in row_bytes(tensor)]
        return one_by_one(tensor) if None in rows else cast("list[bytes]", rows)

    return written


def float_rows(tensor: Tensor) -> Sequence[object]:
    """As `row_values`, with single-precision numbers as numpy scalars, which print with the digits that they have."""
    if tensor.data_type not in (DataType.FP32, DataType.FP16, DataType.BF16):
        return row_values(tensor)
    per_row = prod(tensor.shape[1:])
    values = single_precision(tensor.data_type, tensor.data)
    if per_row == 1:
        return values
    return [values[at : at + per_row] for at in range(0, len(values), per_row)] if per_row else [[]] * tensor.shape[0]


def single_precision(data_type: DataType, data: BytesLike) -> list[object]:
    """The numbers of a tensor as numpy.float32, which prints 0.1 as 0.1; doubles and integers as Python numbers."""
    array = as_array(data_type, data)
    if data_type is DataType.FP64 or not data_type.is_float:
        exact: list[object] = array.tolist()
        return exact
    return list(array.astype(np.float32, copy=False))


def _readable(tensor: Tensor) -> list[Value]:
    if tensor.data_type is DataType.BYTES:
        return [_text(value) for value in unpack(DataType.BYTES, tensor.data)]
    if len(tensor.data) > _STRUCT_VALUES_MAX * tensor.data_type.size_bytes:
        values: list[Value] = as_array(tensor.data_type, tensor.data).tolist()
        return values
    return unpack(tensor.data_type, tensor.data)


def _text(value: Value) -> Value:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value
    return value


def _class_names(named: tuple[str, ...], probabilities: TensorSpec | None) -> tuple[str, ...]:
    count = prod(probabilities.shape) if probabilities is not None and probabilities.shape else 0
    if named or count <= 0:
        return named
    return tuple(str(index) for index in range(count))
