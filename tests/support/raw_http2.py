"""HTTP/2 by hand, for what well-behaved clients never do: stop reading, send a byte a frame, hang up anywhere.

It knows as much of the protocol as the tests need (RFC 9113): its own headers are literals without compression, and of
an answer's headers it reads the status alone.
"""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, WINDOW = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
_FRAME_MAX = 16384
_WINDOW_FIRST, _WINDOW_MOST = 65535, (1 << 31) - 1
_STATIC = {0x88: 200, 0x89: 204, 0x8A: 206, 0x8B: 304, 0x8C: 400, 0x8D: 404, 0x8E: 500}
_HUFFMAN = {f"{digit:05b}": str(digit) for digit in range(3)} | {
    f"{22 + digit:06b}": str(digit) for digit in range(3, 10)
}


@dataclass
class Reply:
    """What has come on one stream."""

    status: int = 0
    body: bytearray = field(default_factory=bytearray)
    ended: bool = False
    reset: int | None = None

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return self.ended or self.reset is not None


class Http2:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._changed = asyncio.Condition()
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._last = -1
        self._window = _WINDOW_FIRST
        self._windows: dict[int, int] = {}
        self._window_new = _WINDOW_FIRST
        self.replies: dict[int, Reply] = {}
        self.lost = False
        """The other side has closed the connection."""

    def stop_reading(self) -> None:
        """What the other side sends stays in the kernel, until that is full."""
        self._may_read.clear()
        self._writer.transport.pause_reading()  # type: ignore[attr-defined]

    def read_on(self) -> None:
        """Takes everything again."""
        self._may_read.set()
        self._writer.transport.resume_reading()  # type: ignore[attr-defined]

    async def begin(
        self, path: str, *, method: str = "POST", headers: Mapping[str, str] | None = None, end: bool = False
    ) -> int:
        """Opens a stream and sends the head of a request."""
        self._last += 2
        stream = self._last
        self.replies[stream] = Reply()
        self._windows[stream] = self._window_new
        where = {":scheme": "http", ":path": path} if path else {}
        fields = {":method": method, ":authority": "tests", **where, **(headers or {})}
        await self._write(HEADERS, _END_HEADERS | (_END_STREAM if end else 0), stream, _literals(fields))
        return stream

    async def send(self, stream: int, body: bytes, *, end: bool = False, piece: int = _FRAME_MAX) -> None:
        """Sends a body in frames of at most `piece` bytes, as fast as the other side takes them."""
        at = 0
        while at < len(body):
            async with self._changed:
                await self._changed.wait_for(lambda: self._room(stream) > 0 or self._over(stream))
                if self._over(stream):
                    return
                length = min(piece, self._room(stream), len(body) - at)
                self._window -= length
                self._windows[stream] -= length
            last = end and at + length == len(body)
            await self._write(DATA, _END_STREAM if last else 0, stream, body[at : at + length])
            at += length
        if end and not body:
            await self._write(DATA, _END_STREAM, stream, b"")

    async def trailers(self, stream: int, fields: Mapping[str, str]) -> None:
        """Ends the request with these."""
        await self._write(HEADERS, _END_HEADERS | _END_STREAM, stream, _literals(fields))

    async def hang_up(self, stream: int) -> None:
        """Gives the request up (CANCEL)."""
        await self._write(RESET, 0, stream, struct.pack(">I", 8))

    async def wait(self, stream: int, *, within_s: float = 20.0) -> Reply:
        """The whole reply, however it ended."""
        async with asyncio.timeout(within_s), self._changed:
            await self._changed.wait_for(lambda: self._over(stream))
        return self.replies[stream]

    async def headed(self, stream: int, *, within_s: float = 20.0) -> int:
        """The status, as soon as it is there."""
        async with asyncio.timeout(within_s), self._changed:
            await self._changed.wait_for(lambda: self.replies[stream].status or self._over(stream))
        return self.replies[stream].status

    def _over(self, stream: int) -> bool:
        return self.lost or self.replies[stream].over

    def _room(self, stream: int) -> int:
        return min(self._window, self._windows[stream])

    async def _write(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        self._writer.write(
            struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload
        )
        with contextlib.suppress(ConnectionError):
            await self._writer.drain()

    async def greet(self) -> None:
        """What a connection begins with: windows so wide that the other side is never held back by them."""
        settings = struct.pack(">HIHI", 1, 0, 4, _WINDOW_MOST)
        self._writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        await self._write(SETTINGS, 0, 0, settings)
        await self._write(WINDOW, 0, 0, struct.pack(">I", _WINDOW_MOST - _WINDOW_FIRST))

    async def listen(self) -> None:
        """Reads until the connection ends."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await self._may_read.wait()
                head = await self._reader.readexactly(9)
                payload = await self._reader.readexactly(int.from_bytes(head[:3], "big"))
                await self._take(head[3], head[4], int.from_bytes(head[5:], "big"), payload)
        async with self._changed:
            self.lost = True
            self._changed.notify_all()

    async def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind in (SETTINGS, PING) and not flags & _ACK:
            await self._write(kind, _ACK, 0, payload if kind == PING else b"")
        async with self._changed:
            if kind == SETTINGS and not flags & _ACK:
                for name, value in struct.iter_unpack(">HI", payload):
                    if name == 4:
                        grown, self._window_new = value - self._window_new, value
                        self._windows = {each: window + grown for each, window in self._windows.items()}
            elif kind == WINDOW:
                grown = int.from_bytes(payload, "big")
                if stream:
                    self._windows[stream] += grown
                else:
                    self._window += grown
            elif kind == GOAWAY:
                self.lost = self.lost or payload[4:8] != bytes(4)
            elif (reply := self.replies.get(stream)) is not None:
                if kind == HEADERS:
                    reply.status = reply.status or _status(payload)
                elif kind == DATA:
                    reply.body += payload
                elif kind == RESET:
                    reply.reset = int.from_bytes(payload, "big")
                reply.ended = reply.ended or (kind in (HEADERS, DATA) and bool(flags & _END_STREAM))
            self._changed.notify_all()


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[Http2]:
    """A connection, closed at the end."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    connection = Http2(reader, writer)
    await connection.greet()
    listening = asyncio.create_task(connection.listen(), name="http2")
    try:
        yield connection
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        writer.transport.abort()


def _literals(fields: Mapping[str, str]) -> bytes:
    return b"".join(b"\x10" + _text(name) + _text(value) for name, value in fields.items())


def _text(text: str) -> bytes:
    raw = text.encode("latin-1")
    length = len(raw)
    if length < 127:
        return bytes((length,)) + raw
    rest, head = length - 127, bytearray((127,))
    while rest >= 128:
        head.append(rest % 128 + 128)
        rest //= 128
    head.append(rest)
    return bytes(head) + raw


def _status(block: bytes) -> int:
    while block[0] & 0xE0 == 0x20:  # a new size of the table
        block = block[1:]
    if block[0] in _STATIC:
        return _STATIC[block[0]]
    coded, length = bool(block[1] & 0x80), block[1] & 0x7F
    raw = block[2 : 2 + length]
    if not coded:
        return int(raw)
    bits, digits = "".join(f"{byte:08b}" for byte in raw), ""
    while len(digits) < 3:
        width = 5 if bits[:5] in _HUFFMAN else 6
        digits, bits = digits + _HUFFMAN[bits[:width]], bits[width:]
    return int(digits)
