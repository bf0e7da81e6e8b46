"""Bidirectional gRPC streams over ASGI: many requests, each answered in its turn.

At most 64 requests of a stream are in work; beyond that nothing is read, and HTTP/2's flow control holds the caller
back.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from services.batcher.codec.frames import FrameReader as Frames
from services.batcher.codec.frames import Headers, error_trailers, frame
from services.batcher.faces.asgi import CallerGoneError, Receive, Scope, Send
from services.batcher.faces.call import Call
from services.batcher.faces.core import Core
from services.batcher.faces.grpc_unary import CONTENT_TYPE
from services.common.errors import MeshError, Reason
from services.common.telemetry.logging import get_logger

log = get_logger(__name__)

IN_WORK_MAX = 64
"""Requests of one stream that are in work at once."""

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
        stream = _Stream(
            self._name, self._answer, self._core, headers=dict(scope["headers"]), receive=receive, send=send
        )
        self._core.streams.add(stream)
        try:
            await stream.run()
        except* (CallerGoneError, OSError):
            log.debug("a stream's caller hung up", method=self._name)
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
        self._room = asyncio.Semaphore(IN_WORK_MAX)
        self._in_order: asyncio.Queue[asyncio.Task[bytes] | None] = asyncio.Queue(maxsize=IN_WORK_MAX + 1)
        self._open = True
        """Whether requests that come are still taken."""
        self._answered = False
        """Whether all was sent that the caller gets."""
        self._error: MeshError | None = None
        self._answering = Call(headers, arrived_s=core.monotonic())

    def close_soon(self) -> None:
        """Takes no more: what was read is answered, then the stream ends with SHUTTING_DOWN."""
        self._take_no_more(
            MeshError(Reason.SHUTTING_DOWN, "this batcher is stopping; open the stream anew", retry_after_s=1.0)
        )

    async def run(self) -> None:
        """To the end of the stream. Raises a group with CallerGoneError or OSError where the caller hung up."""
        self._answering.task = asyncio.current_task()
        await self._send({"type": "http.response.start", "status": 200, "headers": [CONTENT_TYPE], "trailers": True})
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._read(group), name=f"{self._name}: read")
                group.create_task(self._write(), name=f"{self._name}: write")
        except asyncio.CancelledError:
            if not self._answering.gone:
                raise
        finally:
            self._core.in_flight.discard(self._answering)

    async def _read(self, group: asyncio.TaskGroup) -> None:
        """Reads until there is nothing more, also where nothing more is taken: the end of the answer ends the reading.
        To cancel it would have pyvoy answer, and fail at, a question that nobody asks any more."""
        frames = Frames()
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                if self._answered:
                    return
                raise CallerGoneError
            more = message.get("more_body", False)
            if self._open:
                await self._take(group, frames, message.get("body", b""), more=more)
        # From here on reading does not tell whether the caller is still there: the watch has to ask.
        self._answering.receive = self._receive
        self._core.in_flight.add(self._answering)
        self._take_no_more(None)

    async def _take(self, group: asyncio.TaskGroup, frames: Frames, body: bytes, *, more: bool) -> None:
        try:
            for data in frames.feed(body):
                await self._room.acquire()
                if not self._open:
                    return
                self._in_order.put_nowait(group.create_task(self._one(data), name=f"{self._name}: item"))
            if not more:
                frames.finish()
        except MeshError as error:
            self._take_no_more(error)

    def _take_no_more(self, error: MeshError | None) -> None:
        if self._open:
            self._open, self._error = False, error
            # There is room: each place but the last belongs to an item in work.
            self._in_order.put_nowait(None)

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

    async def _write(self) -> None:
        while (task := await self._in_order.get()) is not None:
            reply = await task
            self._room.release()
            await self._send({"type": "http.response.body", "body": frame(reply), "more_body": True})
        trailers: Headers = [(b"grpc-status", b"0")] if self._error is None else error_trailers(self._error)
        self._answered = True
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        await self._send({"type": "http.response.trailers", "headers": trailers, "more_trailers": False})
