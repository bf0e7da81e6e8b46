"""One row's answer as it is stored outside the process: compact, versioned, and nothing but data.

Little-endian: `IMA` and the format's version, the moment of its end in milliseconds since 1970 (8 bytes), the number of
tensors (1), then for each: the length of the name (1), the name, the type (1), the number of dimensions (1), each
dimension (4), the length of the data (4), the data.
"""

import struct
import sys

from services.batcher.domain.request import InferResult, Tensor
from services.batcher.domain.shape import row_bytes_of
from services.common.schema import DataType

_MAGIC = b"IMA\x01"
_HEAD = struct.Struct("<4sQB")
_LENGTH = struct.Struct("<I")
_CODES = {
    DataType.BOOL: 1,
    DataType.UINT8: 2,
    DataType.UINT16: 3,
    DataType.UINT32: 4,
    DataType.UINT64: 5,
    DataType.INT8: 6,
    DataType.INT16: 7,
    DataType.INT32: 8,
    DataType.INT64: 9,
    DataType.FP16: 10,
    DataType.FP32: 11,
    DataType.FP64: 12,
    DataType.BF16: 13,
    DataType.BYTES: 14,
}
_TYPES = {code: data_type for data_type, code in _CODES.items()}
_BYTE_MAX = 255


def encode(answer: InferResult, *, expires_ms: int) -> bytes | None:
    """The stored form; None where a name, or the number of tensors or dimensions, is over 255."""
    if len(answer.outputs) > _BYTE_MAX:
        return None
    parts: list[bytes | memoryview] = [_HEAD.pack(_MAGIC, expires_ms, len(answer.outputs))]
    for tensor in answer.outputs:
        name, shape = tensor.name.encode(), tensor.shape
        if len(name) > _BYTE_MAX or len(shape) > _BYTE_MAX:
            return None
        code = _CODES[tensor.data_type]
        parts += (
            struct.pack(f"<B{len(name)}sBB{len(shape)}II", len(name), name, code, len(shape), *shape, len(tensor.data)),
            tensor.data,
        )
    return b"".join(parts)


def decode(stored: bytes) -> tuple[int, InferResult] | None:
    """When it ends, in milliseconds since 1970, and the answer; None where the bytes are none of this format's."""
    try:
        return _decode(stored)
    except (struct.error, IndexError, KeyError, UnicodeDecodeError):
        return None


def _decode(stored: bytes) -> tuple[int, InferResult] | None:
    magic, expires_ms, count = _HEAD.unpack_from(stored)
    if magic != _MAGIC:
        return None
    at = _HEAD.size
    outputs: list[Tensor] = []
    for _ in range(count):
        end = at + 1 + stored[at]
        # Interned: thousands of entries have the same names.
        name = sys.intern(stored[at + 1 : end].decode())
        data_type, dimensions = _TYPES[stored[end]], stored[end + 1]
        shape = struct.unpack_from(f"<{dimensions}I", stored, end + 2)
        begin = end + 2 + 4 * dimensions + _LENGTH.size
        at = begin + _LENGTH.unpack_from(stored, begin - _LENGTH.size)[0]
        if at > len(stored) or row_bytes_of(data_type, shape) not in (-1, at - begin):
            return None
        outputs.append(Tensor(name, data_type, shape, stored[begin:at]))
    return (expires_ms, InferResult(tuple(outputs))) if at == len(stored) else None
