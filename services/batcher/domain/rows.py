"""Rows as bytes: requests are joined, split and checked without decoding a value.

Tensors are row-major, so the rows of a fixed-size type are equal slices; those of BYTES are found by walking from
length to length, once. Slices of small rows are copies, because a view would keep the whole batch alive for as long as
one caller keeps its rows, and costs more to make.
"""

from collections.abc import Sequence
from itertools import accumulate
from struct import Struct

from services.batcher.domain.queue import Waiter
from services.batcher.domain.request import InferResult, Tensor
from services.batcher.domain.shape import CallShape, row_bytes_of
from services.common.schema import DataType, TensorSpec

Data = bytes | memoryview

_LENGTH = Struct("<I")
_COPY_BYTES_MAX = 16 * 1024
"""Rows up to this size are copied out of the answer, larger ones are views of it."""


class RowsError(Exception):
    """Tensors that are not what they claim to be. The text says which and why."""


def gather(shape: CallShape, members: Sequence[Waiter], rows: int) -> tuple[list[Data], list[int]]:
    """The members' data, tensor after tensor, to be joined in one go; and each tensor's size in bytes."""
    inputs = shape.inputs
    if len(inputs) == 1:
        buffers: list[Data] = [member.inputs[0].data for member in members]
        return buffers, [rows * inputs[0].row_bytes if inputs[0].row_bytes >= 0 else sum(map(len, buffers))]
    buffers, sizes = [], []
    for index, one in enumerate(inputs):
        column = [member.inputs[index].data for member in members]
        sizes.append(rows * one.row_bytes if one.row_bytes >= 0 else sum(map(len, column)))
        buffers += column
    return buffers, sizes


def split_inputs(inputs: tuple[Tensor, ...], rows: int, rows_max: int) -> list[tuple[int, tuple[Tensor, ...]]]:
    """A request cut into parts of at most `rows_max` rows: (rows, inputs) of each, in order."""
    counts = [min(rows_max, rows - at) for at in range(0, rows, rows_max)]
    columns = [_cut(tensor, counts, rows) for tensor in inputs]
    return [(count, tuple(column[index] for column in columns)) for index, count in enumerate(counts)]


def join_results(parts: Sequence[InferResult]) -> InferResult:
    """The parts of a split request, put together again. Raises RowsError where their rows differ in shape."""
    joined = []
    for column in zip(*(part.outputs for part in parts), strict=True):
        first = column[0]
        if any(tensor.shape[1:] != first.shape[1:] for tensor in column):
            shapes = sorted({tensor.shape[1:] for tensor in column})
            raise RowsError(f"output {first.name!r} has rows of the shapes {shapes} for parts of one request")
        shape = (sum(tensor.shape[0] for tensor in column), *first.shape[1:])
        joined.append(Tensor(first.name, first.data_type, shape, b"".join([tensor.data for tensor in column])))
    return InferResult(tuple(joined))


def empty_result(shape: CallShape) -> InferResult:
    """What a request without rows gets; dimensions of any size are 0."""
    return InferResult(tuple(_no_rows(spec) for spec in shape.outputs))


def check_outputs(shape: CallShape, outputs: Sequence[Tensor], rows: int) -> Sequence[Tensor]:
    """What was asked for, in that order, out of a backend's answer to `rows` rows.

    Raises RowsError where a tensor is missing, of another type or shape than the schema promises, of another number of
    rows, or of a size that does not fit its shape.
    """
    wanted: Sequence[Tensor] = outputs
    specs = shape.outputs
    if specs:
        if len(specs) > 1 or len(outputs) != 1 or outputs[0].name != specs[0].name:
            named = {tensor.name: tensor for tensor in outputs}
            try:
                wanted = [named[spec.name] for spec in specs]
            except KeyError as error:
                raise RowsError(f"output {error.args[0]!r} is missing; there is: {', '.join(sorted(named))}") from None
        for tensor, spec in zip(wanted, specs, strict=True):
            if tensor.data_type is not spec.data_type:
                raise RowsError(f"output {spec.name!r} is {tensor.data_type}; the schema says {spec.data_type}")
            row_shape = tensor.shape[1:]
            if row_shape != spec.shape and not _fits(row_shape, spec.shape):
                raise RowsError(f"output {spec.name!r} has rows of shape {row_shape}; the schema says {spec.shape}")
    for tensor in wanted:
        if not tensor.shape or tensor.shape[0] != rows:
            raise RowsError(f"output {tensor.name!r} has shape {tensor.shape} for {rows} rows")
        row_bytes = row_bytes_of(tensor.data_type, tensor.shape[1:])
        if row_bytes >= 0 and len(tensor.data) != rows * row_bytes:
            raise RowsError(f"output {tensor.name!r} has {len(tensor.data)} bytes; {rows * row_bytes} fit its shape")
    return wanted


