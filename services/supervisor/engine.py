"""Starts the parts of a mesh in order, keeps them running, stops them in reverse.

Parts come in stages: those of one stage start together, the next stage starts when all of them are ready. A part that
dies later is started again; one that keeps dying ends the mesh, because a supervisor that hides a broken part helps nobody.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Protocol

from services.common.clock import Clock
from services.supervisor.domain.restarts import GiveUp, decide_restart
from services.supervisor.parts.part import Part
from services.supervisor.process import PartFailedError, Process, last_words


class Reporter(Protocol):
    """Shows a person what happens."""

    def starting(self, part: Part) -> None:
        """A part was started and is not ready yet."""

    def ready(self, part: Part, seconds: float) -> None:
        """A part is ready, `seconds` after it was started."""

    def died(self, part: Part, exit_code: int, delay_s: float) -> None:
        """A part died and starts again after `delay_s`."""

    def stopped(self, part: Part) -> None:
        """A part was stopped."""


class Supervisor:
    """Runs stages of parts."""

    def __init__(self, stages: Sequence[Sequence[Part]], *, clock: Clock, reporter: Reporter) -> None:
        self._stages = stages
        self._clock = clock
        self._reporter = reporter
        self._running: dict[str, Process] = {}
        self._watchers: list[asyncio.Task[None]] = []
        self._failure: asyncio.Future[None] | None = None

    def pids(self) -> dict[str, int]:
        """The process id of each part that runs."""
        return {name: process.pid for name, process in self._running.items() if process.alive}

    async def start(self) -> None:
        """Returns when every part is ready. Raises PartFailedError, with all that had started stopped again."""
        self._failure = asyncio.get_running_loop().create_future()
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
        """Returns never. Raises PartFailedError when a part keeps dying."""
        assert self._failure is not None
        await self._failure

    async def stop(self) -> None:
        """Stops everything, the last stage first, each part within its own bound."""
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        self._watchers.clear()
        for stage in reversed(self._stages):
            await asyncio.gather(*(self._stop(part) for part in stage))
        if self._failure is not None:
            self._failure.cancel()

    async def _start(self, part: Part) -> None:
        await self._launch(part)
        self._watchers.append(asyncio.create_task(self._keep(part), name=f"keep:{part.name}"))

    async def _launch(self, part: Part) -> None:
        self._reporter.starting(part)
        began_s = self._clock.monotonic()
        process = await Process.start(part, clock=self._clock)
        self._running[part.name] = process
        await process.wait_ready()
        self._reporter.ready(part, self._clock.monotonic() - began_s)

    async def _keep(self, part: Part) -> None:
        deaths_s: list[float] = []
        while True:
            process = self._running[part.name]
            exit_code = await process.wait()
            await process.stop()  # whatever it left of its own process group
            deaths_s.append(self._clock.monotonic())
            decision = decide_restart(deaths_s)
            if isinstance(decision, GiveUp):
                self._fail(
                    f"{part.name} died {decision.deaths} times within a minute, the last time with exit code "
                    f"{exit_code}: {last_words(part.log_path)}; its log is {part.log_path}"
                )
                return
            self._reporter.died(part, exit_code, decision.delay_s)
            await self._clock.sleep(decision.delay_s)
            # Not ready in time is a death like any other: the loop sees the exit code of the process that was stopped.
            with contextlib.suppress(PartFailedError):
                await self._launch(part)
                continue
            await self._running[part.name].stop()

    async def _stop(self, part: Part) -> None:
        process = self._running.pop(part.name, None)
        if process is not None:
            await process.stop()
            self._reporter.stopped(part)

    def _fail(self, message: str) -> None:
        if self._failure is not None and not self._failure.done():
            self._failure.set_exception(PartFailedError(message))
