"""Elements of tensors between Python values and the bytes of the Open Inference Protocol.

Row-major, little-endian. Each element of BYTES is preceded by its 4-byte little-endian length. `struct` packs the
numbers: unlike numpy it refuses what does not fit instead of wrapping it around.
"""

import struct
from collections.abc import Iterable, Sequence
from math import prod

import numpy as np
import numpy.typing as npt

from services.common.schema import DataType, TensorSpec

Value = bool | int | float | str | bytes
"""One element, as JSON or a typed feature states it."""

BytesLike = bytes | memoryview

STRUCT_CODES = {
    DataType.BOOL: "?",
    DataType.UINT8: "B",
    DataType.UINT16: "H",
    DataType.UINT32: "I",
    DataType.UINT64: "Q",
    DataType.INT8: "b",
    DataType.INT16: "h",
    DataType.INT32: "i",
    DataType.INT64: "q",
    DataType.FP16: "e",
    DataType.FP32: "f",
    DataType.FP64: "d",
}
"""The letter by which `struct` knows each type; BF16 and BYTES have none."""

_DTYPES = {item: np.dtype(item.numpy_name) for item in STRUCT_CODES}
"""Kept, because numpy takes its time to read a type's name."""
_FP32_INFINITY = 0x7F800000
_BF16_INFINITY = 0x7F80
_FLOAT_KINDS: frozenset[type] = frozenset({int, float})
_INTEGER_KINDS: frozenset[type] = frozenset({int})
_BOOL_KINDS: frozenset[type] = frozenset({bool})
_BYTES_KINDS: frozenset[type] = frozenset({str, bytes})


def kinds_of(data_type: DataType) -> frozenset[type]:
    """The exact Python types of values that `pack` may take as they are, where their size fits."""
    if data_type is DataType.BOOL:
        return _BOOL_KINDS
    if data_type is DataType.BYTES:
        return _BYTES_KINDS
    # `bool` is an `int` to isinstance, but not here: true is no number.
    return _FLOAT_KINDS if data_type.is_float else _INTEGER_KINDS


def pack(data_type: DataType, values: Sequence[Value]) -> bytes:
    """The bytes of the elements. Raises struct.error, OverflowError or TypeError where one does not fit the type."""
    code = STRUCT_CODES.get(data_type)
    if code is not None:
        return struct.pack(f"<{len(values)}{code}", *values)
    if data_type is DataType.BF16:
        return _bfloat16(struct.pack(f"<{len(values)}f", *values))
    return pack_bytes(value.encode() if isinstance(value, str) else _as_bytes(value) for value in values)


def pack_bytes(values: Iterable[bytes]) -> bytes:
    """BYTES elements, each behind its length."""
    parts: list[bytes] = []
    for value in values:
        parts += (len(value).to_bytes(4, "little"), value)
    return b"".join(parts)


def unpack(data_type: DataType, data: BytesLike) -> list[Value]:
    """The elements in `data`. BYTES come as `bytes`. Raises struct.error or ValueError where `data` is cut short."""
    code = STRUCT_CODES.get(data_type)
    if code is not None:
        return list(struct.unpack(f"<{len(data) // data_type.size_bytes}{code}", data))
    if data_type is DataType.BF16:
        return [float(value) for value in as_array(data_type, data)]
    return list(split_bytes(data))


def split_bytes(data: BytesLike) -> list[bytes]:
    """The elements of a BYTES tensor. Raises ValueError where a length points beyond the end."""
    view = memoryview(data)
    elements: list[bytes] = []
    at, end = 0, len(view)
    while at < end:
        start = at + 4
        stop = start + int.from_bytes(view[at:start], "little")
        if start > end or stop > end:
            raise ValueError(f"element {len(elements)} ends at byte {stop} of {end}")
        elements.append(bytes(view[start:stop]))
        at = stop
    return elements


def as_array(data_type: DataType, data: BytesLike) -> "npt.NDArray[np.generic]":
    """A numeric tensor's elements as a flat numpy array; BF16 as float32. Not for BYTES."""
    if data_type is DataType.BF16:
        return (np.frombuffer(data, "<u2").astype(np.uint32) << np.uint32(16)).view(np.float32)
    return np.frombuffer(data, _DTYPES[data_type])


def shape_text(spec: TensorSpec) -> str:
    """A feature's type for people: "FP32", "FP32[64]", "INT64[any,3]"."""
    if not spec.shape:
        return spec.data_type.value
    return f"{spec.data_type.value}[{','.join('any' if size < 0 else str(size) for size in spec.shape)}]"


def count_of(shape: Sequence[int]) -> int:
    """Elements of a row of this shape; -1 where a dimension is open."""
    return -1 if any(size < 0 for size in shape) else prod(shape)


def _as_bytes(value: Value) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError(f"{value!r} is neither text nor bytes")
    return value


def _bfloat16(singles: bytes) -> bytes:
    # Round to nearest, ties to even, as hardware does; NaN keeps a payload bit so that it does not become infinity.
    bits = np.frombuffer(singles, "<u4")
    rounded = ((bits.astype(np.uint64) + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
    magnitude = bits & 0x7FFFFFFF
    is_nan = magnitude > _FP32_INFINITY
    if ((rounded & 0x7FFF == _BF16_INFINITY) & (magnitude < _FP32_INFINITY)).any():
        raise OverflowError("float too large for bfloat16")
    return np.where(is_nan, ((bits >> 16) | 0x40).astype("<u2"), rounded).astype("<u2").tobytes()
