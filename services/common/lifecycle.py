"""The ordered life of a process: parts start one after another, stop in reverse, and every wait is bounded.

A part is a pair of start and stop, or a named background task. Readiness is the AND of named parts: it becomes true
after the last part has started and false before the first one stops, so that callers leave before the work does.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from services.common.clock import Clock
from services.common.garbage import settle
from services.common.telemetry.logging import get_logger

log = get_logger(__name__)

_RESTART_DELAY_MIN_S = 0.1
_RESTART_DELAY_MAX_S = 5.0
_RESTART_CALM_S = 30.0
"""A task that ran this long before it crashed starts again after the shortest delay."""


@dataclass(frozen=True)
class _Part:
    name: str
    start: Callable[[], Awaitable[None]] | None
    stop: Callable[[], Awaitable[None]] | None
    stop_timeout_s: float


class Lifecycle:
    """Owns what a process runs. Add parts in the order in which they start."""

    def __init__(self, *, name: str, clock: Clock, stop_timeout_s: float = 8.0) -> None:
        self._name = name
        self._clock = clock
        self._stop_timeout_s = stop_timeout_s
        self._parts: list[_Part] = []
        self._started: list[_Part] = []
        self._health: dict[str, Callable[[], bool]] = {}
        self._serving = False
        self._failed = False
        self._stop_requested = asyncio.Event()

    def add(
        self,
        name: str,
        *,
        start: Callable[[], Awaitable[None]] | None = None,
        stop: Callable[[], Awaitable[None]] | None = None,
        stop_timeout_s: float = 5.0,
    ) -> None:
        """Adds a part. A start that raises ends the process; a stop that fails or is slow is logged, no more."""
        self._parts.append(_Part(name, start, stop, stop_timeout_s))

    def add_task(self, name: str, run: Callable[[], Awaitable[None]], *, restart: bool = True) -> None:
        """Adds a named background task, cancelled and awaited at its place in the stop.

        A crash is logged. With `restart` it runs again after a delay that doubles from 0.1 to 5 s; without, the
        process stops, because a part that must live is dead.
        """
        task: asyncio.Task[None] | None = None

        async def start() -> None:
            nonlocal task
            task = asyncio.create_task(self._supervise(name, run, restart=restart), name=f"{self._name}:{name}")

        async def stop() -> None:
            if task is not None:
                task.cancel()
                # Not `await task`: whoever does not end in time would be waited for nevertheless.
                await asyncio.wait({task})

        self.add(name, start=start, stop=stop)

    def on_health(self, name: str, ready: Callable[[], bool]) -> None:
        """Adds a condition of readiness, evaluated whenever someone asks."""
        self._health[name] = ready

    def unready(self) -> list[str]:
        """The names of what is not ready; empty means ready."""
        if not self._serving:
            return ["starting or stopping"]
        return [name for name, ready in self._health.items() if not ready()]

    def request_stop(self) -> None:
        """Makes `run` stop as if a signal had come."""
        self._stop_requested.set()

    async def start(self) -> None:
        """Starts the parts in order. If one fails, stops those that had started and raises its error."""
        for part in self._parts:
            try:
                if part.start is not None:
                    await part.start()
            except BaseException:
                log.warning("part failed to start", part=part.name)
                await self.stop()
                raise
            self._started.append(part)
        self._serving = True
        log.info("ready", parts=len(self._parts))

    async def stop(self) -> None:
        """Stops what was started, in reverse, within the bound."""
        self._serving = False
        deadline_s = self._clock.monotonic() + self._stop_timeout_s
        while self._started:
            part = self._started.pop()
            if part.stop is None:
                continue
            left_s = max(0.1, min(part.stop_timeout_s, deadline_s - self._clock.monotonic()))
            try:
                async with asyncio.timeout(left_s):
                    await part.stop()
            except TimeoutError:
                log.warning("part did not stop in time", part=part.name, timeout_s=left_s)
            except Exception:
                log.exception("part failed to stop", part=part.name)
        log.info("stopped")

    async def run(self) -> int:
        """Starts, waits for SIGTERM or SIGINT, stops. The exit code: 0, or 1 when a part that must live died."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.request_stop)
        await self.start()
        settle()
        await self._stop_requested.wait()
        await self.stop()
        for number in (signal.SIGTERM, signal.SIGINT):
            # It ends by itself now. Once the loop is closed a second signal would kill it, and whoever looks at the
            # exit code would take what it did for failed.
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)
        return 1 if self._failed else 0

    async def _supervise(self, name: str, run: Callable[[], Awaitable[None]], *, restart: bool) -> None:
        delay_s = _RESTART_DELAY_MIN_S
        while True:
            began_s = self._clock.monotonic()
            try:
                return await run()
            except Exception:
                if not restart:
                    log.exception("task died; the process stops", task=name)
                    self._failed = True
                    self.request_stop()
                    return None
                if self._clock.monotonic() - began_s > _RESTART_CALM_S:
                    delay_s = _RESTART_DELAY_MIN_S
                log.exception("task crashed; it starts again", task=name, delay_s=delay_s)
            await self._clock.sleep(delay_s)
            delay_s = min(delay_s * 2, _RESTART_DELAY_MAX_S)
