"""The client's half of HTTP/2 for one request sent again and again: bytes in, bytes out, no sockets.

RFC 9113 and RFC 7541. A general library in Python takes some 200 µs for a request; all but the number of the stream is
the same each time, so it is written once here and then only patched. Answers are not decoded: a gRPC answer that
succeeded has a message, and one that failed has trailers alone.
"""

import struct
from collections import deque
from collections.abc import Sequence

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEAD = struct.Struct(">HBBBI")
"""A frame's head: length in two parts, type, flags, stream."""
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
_STREAMS_MAX, _INITIAL_WINDOW = 3, 4
_WINDOW_MAX = 2**31 - 1
_WINDOW_DEFAULT = 65_535
_BODY_MAX = 16_384
"""The largest frame that every server takes; and no larger than the window that a new stream has."""
_FIRST_DYNAMIC_INDEX = 62


class PeerError(Exception):
    """The server broke the connection off or does not speak HTTP/2; the message says which."""


class Connection:
    """One connection. `send` and `receive` keep `outgoing`, which whoever has the socket empties."""

    def __init__(self, headers: Sequence[tuple[str, str]], body: bytes) -> None:
        if not 0 < len(body) <= _BODY_MAX:
            raise ValueError(f"a body of {len(body)} bytes is not within 1 to {_BODY_MAX}")
        self.outgoing = bytearray(_PREFACE)
        self.outgoing += frame(_SETTINGS, 0, 0, struct.pack(">HI", _INITIAL_WINDOW, _WINDOW_MAX))
        self.outgoing += frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", _WINDOW_MAX - _WINDOW_DEFAULT))
        self._first, self._block = header_blocks(headers)
        self._body = body
        self._next_stream = 1
        self._window = _WINDOW_DEFAULT
        self._streams_max = 100
        self._waiting: deque[int] = deque()
        self._open: dict[int, tuple[int, bool]] = {}
        """By stream: which request it is, and whether a message of its answer has come."""
        self._incoming = b""

    def send(self, request: int) -> None:
        """Sends the request, or keeps it until the server lets another one come."""
        if self._waiting or len(self._open) >= self._streams_max or self._window < len(self._body):
            self._waiting.append(request)
        else:
            self._submit(request)

    def receive(self, data: bytes) -> list[tuple[int, bool]]:
        """Requests that are over by what came, and whether each was answered with a message. Raises PeerError."""
        data = self._incoming + data if self._incoming else data
        over: list[tuple[int, bool]] = []
        at, length = 0, len(data)
        while length - at >= _HEAD.size:
            high, low, kind, flags, stream = _HEAD.unpack_from(data, at)
            end = at + _HEAD.size + (high << 8 | low)
            if end > length:
                break
            if kind in (_DATA, _HEADERS) and stream in self._open:
                request, answered = self._open[stream]
                answered = answered or (kind == _DATA and end - at > _HEAD.size)
                if flags & _END_STREAM:
                    del self._open[stream]
                    over.append((request, answered))
                else:
                    self._open[stream] = (request, answered)
            elif kind == _RST_STREAM and stream in self._open:
                over.append((self._open.pop(stream)[0], False))
            else:
                self._control(kind, flags, stream, data[at + _HEAD.size : end])
            at = end
        self._incoming = data[at:]
        while self._waiting and len(self._open) < self._streams_max and self._window >= len(self._body):
            self._submit(self._waiting.popleft())
        return over

    def _submit(self, request: int) -> None:
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        self.outgoing += frame(_HEADERS, _END_HEADERS, stream, self._first if stream == 1 else self._block)
        self.outgoing += frame(_DATA, _END_STREAM, stream, self._body)
        self._window -= len(self._body)
        self._open[stream] = (request, False)

    def _control(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _SETTINGS and not flags & _ACK:
            for name, value in struct.iter_unpack(">HI", payload):
                if name == _STREAMS_MAX:
                    self._streams_max = value
                elif name == _INITIAL_WINDOW and value < len(self._body):
                    raise PeerError(
                        f"the server lets a stream send {value} bytes and the request has {len(self._body)}"
                    )
            self.outgoing += frame(_SETTINGS, _ACK, 0, b"")
        elif kind == _PING and not flags & _ACK:
            self.outgoing += frame(_PING, _ACK, 0, payload)
        elif kind == _WINDOW_UPDATE and stream == 0:
            self._window += int.from_bytes(payload, "big")
        elif kind == _GOAWAY:
            raise PeerError(f"the server said goodbye with code {int.from_bytes(payload[4:8], 'big')}")


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """A frame with its head."""
    size = len(payload)
    return _HEAD.pack(size >> 8, size & 0xFF, kind, flags, stream) + payload


def header_blocks(headers: Sequence[tuple[str, str]]) -> tuple[bytes, bytes]:
    """The headers as the first request of a connection sends them, into the server's table, and as the others do: as
    numbers of that table's entries.
    """
    first = b"".join(b"\x40" + _text(name) + _text(value) for name, value in headers)
    newest = _FIRST_DYNAMIC_INDEX + len(headers) - 1
    return first, bytes(0x80 | (newest - place) for place in range(len(headers)))


def _text(text: str) -> bytes:
    """Its length, as HPACK writes a number into seven bits and what follows, then its bytes."""
    raw = text.encode("ascii")
    length, size = bytearray((min(len(raw), 0x7F),)), len(raw) - 0x7F
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    if len(raw) >= 0x7F:
        length.append(size)
    return bytes(length) + raw
