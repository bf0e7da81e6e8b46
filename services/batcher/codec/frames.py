"""gRPC on the wire: frames, time limits, status trailers.

https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
"""

import base64
import struct
from collections.abc import Iterator

from services.batcher.bridge.messages import Pairs
from services.common.errors import MeshError, Reason
from services.common.grpc.server import MESSAGE_MAX_BYTES
from services.common.grpc.status import STATUS_DETAILS_KEY, status_from_error
from services.common.grpc.trailers import escaped, fitting_details, fitting_message

HEADER_BYTES = 5
"""A flag byte and the length of the message, big-endian."""

_HEADER = struct.Struct(">BI")
_read_header, _pack_header = _HEADER.unpack_from, _HEADER.pack

_UNITS_S = {0x48: 3600.0, 0x4D: 60.0, 0x53: 1.0, 0x6D: 1e-3, 0x75: 1e-6, 0x6E: 1e-9}  # H M S m u n
_TIMEOUT_LENGTH_MAX = 9


def unframe(body: bytes) -> bytes:
    """The message of a unary request's body. Raises MALFORMED_BODY, MESSAGE_TOO_LARGE or NOT_IMPLEMENTED."""
    if len(body) < HEADER_BYTES:
        raise _malformed(f"the body has {len(body)} bytes, less than a frame's header")
    compressed, length = _read_header(body)
    if length != len(body) - HEADER_BYTES:
        check_length(length)
        raise _malformed(f"the frame says {length} bytes and {len(body) - HEADER_BYTES} came; send one message")
    if compressed:
        raise compressed_error()
    return body[HEADER_BYTES:]


def frame(message: bytes) -> bytes:
    """A message as it travels."""
    return _pack_header(0, len(message)) + message


class FrameReader:
    """Cuts a stream of bytes into messages, whatever the pieces in which they come."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The messages that are complete now. Raises as `unframe` does."""
        self._buffer += data
        while len(self._buffer) >= HEADER_BYTES:
            if self._buffer[0]:
                raise compressed_error()
            length = int.from_bytes(self._buffer[1:HEADER_BYTES], "big")
            check_length(length)
            if len(self._buffer) < HEADER_BYTES + length:
                return
            message = bytes(self._buffer[HEADER_BYTES : HEADER_BYTES + length])
            del self._buffer[: HEADER_BYTES + length]
            yield message

    def finish(self) -> None:
        """Raises MALFORMED_BODY where the stream ended in the middle of a message."""
        if self._buffer:
            raise _malformed("the stream ended in the middle of a message")


def check_length(length: int) -> None:
    """Raises MESSAGE_TOO_LARGE beyond 12 MB."""
    if length > MESSAGE_MAX_BYTES:
        raise too_large_error(length)


def too_large_error(length: int) -> MeshError:
    """MESSAGE_TOO_LARGE, with the bound and a way out."""
    return MeshError(
        Reason.MESSAGE_TOO_LARGE,
        f"the request has {length} bytes or more; at most {MESSAGE_MAX_BYTES} are taken: "
        "split the instances over several requests, or submit a batch job",
        metadata={"bytes_max": str(MESSAGE_MAX_BYTES)},
    )


def compressed_error() -> MeshError:
    """NOT_IMPLEMENTED for compressed messages."""
    return MeshError(
        Reason.NOT_IMPLEMENTED, "compressed messages are not taken; send them with grpc-encoding: identity"
    )


def timeout_s(value: bytes) -> float:
    """The seconds in a `grpc-timeout` header. Raises MALFORMED_BODY where it is none."""
    unit = _UNITS_S.get(value[-1]) if 1 < len(value) <= _TIMEOUT_LENGTH_MAX else None
    if unit is None or not value[:-1].isdigit():
        raise _malformed(f"grpc-timeout is {value[:20]!r}; allowed: up to 8 digits and one of H, M, S, m, u, n")
    return int(value[:-1]) * unit


def error_trailers(error: MeshError) -> Pairs:
    """Status, message and google.rpc details of a failure."""
    status = status_from_error(error)
    message = status.message = fitting_message(error.message)
    trailers = [(b"grpc-status", str(int(error.code)).encode()), (b"grpc-message", escaped(message))]
    if error.retry_after_s is not None:
        trailers.append((b"retry-after", str(max(1, round(error.retry_after_s))).encode()))
    trailers.append((STATUS_DETAILS_KEY.encode(), base64.b64encode(fitting_details(status)).rstrip(b"=")))
    return trailers


def _malformed(what: str) -> MeshError:
    return MeshError(Reason.MALFORMED_BODY, what)
