"""Bidirectional gRPC streams: many requests, each answered in its turn.

At most 64 requests of a stream are in work. Up to 1 MiB of more is read ahead; beyond that nothing is read, and
HTTP/2's flow control holds the caller back.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Set

from services.batcher.bridge.messages import Exchange, Pairs
from services.batcher.codec.frames import FrameReader as Frames
from services.batcher.codec.frames import error_trailers, frame
from services.batcher.faces.call import Call
from services.batcher.faces.caller import Asks
from services.batcher.faces.core import Core
from services.batcher.faces.grpc_unary import CONTENT_TYPE, speaks_grpc, unsupported
from services.common.access.decide import unauthenticated
from services.common.errors import MeshError, Reason
from services.common.grpc.identity import HEADER_KEY

IN_WORK_MAX = 64
"""Requests of one stream that are in work at once."""
AHEAD_BYTES_MAX = 1 << 20
"""Requests of one stream that were read and wait for their turn; beyond it nothing is read."""
_KEY = HEADER_KEY.encode()
_HEAD: Pairs = [(b":status", b"200"), CONTENT_TYPE]

AnswerItem = Callable[[Call, bytes], Awaitable[bytes]]
"""One serialised request in, one serialised answer out; failures are part of the answer. Raises only when cancelled."""


class StreamMethod:
    """One method."""

    def __init__(self, name: str, answer: AnswerItem, *, core: Core) -> None:
        self._name = name
        self._answer = answer
        self._core = core

    async def __call__(self, exchange: Exchange) -> None:
        """Answers one stream until the caller half-closes or hangs up, or the process drains."""
        if not speaks_grpc(exchange.headers):
            headers, body, _ = unsupported()
            await exchange.send(body, headers=headers)
            exchange.end([])
            return
        refusal = self._refusal(exchange.headers)
        if refusal is not None:
            # Nothing is read: none of its requests may be answered.
            exchange.end(error_trailers(refusal), headers=_HEAD)
            return
        stream = _Stream(self._name, self._answer, self._core, exchange)
        self._core.streams.add(stream)
        # It may have come past the gateway just before the gateway heard.
        stream.turn_away(self._core.revoked)
        try:
            await stream.run()
        finally:
            self._core.streams.discard(stream)

    def _refusal(self, headers: Mapping[bytes, bytes]) -> MeshError | None:
        """Why the caller may not predict at all; which models it may ask is checked for each request."""
        core = self._core
        now_s = core.monotonic()
        caller = core.callers.of(headers, now_s)
        if not caller.limited:
            return None
        call = Call(headers, arrived_s=now_s, caller=caller)
        core.begin(call)
        try:
            caller.check(Asks.PREDICTION)
        except MeshError as error:
            return core.failed(call, error, face=self._name)
        finally:
            core.end(call)
        return None


class _Stream:
    """One stream being answered."""

    def __init__(self, name: str, answer: AnswerItem, core: Core, exchange: Exchange) -> None:
        self._name = name
        self._answer = answer
        self._core = core
        self._exchange = exchange
        self._ahead: deque[bytes] = deque()
        self._ahead_bytes = 0
        self._room = asyncio.Event()
        """Set whenever more may be read."""
        self._in_work: deque[asyncio.Task[bytes]] = deque()
        """In the order in which they are answered."""
        self._news = asyncio.Event()
        """Set whenever there is more to answer, or will be none."""
        self._open = True
        """Whether requests that come are still taken."""
        self._error: MeshError | None = None

    def close_soon(self) -> None:
        """Takes no more: what is in work is answered, then the stream ends with SHUTTING_DOWN."""
        self._ahead.clear()
        self._take_no_more(
            MeshError(Reason.SHUTTING_DOWN, "this batcher is stopping; open the stream anew", retry_after_s=1.0)
        )

    def turn_away(self, revoked: Set[str]) -> None:
        """Takes no more where one of these keys opened it: what is in work is answered, then it ends."""
        if self._exchange.headers.get(_KEY, b"").decode("latin-1") in revoked:
            self._ahead.clear()
            self._take_no_more(unauthenticated())

    async def run(self) -> None:
        """To the end of the stream. Cancelled when the caller hangs up, and all of its work with it."""
        await self._exchange.send(b"", headers=_HEAD)
        async with asyncio.TaskGroup() as group:
            reader = group.create_task(self._read(group), name=f"{self._name}: read")
            await self._write(group)
            # It may be reading what nobody takes any more: whoever is refused need not stop sending.
            reader.cancel()

    async def _read(self, group: asyncio.TaskGroup) -> None:
        frames, more = Frames(), True
        while more:
            body, more = await self._exchange.receive()
            if self._open:
                self._take(group, frames, body, more=more)
            while self._open and self._ahead_bytes > AHEAD_BYTES_MAX:
                self._room.clear()
                await self._room.wait()
        self._take_no_more(None)

    def _take(self, group: asyncio.TaskGroup, frames: Frames, body: bytes, *, more: bool) -> None:
        try:
            for data in frames.feed(body):
                self._ahead.append(data)
                self._ahead_bytes += len(data)
            if not more:
                frames.finish()
        except MeshError as error:
            self._take_no_more(error)
        self._begin_more(group)

    def _begin_more(self, group: asyncio.TaskGroup) -> None:
        while self._ahead and len(self._in_work) < IN_WORK_MAX:
            data = self._ahead.popleft()
            self._ahead_bytes -= len(data)
            self._in_work.append(group.create_task(self._one(data), name=f"{self._name}: item"))
        self._news.set()
        self._room.set()

    def _take_no_more(self, error: MeshError | None) -> None:
        if self._open:
            self._open, self._error = False, error
        self._news.set()
        self._room.set()

    async def _one(self, data: bytes) -> bytes:
        core = self._core
        headers, now_s = self._exchange.headers, core.monotonic()
        # Found anew for each request: whoever keeps a stream open for days is not forgotten.
        call = Call(headers, arrived_s=now_s, caller=core.callers.of(headers, now_s), item=True)
        core.begin(call)
        try:
            return await self._answer(call, data)
        except asyncio.CancelledError as error:
            core.failed(call, error, face=self._name)
            raise
        finally:
            core.end(call)

    async def _write(self, group: asyncio.TaskGroup) -> None:
        while self._open or self._in_work:
            if not self._in_work:
                self._news.clear()
                await self._news.wait()
                continue
            reply = await self._in_work[0]
            self._in_work.popleft()
            self._begin_more(group)
            await self._exchange.send(frame(reply))
        self._exchange.end([(b"grpc-status", b"0")] if self._error is None else error_trailers(self._error))
