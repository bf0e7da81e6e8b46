"""The bridge's C as the host sees it, without Envoy: what is told is what tests say, what is answered is kept."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from services.batcher.bridge.host import (
    DATA,
    ENDING,
    GONE,
    OPENED,
    TOO_LARGE,
    WHOLE,
    WRITABLE,
    Began,
    Heard,
    Host,
    Native,
)
from services.batcher.bridge.messages import Handler, Pairs, StreamHandler


class Caller:
    """What stands for a request. Whoever still holds it can be found out by a weak reference."""

    __slots__ = ("__weakref__",)


@dataclass(frozen=True)
class Part:
    """Part of an answer."""

    caller: Caller
    headers: Pairs | None
    body: bytes
    trailers: Pairs | None
    end: bool
    told: bool


class FakeNative:
    """Keeps no caller but in `answers` and `flushes`, which tests may clear."""

    def __init__(self) -> None:
        self.wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.events: list[Began | Heard] = []
        self.answers: list[Part] = []
        self.flushes: list[list[Caller]] = []
        self.consumed: list[int] = []
        self.paths: Sequence[bytes] = ()

    def functions(self) -> Native:
        """What the host is given."""
        return Native(
            take=self._take,
            answer=self._answer,
            flush=self._flush,
            consumed=lambda _caller, count: self.consumed.append(count),
            started=self._started,
        )

    def whole(
        self,
        path: str,
        body: bytes = b"",
        *,
        method: str = "POST",
        headers: Mapping[bytes, bytes] | None = None,
        cut_off: bool = False,
    ) -> Caller:
        """A request has come."""
        caller = Caller()
        self._tell((TOO_LARGE if cut_off else WHOLE, caller, method, path, headers or {}, body, True))
        return caller

    def opened(self, path: str, *, complete: bool = False) -> Caller:
        """A stream has begun."""
        caller = Caller()
        self._tell((OPENED, caller, "POST", path, {b"x-who": b"tests"}, b"", complete))
        return caller

    def heard(self, caller: Caller, piece: bytes, *, last: bool = False) -> None:
        """A piece of a stream has come."""
        self._tell((DATA, caller, piece, last))

    def writable(self, caller: Caller) -> None:
        """What was sent to a stream has left."""
        self._tell((WRITABLE, caller, b"", False))

    def gone(self, caller: Caller) -> None:
        """The caller has hung up."""
        self._tell((GONE, caller, b"", True))

    def ending(self) -> None:
        """Envoy lets go of the application."""
        self._tell((ENDING, None, b"", True))

    def _tell(self, event: Began | Heard) -> None:
        self.events.append(event)
        os.eventfd_write(self.wake, 1)

    def _take(self) -> Sequence[Began | Heard]:
        os.eventfd_read(self.wake)
        events, self.events = self.events, []
        return events

    def _answer(self, caller: object, *part: Any) -> None:
        assert isinstance(caller, Caller)
        self.answers.append(Part(caller, *part))

    def _flush(self, callers: Sequence[object]) -> None:
        self.flushes.append([caller for caller in callers if isinstance(caller, Caller)])

    def _started(self, paths: Sequence[bytes]) -> None:
        self.paths = paths


class FakeSite:
    """One handler for all whole requests, and streams by path."""

    def __init__(self, handler: Handler, streams: Mapping[str, StreamHandler] | None = None) -> None:
        self._handler = handler
        self._streams = streams or {}
        self.found: list[str] = []
        """The paths that were looked for."""

    async def start(self) -> None:
        """Nothing must be started."""

    async def stop(self) -> None:
        """Nothing runs."""

    @property
    def streams(self) -> Mapping[str, StreamHandler]:
        """Those given."""
        return self._streams

    def finder(self) -> Callable[[str], Handler]:
        """The one handler."""

        def find(path: str) -> Handler:
            self.found.append(path)
            return self._handler

        return find


@asynccontextmanager
async def hosting(site: FakeSite) -> AsyncIterator[FakeNative]:
    """A host that takes requests; at the end it must let itself be ended."""
    native = FakeNative()
    serving = asyncio.create_task(Host(site, native.functions()).serve(native.wake), name="host")
    try:
        await turns(1)
        yield native
        native.ending()
        await asyncio.wait_for(serving, 5)
    finally:
        serving.cancel()
        os.close(native.wake)


async def turns(count: int = 8) -> None:
    """Lets the loop go round: what was told is taken, and what can be done without waiting is done."""
    for _ in range(count):
        await asyncio.sleep(0)
