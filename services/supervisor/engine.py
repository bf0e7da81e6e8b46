"""Starts the parts of a mesh in order, keeps them running, stops them in reverse.

Parts come in stages: those of one stage start together, the next stage starts when all of them are ready. A part that
dies later is started again; one that is vital and keeps dying ends the mesh, because a supervisor that hides it helps
nobody. Others are tried again for ever, and each time is said.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from services.common.clock import Clock
from services.supervisor.domain.restarts import GiveUp, decide_restart
from services.supervisor.holds import Holds, NoHolds
from services.supervisor.parts.part import Part
from services.supervisor.process import PartFailedError, Process, last_words

_DEATHS_KEPT = 32
"""More than count in any decision: a part that is not vital may die for weeks."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A part answers, as process `pid`, `seconds` after it was started."""

    part: Part
    pid: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Died:
    """A part died on its own and starts again after `delay_s`."""

    part: Part
    exit_code: int
    delay_s: float


@dataclass(frozen=True, slots=True)
class Held:
    """A part that died stays down until whoever holds it lets it go."""

    part: Part


@dataclass(frozen=True, slots=True)
class Stopped:
    """A part was stopped, because the mesh stops."""

    part: Part


Event = Ready | Died | Held | Stopped


class Reporter(Protocol):
    """Is told what happens, as it happens; must not block."""

    def saw(self, event: Event) -> None:
        """Something happened to a part."""


class Supervisor:
    """Runs stages of parts."""

    def __init__(
        self,
        stages: Sequence[Sequence[Part]],
        *,
        clock: Clock,
        reporters: Sequence[Reporter],
        holds: Holds | None = None,
    ) -> None:
        self._stages = stages
        self._clock = clock
        self._reporters = reporters
        self._holds = holds or NoHolds()
        self._running: dict[str, Process] = {}
        self._watchers: list[asyncio.Task[None]] = []
        self._gave_up = asyncio.Event()
        self._failure = ""

    async def start(self) -> None:
        """Returns when every part is ready. Raises PartFailedError, with all that had started stopped again."""
        self._gave_up.clear()
        try:
            for stage in self._stages:
                starts = [asyncio.create_task(self._start(part), name=f"start:{part.name}") for part in stage]
                try:
                    await asyncio.gather(*starts)
                finally:
                    for one in starts:
                        one.cancel()
                    await asyncio.gather(*starts, return_exceptions=True)
        except BaseException:
            await self.stop()
            raise

    async def watch(self) -> None:
        """Returns never. Raises PartFailedError when a part keeps dying, or has before. May be cancelled and called
        again, also by several at once."""
        await self._gave_up.wait()
        raise PartFailedError(self._failure)

    async def stop(self) -> None:
        """Stops everything, the last stage first, each part within its own bound."""
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        self._watchers.clear()
        for stage in reversed(self._stages):
            await asyncio.gather(*(self._stop(part) for part in stage))

    async def _start(self, part: Part) -> None:
        await self._launch(part)
        self._watchers.append(asyncio.create_task(self._keep(part), name=f"keep:{part.name}"))

    async def _launch(self, part: Part) -> None:
        began_s = self._clock.monotonic()
        process = await Process.start(part, clock=self._clock)
        self._running[part.name] = process
        await process.wait_ready()
        self._tell(Ready(part, process.pid, self._clock.monotonic() - began_s))

    async def _keep(self, part: Part) -> None:
        deaths_s: deque[float] = deque(maxlen=_DEATHS_KEPT)
        while True:
            process = self._running[part.name]
            exit_code = await process.wait()
            await process.stop()  # whatever it left of its own process group
            deaths_s.append(self._clock.monotonic())
            decision = decide_restart(deaths_s, vital=part.vital)
            if isinstance(decision, GiveUp):
                self._fail(
                    f"{part.name} died {decision.deaths} times within a minute, the last time with exit code "
                    f"{exit_code}: {last_words(part.log_path)}; its log is {part.log_path}"
                )
                return
            self._tell(Died(part, exit_code, decision.delay_s))
            await self._clock.sleep(decision.delay_s)
            if self._holds.held(part.name):
                self._tell(Held(part))
                await self._holds.released(part.name)
            # Not ready in time is a death like any other: the loop sees the exit code of the process that was stopped.
            # So is a machine that can start no process, or write no log, just now.
            with contextlib.suppress(PartFailedError, OSError):
                await self._launch(part)
                continue
            await self._running[part.name].stop()

    async def _stop(self, part: Part) -> None:
        process = self._running.pop(part.name, None)
        if process is not None:
            await process.stop()
            self._tell(Stopped(part))

    def _tell(self, event: Event) -> None:
        for reporter in self._reporters:
            # A full disk or a closed terminal keeps no part down.
            with contextlib.suppress(OSError):
                reporter.saw(event)

    def _fail(self, message: str) -> None:
        if not self._gave_up.is_set():
            self._failure = message
            self._gave_up.set()
