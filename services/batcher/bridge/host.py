"""One application's thread: it is told what Envoy's threads have read, and gives them answers to send.

`run` is what `native/objects.c` calls; the numbers of events and the functions' arguments are those of the C there.
"""

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import cast
from urllib.parse import unquote

import uvloop

from services.batcher.bridge.exchange import StreamExchange
from services.batcher.bridge.messages import Answer, Handler, Pairs, Request, Site, StreamHandler
from services.common.telemetry.logging import get_logger

log = get_logger(__name__)

WHOLE, TOO_LARGE, OPENED, DATA, GONE, WRITABLE, ENDING = range(7)
_AT_ONCE_MAX = 16
"""Answers that are made before Envoy is told: telling wakes a thread, and each further answer makes the first wait."""
_FAILED = Answer([(b":status", b"500"), (b"content-type", b"application/json")], b'{"error":"an unforeseen failure"}')

Stream = object
"""What stands for a request in C. Where nobody holds it any more and it was not answered, Envoy resets the stream."""
Began = tuple[int, Stream, str, str, Mapping[bytes, bytes], bytes, bool]
"""Kind, stream, method, path with query, headers, body, whether that is all."""
Heard = tuple[int, Stream, bytes, bool]
"""Kind, stream, piece of the body, whether it is the last."""


@dataclass(frozen=True)
class Native:
    """The functions in C. None of them waits."""

    take: Callable[[], Sequence[Began | Heard]]
    """What there is to be told, the oldest first."""
    answer: Callable[[Stream, Pairs | None, bytes, Pairs | None, bool, bool], None]
    """Headers, body, trailers; whether that is all; whether to say (WRITABLE) when more may be sent."""
    flush: Callable[[Sequence[Stream]], None]
    """Has Envoy send what was answered to these."""
    consumed: Callable[[Stream, int], None]
    """A piece of a stream, of so many bytes, was read. Empty ones are not told."""
    started: Callable[[Sequence[bytes]], None]
    """Requests are taken; those of these paths piece by piece."""


class Host:
    """Requests in flight, and what becomes of them."""

    def __init__(self, site: Site, native: Native) -> None:
        self._native = native
        self._loop = asyncio.get_running_loop()
        self._find = site.finder()
        self._streams = site.streams
        self._tasks: dict[Stream, asyncio.Task[None]] = {}
        self._exchanges: dict[Stream, StreamExchange] = {}
        self._answered: list[Stream] = []
        self._ending = asyncio.Event()

    async def serve(self, wake: int) -> None:
        """Takes requests until Envoy lets go of the application."""
        self._loop.add_reader(wake, self._told)
        self._native.started([path.encode() for path in self._streams])
        await self._ending.wait()
        self._loop.remove_reader(wake)

    def _told(self) -> None:
        for event in self._native.take():
            kind, stream = event[0], event[1]
            if kind <= OPENED:
                self._begin(event)  # type: ignore[arg-type] # a cast is a call for each request
            elif kind == GONE:
                # Forgotten at once: a task that is cancelled before it began never comes to its own end.
                self._exchanges.pop(stream, None)
                if (task := self._tasks.pop(stream, None)) is not None:
                    task.cancel()
            elif kind == ENDING:
                self._ending.set()
            else:
                self._hear(cast("Heard", event))

    def _begin(self, event: Began) -> None:
        kind, stream, method, target, headers, body, complete = event
        path = target if "?" not in target else target.partition("?")[0]
        if "%" in path:
            path = unquote(path)
        if kind == OPENED:
            exchange = StreamExchange(headers, stream, answer=self._send, consumed=self._native.consumed)
            if complete:
                exchange.heard(b"", last=True)
            self._exchanges[stream] = exchange
            work = self._converse(stream, self._streams[path], exchange)
        else:
            work = self._answer(stream, self._find(path), Request(method, path, headers, body, kind == WHOLE))
        self._tasks[stream] = self._loop.create_task(work, name=path)

    async def _answer(self, stream: Stream, handler: Handler, request: Request) -> None:
        try:
            headers, body, trailers = await handler(request)
        except asyncio.CancelledError:
            return
        except Exception:
            log.exception("a face failed", path=request.path)
            headers, body, trailers = _FAILED
        finally:
            self._tasks.pop(stream, None)
        self._native.answer(stream, headers, body, trailers, True, False)
        answered = self._answered
        answered.append(stream)
        if not self._tasks or len(answered) >= _AT_ONCE_MAX:
            self._flush()  # nobody is left whose answer could leave with it, or enough have gathered
        elif len(answered) == 1:
            self._loop.call_soon(self._flush)

    async def _converse(self, stream: Stream, handler: StreamHandler, exchange: StreamExchange) -> None:
        try:
            await handler(exchange)
        except asyncio.CancelledError:
            return
        except Exception:
            log.exception("a stream's face failed")
        finally:
            self._tasks.pop(stream, None)
            self._exchanges.pop(stream, None)

    def _send(self, stream: Stream, headers: Pairs | None, body: bytes, trailers: Pairs | None, end: bool) -> None:
        self._native.answer(stream, headers, body, trailers, end, not end)
        self._native.flush((stream,))

    def _flush(self) -> None:
        answered = self._answered
        if answered:
            self._native.flush(answered)
            answered.clear()

    def _hear(self, event: Heard) -> None:
        kind, stream, data, last = event
        exchange = self._exchanges.get(stream)
        if exchange is None:
            return
        if kind == DATA:
            exchange.heard(data, last=last)
        else:
            exchange.writable()


async def _host(application: str, wake: int, native: Native) -> None:
    module, _, name = application.partition(":")
    new_site: Callable[[], Site] = getattr(import_module(module), name)
    site = new_site()
    try:
        await site.start()
    except Exception:
        log.exception("the application did not start", application=application)
        raise
    try:
        await Host(site, native).serve(wake)
    finally:
        await site.stop()


def run(application: str, wake: int, *functions: Callable[..., object]) -> None:
    """Runs what `module:attribute` makes, a Site, until Envoy lets go of it.

    `wake` is a file descriptor that can be read when there is something to take.
    """
    threading.current_thread().name = application
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_host(application, wake, Native(*functions)))  # type: ignore[arg-type]
    except SystemExit as error:
        # Not as it is: whoever prints that ends Python from within this thread, and waits for it for ever.
        raise RuntimeError(f"{application} asked to end the process: {error}") from error
