"""A `ModelInferResponse`, written as bytes without protobuf objects: what never changes is kept ready for each version.

A third of an answer's cost was building messages only to serialise them. The message is small and fixed by its proto,
and a property test holds these bytes to what protobuf reads from them.
"""

from collections.abc import Sequence

from services.batcher.domain.request import InferResult, Tensor
from services.batcher.domain.serving import ServedVersion

_METADATA_KEPT_MAX = 256
"""Kept outputs' metadata of one version: a few shapes make up nearly all requests."""
_VARINTS = [bytes((value,)) for value in range(128)]

_MODEL_NAME = b"\x0a"
_MODEL_VERSION = b"\x12"
_ID = b"\x1a"
_OUTPUTS = b"\x2a"
_RAW_OUTPUT_CONTENTS = b"\x32"
_TENSOR_NAME = b"\x0a"
_TENSOR_DATATYPE = b"\x12"
_TENSOR_SHAPE = b"\x1a"


class ResponseWire:
    """Writes the answers of one version."""

    __slots__ = ("_head", "_metadata")

    def __init__(self, served: ServedVersion) -> None:
        self._head = field(_MODEL_NAME, served.model_name.encode()) + field(_MODEL_VERSION, served.version.encode())
        self._metadata: dict[tuple[object, ...], bytes] = {}

    def response(self, result: InferResult, request_id: str) -> bytes:
        """The serialised message, tensors as raw contents."""
        outputs = result.outputs
        key = tuple([(tensor.name, tensor.shape) for tensor in outputs])
        metadata = self._metadata.get(key)
        if metadata is None:
            metadata = b"".join(field(_OUTPUTS, _tensor(tensor)) for tensor in outputs)
            if len(self._metadata) < _METADATA_KEPT_MAX:
                self._metadata[key] = metadata
        parts: list[bytes | memoryview] = [self._head]
        if request_id:
            parts.append(field(_ID, request_id.encode()))
        parts.append(metadata)
        for tensor in outputs:
            data = tensor.data
            size = len(data)
            parts += (_RAW_OUTPUT_CONTENTS, _VARINTS[size] if size < 128 else varint(size), data)
        return b"".join(parts)


def varint(value: int) -> bytes:
    """A non-negative number as protobuf writes it."""
    if value < 128:
        return _VARINTS[value]
    if value < 16384:
        return bytes((value & 127 | 128, value >> 7))
    written = bytearray()
    while value > 127:
        written.append(value & 127 | 128)
        value >>= 7
    written.append(value)
    return bytes(written)


def field(tag: bytes, content: bytes) -> bytes:
    """A field whose content has a length: a text, bytes, a message, packed numbers."""
    return tag + varint(len(content)) + content


def _tensor(tensor: Tensor) -> bytes:
    return (
        field(_TENSOR_NAME, tensor.name.encode())
        + field(_TENSOR_DATATYPE, tensor.data_type.value.encode())
        + (field(_TENSOR_SHAPE, _packed(tensor.shape)) if tensor.shape else b"")
    )


def _packed(values: Sequence[int]) -> bytes:
    return b"".join(varint(value) for value in values)
