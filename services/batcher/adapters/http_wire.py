"""As much of HTTP/1.1 as one model server speaks: responses with a Content-Length, in whatever pieces they come.

Anything else is refused rather than guessed: a body whose end is uncertain would shift every answer after it.
"""

from typing import NamedTuple

_END = b"\r\n\r\n"
_HEAD_BYTES_MAX = 64 * 1024
_LENGTH_DIGITS_MAX = 12


class GarbledError(Exception):
    """What came is not what this client understands. The text says why."""


class Response(NamedTuple):
    """A whole response."""

    status: int
    header_length: int | None
    """Bytes of the JSON part of the body; None where the body is one part."""
    body: memoryview
    keep_alive: bool


class _Head(NamedTuple):
    status: int
    length: int
    header_length: int | None
    keep_alive: bool


class ResponseParser:
    """Reads one response after another off one connection."""

    __slots__ = ("_body_bytes_max", "_chunks", "_head", "_known", "_known_head", "_missing", "_pending")

    def __init__(self, *, body_bytes_max: int) -> None:
        self._body_bytes_max = body_bytes_max
        self._head: _Head | None = None
        self._chunks: list[bytes] = []
        self._missing = 0
        self._pending = b""
        # Answers to batches of one size have one head: it is read once.
        self._known = b""
        self._known_head: _Head | None = None

    @property
    def untouched(self) -> bool:
        """Whether nothing of the next response has come."""
        return self._head is None and not self._pending

    def feed(self, data: bytes) -> Response | None:
        """The response that is complete with `data`; None while it is not. Raises GarbledError."""
        head = self._head
        if head is not None:
            self._chunks.append(data)
            self._missing -= len(data)
            if self._missing > 0:
                return None
            body = b"".join(self._chunks)
            self._chunks, self._head = [], None
            return self._whole(head, memoryview(body))
        if self._pending:
            data = self._pending + data
        end = data.find(_END)
        while end >= 0:
            head = self._read(data[:end])
            if head.status >= 200:
                break
            # An interim response (100 Continue): the real one follows.
            data, head = data[end + 4 :], None
            end = data.find(_END)
        if head is None:
            if len(data) > _HEAD_BYTES_MAX:
                raise GarbledError(f"the head of a response is longer than {_HEAD_BYTES_MAX} bytes")
            self._pending = data
            return None
        self._pending = b""
        body_start = end + 4
        missing = head.length - (len(data) - body_start)
        if missing <= 0:
            return self._whole(head, memoryview(data)[body_start:])
        self._head, self._missing = head, missing
        self._chunks.append(data[body_start:])
        return None

    def _whole(self, head: _Head, body: memoryview) -> Response:
        if len(body) > head.length:
            raise GarbledError(f"{len(body) - head.length} bytes follow a response that nobody asked for")
        if head.header_length is not None and head.header_length > head.length:
            raise GarbledError(f"the JSON part has {head.header_length} bytes of a body of {head.length}")
        return Response(head.status, head.header_length, body, head.keep_alive)

    def _read(self, raw: bytes) -> _Head:
        if raw == self._known and self._known_head is not None:
            return self._known_head
        head = read_head(raw)
        if head.length > self._body_bytes_max:
            raise GarbledError(f"the body has {head.length} bytes; {self._body_bytes_max} are allowed")
        self._known, self._known_head = raw, head
        return head


def read_head(raw: bytes) -> _Head:
    """Status line and headers, without the empty line behind them. Raises GarbledError."""
    first, *lines = raw.split(b"\r\n")
    version, _, rest = first.partition(b" ")
    status = rest[:3]
    if version not in (b"HTTP/1.1", b"HTTP/1.0") or len(status) != 3 or not status.isdigit():
        raise GarbledError(f"a response begins with {first[:80]!r}")
    keep_alive = version == b"HTTP/1.1"
    length: int | None = None
    header_length: int | None = None
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon:
            raise GarbledError(f"{line[:80]!r} is no header")
        match name.lower():
            case b"content-length":
                found = _number(value)
                if length not in (None, found):
                    raise GarbledError("two different content-lengths")
                length = found
            case b"inference-header-content-length":
                header_length = _number(value)
            case b"transfer-encoding":
                raise GarbledError(f"the body is sent as {value.strip()[:40]!r}, not with a content-length")
            case b"connection":
                keep_alive = value.strip().lower() != b"close"
    code = int(status)
    if code < 200 or code in (204, 304):
        length = 0
    if length is None:
        raise GarbledError("there is no content-length")
    return _Head(code, length, header_length, keep_alive)


def _number(value: bytes) -> int:
    text = value.strip()
    if not text.isdigit() or len(text) > _LENGTH_DIGITS_MAX:
        raise GarbledError(f"{value[:40]!r} is no length")
    return int(text)