def split_outputs(outputs: Sequence[Tensor], counts: Sequence[int], rows: int) -> list[InferResult]:
    """Each member's rows; `counts` has each one's number, which add up to `rows`. Outputs were checked."""
    if len(counts) == 1 and DataType.BYTES not in [tensor.data_type for tensor in outputs]:
        return [InferResult(tuple(outputs))]
    columns = [_cut(tensor, counts, rows) for tensor in outputs]
    if len(columns) == 1:
        return [InferResult((tensor,)) for tensor in columns[0]]
    if not columns:
        return [InferResult(()) for _ in counts]
    return [InferResult(mine) for mine in zip(*columns, strict=True)]


def _no_rows(spec: TensorSpec) -> Tensor:
    return Tensor(spec.name, spec.data_type, (0, *(max(0, size) for size in spec.shape)), b"")


def _fits(row_shape: tuple[int, ...], promised: tuple[int, ...]) -> bool:
    return len(row_shape) == len(promised) and all(
        size in (has, -1) for has, size in zip(row_shape, promised, strict=True)
    )


def _cut(tensor: Tensor, counts: Sequence[int], rows: int) -> list[Tensor]:
    """One tensor in pieces of `counts` rows."""
    name, data_type, shape, data = tensor.name, tensor.data_type, tensor.shape, tensor.data
    row_shape = shape[1:]
    if data_type is DataType.BYTES:
        return _cut_text(tensor, counts, rows)
    if len(counts) == 1:
        return [tensor]
    width = len(data) // rows
    if width * rows <= _COPY_BYTES_MAX or width <= _COPY_BYTES_MAX // 16:
        data = bytes(data)
    elif not isinstance(data, memoryview):
        data = memoryview(data)
    if rows == len(counts) and width:
        single = (1, *row_shape)
        return [Tensor(name, data_type, single, data[at : at + width]) for at in range(0, rows * width, width)]
    pieces = []
    at = 0
    for count in counts:
        end = at + count * width
        pieces.append(Tensor(name, data_type, (count, *row_shape), data[at:end]))
        at = end
    return pieces


def _cut_text(tensor: Tensor, counts: Sequence[int], rows: int) -> list[Tensor]:
    each = 1
    for size in tensor.shape[1:]:
        each *= size
    ends = text_ends(tensor.name, tensor.data, rows * each)
    pieces = []
    data = tensor.data if isinstance(tensor.data, memoryview) else memoryview(tensor.data)
    at = 0
    for row_end, count in zip(accumulate(counts), counts, strict=True):
        end = ends[row_end * each]
        piece: Data = data[at:end]
        if end - at <= _COPY_BYTES_MAX:
            piece = bytes(piece)
        pieces.append(Tensor(tensor.name, tensor.data_type, (count, *tensor.shape[1:]), piece))
        at = end
    return pieces


def text_ends(name: str, data: Data, elements: int) -> list[int]:
    """Where each element of a BYTES tensor ends, after a leading 0: `elements` + 1 offsets.

    Raises RowsError where the lengths in `data` do not add up to its size.
    """
    ends = [0]
    at, size = 0, len(data)
    unpack = _LENGTH.unpack_from
    for _ in range(elements):
        if at + 4 > size:
            raise RowsError(f"{name!r} ends in the middle of its {elements} texts")
        at += 4 + unpack(data, at)[0]
        ends.append(at)
    if at != size:
        raise RowsError(f"{name!r} has {size} bytes; the lengths of its {elements} texts add up to {at}")
    return ends
