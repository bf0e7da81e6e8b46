"""Requests of different sizes in one batch: rows are filled up to the longest, and what comes back is cut again.

Which sizes may meet is settled by buckets: the sizes of one bucket differ so little that no batch of them can be filled
up by more than the version allows, whoever meets whom. So nobody has to wait for another batch because of the company.

Filling up is bytes joined with bytes: the rows of a request with one variable dimension, which comes first, are slices,
and a request of one row is not even cut. Other shapes go through numpy, whose calls cost more than a short row.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import floor
from struct import Struct

import numpy as np
import numpy.typing as npt

from services.batcher.domain.queue import Waiter
from services.batcher.domain.request import InferRequest, InferResult, Tensor
from services.batcher.domain.rows import Data, text_ends
from services.batcher.domain.serving import Padding
from services.batcher.domain.shape import CallShape, GroupKey, InputShape, call_shape, group_key, row_bytes_of
from services.batcher.domain.tensors import pack
from services.common.schema import DataType, TensorSpec

Sizes = tuple[int, ...]
"""The shape of a row."""

BATCH_BYTES_MAX = 12 * 1024 * 1024
"""The most bytes of a batch that was filled up, unless a single request has more."""
_NUMPY_NAMES = {DataType.BF16: "<u2", DataType.BYTES: "object"}
_LENGTHS = {DataType.INT32: Struct("<i"), DataType.INT64: Struct("<q")}
_EMPTY_TEXT = b"\0\0\0\0"
_EXACT_BELOW = 0.01


class Buckets:
    """Sizes that may meet: those of one bucket differ at most by a factor."""

    __slots__ = ("_ceilings", "_factor")

    def __init__(self, factor: float) -> None:
        self._factor = factor
        self._ceilings = [0]

    def ceiling(self, size: int) -> int:
        """The largest size of the bucket that `size` is in."""
        if self._factor <= 1.0:
            return size
        ceilings = self._ceilings
        while ceilings[-1] < size:
            lowest = ceilings[-1] + 1
            ceilings.append(max(lowest, floor(lowest * self._factor)))
        return ceilings[bisect_left(ceilings, size)]


@dataclass(frozen=True, slots=True)
class _Input:
    """One input of every request of a group."""

    place: int
    """Where the request has it."""
    name: str
    data_type: DataType
    axes: tuple[int, ...]
    """Its variable dimensions, of a row; empty: every row has the same size."""
    fill: bytes
    """One element of what is filled in."""


@dataclass(frozen=True, slots=True)
class Fill:
    """How far a batch was filled up."""

    sent: Sizes
    """The shape of a row of the first input that was filled up."""
    true: list[Sizes]
    """What it was for each member."""


@dataclass(frozen=True, slots=True)
class PaddedBatch:
    """A batch that was filled up."""

    inputs: tuple[InputShape, ...]
    buffers: list[Data]
    sizes: list[int]
    """Bytes of each input."""
    fill: Fill


class PaddingPlan:
    """How the requests of one group are filled up and cut."""

    __slots__ = ("_first", "_inputs", "_lengths", "_trims", "key", "row_bytes", "rows_max", "shape")

    def __init__(self, request: InferRequest, padding: Padding) -> None:
        """`request` stands for all of its group. Raises struct.error or OverflowError where a value that is
        to be filled in does not fit an input."""
        specs = {spec.name: spec for spec in request.served.schema.inputs}
        values = dict(padding.input_values)
        self._inputs = tuple(
            _input(place, tensor, specs.get(tensor.name), values.get(tensor.name, padding.value))
            for place, tensor in enumerate(request.inputs)
            if tensor.name != padding.lengths_input
        )
        ragged = [one for one in self._inputs if one.axes]
        self._first = ragged[0] if ragged else None
        self._lengths = specs.get(padding.lengths_input) if self._first is not None else None
        self.key, twin = _bucketed(request, self._inputs, padding.waste_max)
        """Equal for all requests of the group."""
        self.shape: CallShape = call_shape(twin)
        """With the sizes of the bucket's largest rows."""
        by_place = {one.place: one.axes for one in self._inputs}
        self.row_bytes = tuple(
            -1 if by_place.get(place) else row_bytes_of(tensor.data_type, tensor.shape[1:])
            for place, tensor in enumerate(request.inputs)
        )
        """Bytes of one row of each input that a request has; -1 where they differ."""
        row_bytes = sum(max(0, one.row_bytes) for one in self.shape.inputs)
        self.rows_max = max(1, BATCH_BYTES_MAX // max(1, row_bytes))
        """The most rows of a batch, so that it stays within its bytes however long they are."""
        trimmed = {name for name in padding.trim_outputs if self._first is not None}
        self._trims = tuple(
            (place, axes)
            for place, spec in enumerate(self.shape.outputs)
            if spec.name in trimmed and (axes := _variable(spec))
        )

    def pad(self, members: Sequence[Waiter], rows: int) -> PaddedBatch:
        """The members' rows, filled up to the longest of them, and their lengths where the model is told."""
        inputs: list[InputShape] = []
        buffers: list[Data] = []
        sizes: list[int] = []
        sent: Sizes = ()
        true: list[Sizes] = []
        for one in self._inputs:
            column = [member.inputs[one.place] for member in members]
            shapes = [tensor.shape[1:] for tensor in column]
            longest = shapes[0] if len(set(shapes)) == 1 else tuple(map(max, zip(*shapes, strict=True)))
            before = len(buffers)
            _pad_column(one, column, longest, buffers)
            row_bytes = row_bytes_of(one.data_type, longest)
            inputs.append(InputShape(one.name, one.data_type, longest, row_bytes))
            sizes.append(rows * row_bytes if row_bytes >= 0 else sum(map(len, buffers[before:])))
            if one is self._first:
                sent, true = longest, shapes
        if self._lengths is not None and self._first is not None:
            axis, number = self._first.axes[0], _LENGTHS[self._lengths.data_type]
            inputs.append(InputShape(self._lengths.name, self._lengths.data_type, (1,), number.size))
            sizes.append(rows * number.size)
            buffers += [number.pack(shape[axis]) * member.rows for shape, member in zip(true, members, strict=True)]
        return PaddedBatch(tuple(inputs), buffers, sizes, Fill(sent, true))

    def trim(self, results: Sequence[InferResult], fill: Fill) -> None:
        """Cuts the outputs that are to be cut to each member's own sizes. Raises RowsError where texts do not add
        up."""
        if not self._trims or self._first is None:
            return
        sent = [fill.sent[axis] for axis in self._first.axes]
        for result, shape in zip(results, fill.true, strict=True):
            true = [shape[axis] for axis in self._first.axes]
            if true == sent:
                continue
            outputs = list(result.outputs)
            for place, axes in self._trims:
                outputs[place] = _trimmed(outputs[place], axes, sent, true)
            result.outputs = tuple(outputs)


def _input(place: int, tensor: Tensor, spec: TensorSpec | None, value: float) -> _Input:
    axes = _variable(spec) if spec is not None else ()
    fill = filler(tensor.data_type, value) if axes else b""
    return _Input(place, tensor.name, tensor.data_type, axes, fill)


def _variable(spec: TensorSpec) -> tuple[int, ...]:
    return tuple(axis for axis, size in enumerate(spec.shape) if size < 0)


def filler(data_type: DataType, value: float) -> bytes:
    """One element of what is filled in. Raises struct.error or OverflowError where the value does not fit the type."""
    if data_type is DataType.BYTES:
        return _EMPTY_TEXT
    if data_type is DataType.BOOL:
        return pack(data_type, [bool(value)])
    return pack(data_type, [value if data_type.is_float else int(value)])


def _bucketed(request: InferRequest, inputs: Sequence[_Input], waste_max: float) -> tuple[GroupKey, InferRequest]:
    """The key of all requests that may meet this one, and a request without data that has their largest sizes."""
    factor = 1.0 if waste_max < _EXACT_BELOW else 1.0 / (1.0 - waste_max)
    tensors = []
    for one in inputs:
        row_shape = list(request.inputs[one.place].shape[1:])
        if one.axes:
            buckets = Buckets(factor ** (1.0 / len(one.axes)))
            for axis in one.axes:
                row_shape[axis] = buckets.ceiling(row_shape[axis])
        tensors.append(Tensor(one.name, one.data_type, (0, *row_shape), b""))
    twin = replace(request, inputs=tuple(tensors))
    names = tuple(tensor.name for tensor in request.inputs)  # Whether the lengths are sent too: they shift the others.
    return ("padded", names, *group_key(twin)), twin


def _pad_column(one: _Input, column: Sequence[Tensor], longest: Sizes, buffers: list[Data]) -> None:
    simple = one.axes == (0,)
    each = 1
    if simple:
        for size in longest[1:]:
            each *= size
    for tensor in column:
        rows, data = tensor.shape[0], tensor.data
        missing = longest[0] - tensor.shape[1] if simple else 0
        if tensor.shape[1:] == longest:
            buffers.append(data)
        elif not simple:
            buffers.append(_padded(tensor, longest, one.fill))
        elif rows == 1:
            buffers.append(data)
            buffers.append(one.fill * (missing * each))
        else:
            fill = one.fill * (missing * each)
            for piece in _rows(tensor):
                buffers.append(piece)
                buffers.append(fill)


def _rows(tensor: Tensor) -> list[Data]:
    """The bytes of each row."""
    rows, data = tensor.shape[0], tensor.data
    if tensor.data_type is DataType.BYTES:
        each = 1
        for size in tensor.shape[1:]:
            each *= size
        ends = text_ends(tensor.name, data, rows * each)
        return [data[ends[row * each] : ends[(row + 1) * each]] for row in range(rows)]
    width = len(data) // rows
    return [data[at : at + width] for at in range(0, rows * width, width)] if width else [b""] * rows


def _padded(tensor: Tensor, longest: Sizes, fill: bytes) -> bytes:
    """Any number of variable dimensions."""
    elements = _elements(tensor)
    element = fill if tensor.data_type is DataType.BYTES else np.frombuffer(fill, elements.dtype)[0]
    whole = np.empty((tensor.shape[0], *longest), elements.dtype)
    whole.fill(element)  # Not np.full, which takes the zeros off the end of bytes.
    whole[tuple(slice(0, size) for size in tensor.shape)] = elements
    return _joined(whole, tensor.data_type)


def _trimmed(tensor: Tensor, axes: Sequence[int], sent: Sequence[int], true: Sequence[int]) -> Tensor:
    """The output, cut where its variable dimensions have the size that was sent."""
    row_shape = list(tensor.shape[1:])
    for axis, filled, own in zip(axes, sent, true, strict=False):
        if row_shape[axis] == filled:
            row_shape[axis] = own
    shape = (tensor.shape[0], *row_shape)
    if shape == tensor.shape:
        return tensor
    numbers = tensor.data_type is not DataType.BYTES
    if numbers and row_shape[1:] == list(tensor.shape[2:]):
        width = row_bytes_of(tensor.data_type, tuple(row_shape))
        if tensor.shape[0] == 1:
            return Tensor(tensor.name, tensor.data_type, shape, tensor.data[:width])
        return Tensor(tensor.name, tensor.data_type, shape, b"".join([row[:width] for row in _rows(tensor)]))
    cut = _elements(tensor)[tuple(slice(0, size) for size in shape)]
    return Tensor(tensor.name, tensor.data_type, shape, _joined(cut, tensor.data_type))


def _elements(tensor: Tensor) -> "npt.NDArray[np.generic]":
    """As an array; texts with the length before each."""
    data, data_type = tensor.data, tensor.data_type
    if data_type is not DataType.BYTES:
        return np.frombuffer(data, _NUMPY_NAMES.get(data_type) or data_type.numpy_name).reshape(tensor.shape)
    count = 1
    for size in tensor.shape:
        count *= size
    ends = text_ends(tensor.name, data, count)
    texts = np.empty(count, object)
    texts[:] = [bytes(data[at:end]) for at, end in pairwise(ends)]
    return texts.reshape(tensor.shape)


def _joined(elements: "npt.NDArray[np.generic]", data_type: DataType) -> bytes:
    return b"".join(elements.ravel().tolist()) if data_type is DataType.BYTES else elements.tobytes()
