"""A stream's two directions, each with its bound: what was heard and not read, what was sent and has not left."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping

from services.batcher.bridge.messages import Pairs

Send = Callable[[object, Pairs | None, bytes, Pairs | None, bool], None]
"""Stream, headers, body, trailers, whether that is all."""


class StreamExchange:
    """The exchange of one stream."""

    def __init__(
        self,
        headers: Mapping[bytes, bytes],
        stream: object,
        *,
        answer: Send,
        consumed: Callable[[object, int], None],
    ) -> None:
        self._headers = headers
        self._stream = stream
        self._answer = answer
        self._consumed = consumed
        self._pieces: deque[tuple[bytes, bool]] = deque()
        self._heard = asyncio.Event()
        self._writable = asyncio.Event()

    @property
    def headers(self) -> Mapping[bytes, bytes]:
        """The caller's."""
        return self._headers

    async def receive(self) -> tuple[bytes, bool]:
        """The next piece, and whether more will follow. Not to be called after the last."""
        while not self._pieces:
            self._heard.clear()
            await self._heard.wait()
        piece, more = self._pieces.popleft()
        if piece:
            self._consumed(self._stream, len(piece))
        return piece, more

    async def send(self, body: bytes, *, headers: Pairs | None = None) -> None:
        """Begins the answer, where there are headers, and sends a piece; returns when more may be sent."""
        self._writable.clear()
        self._answer(self._stream, headers, body, None, False)
        await self._writable.wait()

    def end(self, trailers: Pairs, *, headers: Pairs | None = None) -> None:
        """Ends the answer."""
        self._answer(self._stream, headers, b"", trailers, True)

    def heard(self, piece: bytes, *, last: bool) -> None:
        """The bridge: the caller has sent this."""
        self._pieces.append((piece, not last))
        self._heard.set()

    def writable(self) -> None:
        """The bridge: more may be sent."""
        self._writable.set()
