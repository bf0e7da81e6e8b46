"""Bidirectional gRPC streams over ASGI: many requests, each answered in its turn.

At most 64 requests of a stream are in work. Up to 1 MiB of more is read ahead, because only reading tells that the
caller hung up; beyond that nothing is read, and HTTP/2's flow control holds the caller back.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping

from services.batcher.codec.frames import FrameReader as Frames
from services.batcher.codec.frames import Headers, error_trailers, frame
from services.batcher.faces.asgi import Receive, Scope, Send
from services.batcher.faces.call import Call
from services.batcher.faces.core import Core
from services.batcher.faces.grpc_unary import CONTENT_TYPE, send_unsupported, speaks_grpc
from services.common.errors import MeshError, Reason
from services.common.telemetry.logging import get_logger

log = get_logger(__name__)

IN_WORK_MAX = 64
"""Requests of one stream that are in work at once."""
AHEAD_BYTES_MAX = 1 << 20
"""Requests of one stream that were read and wait for their turn; beyond it nothing is read."""

AnswerItem = Callable[[Call, bytes], Awaitable[bytes]]
"""One serialised request in, one serialised answer out; failures are part of the answer. Raises only when cancelled."""


class StreamMethod:
    """One method."""

    def __init__(self, name: str, answer: AnswerItem, *, core: Core) -> None:
        self._name = name
        self._answer = answer
        self._core = core

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one stream until the caller half-closes or hangs up, or the process drains."""
        headers = dict(scope["headers"])
        if not speaks_grpc(headers):
            await send_unsupported(send)
            return
        stream = _Stream(self._name, self._answer, self._core, headers=headers, receive=receive, send=send)
        self._core.streams.add(stream)
        try:
            await stream.run()
        finally:
            self._core.streams.discard(stream)


class _Stream:
    """One stream being answered."""

    def __init__(
        self,
        name: str,
        answer: AnswerItem,
        core: Core,
        *,
        headers: Mapping[bytes, bytes],
        receive: Receive,
        send: Send,
    ) -> None:
        self._name = name
        self._answer = answer
        self._core = core
        self._headers = headers
        self._receive = receive
        self._send = send
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
        self._answered = False
        """Whether all was sent that the caller gets."""
        self._error: MeshError | None = None
        self._answering = Call(headers, arrived_s=core.monotonic())
        self._answering.hung_up = self._give_up

    def close_soon(self) -> None:
        """Takes no more: what is in work is answered, then the stream ends with SHUTTING_DOWN."""
        self._ahead.clear()
        self._take_no_more(
            MeshError(Reason.SHUTTING_DOWN, "this batcher is stopping; open the stream anew", retry_after_s=1.0)
        )

    async def run(self) -> None:
        """To the end of the stream, or until the caller hangs up."""
        await self._send({"type": "http.response.start", "status": 200, "headers": [CONTENT_TYPE], "trailers": True})
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._read(group), name=f"{self._name}: read")
                group.create_task(self._write_all(group), name=f"{self._name}: write")
        finally:
            self._core.in_flight.discard(self._answering)

    async def _read(self, group: asyncio.TaskGroup) -> None:
        """Reads until there is nothing more, also where nothing more is taken: the end of the answer ends the reading.
        Neither it nor a `send` is cancelled: pyvoy would answer, and fail at, a question that nobody asks any more."""
        frames = Frames()
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                if not self._answered:
                    self._give_up()
                return
            more = message.get("more_body", False)
            if self._open:
                self._take(group, frames, message.get("body", b""), more=more)
            while self._open and self._ahead_bytes > AHEAD_BYTES_MAX:
                self._room.clear()
                await self._room.wait()
        # From here on reading does not tell whether the caller is still there: the watch has to ask.
        self._answering.receive = self._receive
        self._core.in_flight.add(self._answering)
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

    def _give_up(self) -> None:
        """The caller hung up. The work alone is cancelled: reader and writer may wait for pyvoy, which tells both."""
        log.debug("a stream's caller hung up", method=self._name)
        self._answering.gone = True
        self._ahead.clear()
        for task in self._in_work:
            task.cancel()
        self._take_no_more(None)

    async def _one(self, data: bytes) -> bytes:
        core = self._core
        call = Call(self._headers, arrived_s=core.monotonic(), item=True)
        core.begin(call)
        try:
            return await self._answer(call, data)
        except asyncio.CancelledError as error:
            core.failed(call, error, face=self._name)
            raise
        finally:
            core.end(call)

    async def _write_all(self, group: asyncio.TaskGroup) -> None:
        try:
            await self._write(group)
        except OSError:
            self._give_up()
        except asyncio.CancelledError:
            if not self._answering.gone:  # else it is the item that was cancelled
                raise

    async def _write(self, group: asyncio.TaskGroup) -> None:
        while self._open or self._in_work:
            if not self._in_work:
                self._news.clear()
                await self._news.wait()
                continue
            reply = await self._in_work[0]
            self._in_work.popleft()
            self._begin_more(group)
            await self._send({"type": "http.response.body", "body": frame(reply), "more_body": True})
        trailers: Headers = [(b"grpc-status", b"0")] if self._error is None else error_trailers(self._error)
        self._answered = True
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        await self._send({"type": "http.response.trailers", "headers": trailers, "more_trailers": False})
