"""What makes two rows the same to a model: the digest by which a prediction is cached.

A row's digest is SHA-256 over the digest of all that its request has in common with others (`common_digest`) and the
row's own bytes. Both are framed so that different contents never have the same bytes: every field of the first is
preceded by its length, and the second is as long as the first says, or says its length where texts differ. So neither
a redeployed artifact, nor another team, version, type, shape, output or parameter can be answered from an entry that is
not its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from services.batcher.domain.request import InferRequest, Parameter, Tensor
from services.batcher.domain.rows import Data, RowsError, text_ends
from services.batcher.domain.shape import row_bytes_of
from services.common.schema import DataType

_FORMAT = b"infermesh prediction 1"
"""Changes whenever what is digested, or how, changes."""
_KINDS: dict[type, bytes] = {str: b"s", int: b"i", float: b"f", bool: b"b"}

CacheKey = bytes
"""32 bytes of SHA-256."""


@dataclass(frozen=True, slots=True)
class CachedRows:
    """The rows of a request, each as one piece of bytes for every input, and by what it is cached."""

    keys: tuple[CacheKey, ...]
    columns: tuple[tuple[Data, ...], ...]
    """For each input, in its order, the data of each row."""


def redis_key(model_name: str, version: str, key: CacheKey) -> str:
    """The key in Redis: `pred:{model}:{version}:{input_hash}`."""
    return f"pred:{model_name}:{version}:{key.hex()}"


def common_key(request: InferRequest) -> tuple[object, ...]:
    """Equal for requests with the same `common_bytes` and for no others, and quicker to make."""
    served, parameters = request.served, request.parameters
    return (
        served.model_name,
        served.version,
        served.artifact_digest,
        served.deployment_name,
        request.tenant,
        tuple([(tensor.name, tensor.data_type, tensor.shape[1:]) for tensor in request.inputs]),
        request.outputs,
        # By their text, because True, 1 and 1.0 are equal to Python and not to a model.
        repr(parameters) if parameters else "",
    )


def common_bytes(request: InferRequest) -> bytes:
    """Everything of a request but its rows, unambiguous."""
    served = request.served
    fields = [
        _FORMAT,
        served.model_name.encode(),
        served.version.encode(),
        served.artifact_digest.encode(),
        served.deployment_name.encode(),
        request.tenant.encode(),
        _framed([_signature(tensor) for tensor in request.inputs]),
        _framed([name.encode() for name in request.outputs]),
        _framed([_framed([name.encode(), *_value(value)]) for name, value in request.parameters]),
    ]
    return _framed(fields)


def common_digest(request: InferRequest) -> bytes:
    """SHA-256 of `common_bytes`: the same for all requests of one group and team."""
    return sha256(common_bytes(request)).digest()


def row_keys(common: bytes, request: InferRequest) -> CachedRows:
    """The rows of a request, which has at least one input, and their digests. `common` is its `common_digest`.

    Raises RowsError where a tensor's size is not what its shape, or the lengths within it, say.
    """
    columns = tuple([_rows(tensor, request.rows) for tensor in request.inputs])
    if len(columns) == 1 and request.inputs[0].data_type is not DataType.BYTES:
        return CachedRows(tuple([sha256(common + row).digest() for row in columns[0]]), columns)
    framed = [
        column if tensor.data_type is not DataType.BYTES else [_framed_text(row) for row in column]
        for tensor, column in zip(request.inputs, columns, strict=True)
    ]
    return CachedRows(tuple([sha256(b"".join((common, *row))).digest() for row in zip(*framed, strict=True)]), columns)


def _rows(tensor: Tensor, rows: int) -> tuple[Data, ...]:
    data = tensor.data
    if tensor.data_type is DataType.BYTES:
        each = 1
        for size in tensor.shape[1:]:
            each *= size
        ends = text_ends(tensor.name, data, rows * each)
        return tuple([bytes(data[ends[row * each] : ends[(row + 1) * each]]) for row in range(rows)])
    width = row_bytes_of(tensor.data_type, tensor.shape[1:])
    if len(data) != rows * width:
        raise RowsError(f"{tensor.name!r} has {len(data)} bytes; {rows * width} fit its shape")
    if rows == 1:
        return (data,)
    return tuple([data[at : at + width] for at in range(0, rows * width, width)] if width else [b""] * rows)


def _signature(tensor: Tensor) -> bytes:
    shape = [str(size).encode() for size in tensor.shape[1:]]
    return _framed([tensor.name.encode(), tensor.data_type.value.encode(), *shape])


def _value(value: Parameter) -> tuple[bytes, bytes]:
    # The kind too: True, 1 and 1.0 are equal to Python and not to a model.
    return _KINDS[type(value)], (value if isinstance(value, str) else repr(value)).encode()


def _framed(fields: Sequence[Data]) -> bytes:
    """The fields, each behind its length, behind their number."""
    parts: list[Data] = [len(fields).to_bytes(4, "little")]
    for field in fields:
        parts += (len(field).to_bytes(8, "little"), field)
    return b"".join(parts)


def _framed_text(row: Data) -> bytes:
    return len(row).to_bytes(8, "little") + row
