"""Sampled rows as columns: which features and outputs of a version are followed for drift, and their values.

Tensors with more elements a row than `COLUMNS_MAX` are not: a pixel says nothing of an image. An output that is a class
is a category, probabilities are a number, the largest one; everything else is what its type says.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import nan, prod

import numpy as np

from services.batcher.domain.outputs import OutputPlan
from services.batcher.domain.request import Tensor
from services.batcher.domain.row_labels import TEXT_LENGTH_MAX, has_classes
from services.batcher.domain.serving import ServedVersion
from services.batcher.domain.tensors import Value, as_array, split_bytes
from services.common.schema import DataType, TensorSpec

COLUMNS_MAX = 1024
"""Of a version: what the monitor takes."""
TENSOR_BYTES_MAX = 1024 * 1024
"""Larger tensors are not held for a sample."""


@dataclass(slots=True)
class SampledRow:
    """One row of one request."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    row: int
    class_index: int = -1
    """The most probable class; -1 without probabilities."""
    confidence: float = nan


@dataclass(slots=True)
class Column:
    """One feature or output; one of the two has a value for each row. NaN and None are missing ones."""

    name: str
    output: bool
    numbers: list[float] = field(default_factory=list)
    categories: list[str | None] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Followed:
    name: str
    output: bool
    category: bool
    elements: int

    def column_names(self) -> Iterator[str]:
        if self.elements == 1:
            yield self.name
        else:
            yield from (f"{self.name}[{at}]" for at in range(self.elements))


class ColumnPlan:
    """What is followed of one version."""

    __slots__ = ("_class_output", "_followed", "_outputs", "_probabilities")

    def __init__(self, served: ServedVersion, outputs: OutputPlan) -> None:
        self._outputs = outputs
        self._probabilities = outputs.probabilities
        self._class_output = outputs.output if has_classes(outputs) else ""
        """The output that is a class."""
        self._followed = tuple(self._fitting(served))

    def columns(self, rows: Sequence[SampledRow], redacted: frozenset[str] = frozenset()) -> list[Column]:
        """All that is followed, of these rows, without outputs that are `redacted`."""
        columns: list[Column] = []
        for one in self._followed:
            if one.output and one.name in redacted:
                continue
            held = [(_named(row.outputs if one.output else row.inputs, one.name), row.row) for row in rows]
            table = None if one.category else _table(held, one.elements)
            if table is not None:
                columns += [
                    Column(name, one.output, numbers=numbers)
                    for name, numbers in zip(one.column_names(), table, strict=True)
                ]
                continue
            made = [Column(name, one.output) for name in one.column_names()]
            for tensor, row_index in held:
                _append(made, one.category, one.elements, tensor, row_index)
            columns += made
        if self._class_output and self._class_output not in redacted:
            columns.append(Column(self._class_output, output=True, categories=[self._class(row) for row in rows]))
        if self._probabilities and self._probabilities not in redacted:
            columns.append(Column(self._probabilities, output=True, numbers=[row.confidence for row in rows]))
        return columns

    def confidences(self, rows: Sequence[SampledRow], redacted: frozenset[str] = frozenset()) -> Sequence[float]:
        """How sure it was of each row; nothing where it has no probabilities, or they are redacted."""
        if rows[0].class_index < 0 or self._probabilities in redacted:
            return ()
        return [row.confidence for row in rows]

    def _fitting(self, served: ServedVersion) -> Iterator[_Followed]:
        left = COLUMNS_MAX - 2
        for output, specs in ((False, served.schema.inputs), (True, served.schema.outputs)):
            for spec in specs:
                elements = prod(spec.shape) if all(size > 0 for size in spec.shape) else 0
                if output and spec.name in (self._class_output, self._probabilities):
                    continue
                if 0 < elements <= left:
                    left -= elements
                    yield _Followed(spec.name, output, _is_category(spec), elements)

    def _class(self, row: SampledRow) -> str | None:
        if row.class_index >= 0:
            return self._outputs.class_name(row.class_index)
        tensor = _named(row.outputs, self._class_output)
        values = _values(tensor, row.row, 1) if tensor is not None else None
        if not values:
            return None
        return self._outputs.label(values[0]) or _text(values[0])


def small(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Those that may be held for a sample."""
    return tuple(tensor for tensor in tensors if len(tensor.data) <= TENSOR_BYTES_MAX)


def _named(tensors: Sequence[Tensor], name: str) -> Tensor | None:
    return next((tensor for tensor in tensors if tensor.name == name), None)


def _is_category(spec: TensorSpec) -> bool:
    return bool(spec.categories) or spec.data_type in (DataType.BYTES, DataType.BOOL)


def _table(held: Sequence[tuple[Tensor | None, int]], elements: int) -> list[list[float]] | None:
    """The numbers of all rows, column by column, in one go; None where a row has not as many as the schema says."""
    first = held[0][0]
    if first is None or not first.data_type.size_bytes:
        return None
    width = first.data_type.size_bytes * elements
    parts = [
        tensor.data[row * width : (row + 1) * width]
        for tensor, row in held
        if tensor is not None and tensor.data_type is first.data_type
    ]
    if len(parts) < len(held) or any(len(part) != width for part in parts):
        return None
    numbers = as_array(first.data_type, b"".join(parts)).astype(np.float64, copy=False)
    columns: list[list[float]] = numbers.reshape(len(parts), elements).T.tolist()
    return columns


def _append(columns: Sequence[Column], category: bool, elements: int, tensor: Tensor | None, row: int) -> None:
    values = _values(tensor, row, elements) if tensor is not None else None
    for at, column in enumerate(columns):
        value = values[at] if values is not None else None
        if category:
            column.categories.append(None if value is None else _text(value))
        else:
            column.numbers.append(float(value) if isinstance(value, int | float) else nan)


def _values(tensor: Tensor, row: int, elements: int) -> Sequence[Value] | None:
    """The row's values; None where the tensor has others than the schema says."""
    if tensor.data_type is DataType.BYTES:
        values: Sequence[Value] = split_bytes(tensor.data)[row * elements : (row + 1) * elements]
    else:
        width = tensor.data_type.size_bytes * elements
        values = as_array(tensor.data_type, tensor.data[row * width : (row + 1) * width]).tolist()
    return values if len(values) == elements else None


def _text(value: Value) -> str:
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return text[:TEXT_LENGTH_MAX]
