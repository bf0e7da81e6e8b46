"""Workers on this machine: processes that this one starts, starts again when they die, and takes with it when it ends.

They are tied to this process by the kernel, so that none outlives it, however it ends. One that dies is started again
after a delay that grows while it keeps dying.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Mapping

from services.batch.worker.niceness import give_way_no_more
from services.common.clock import Clock
from services.common.telemetry.logging import get_logger
from services.common.tether import tethered

log = get_logger(__name__)

_STOP_TIMEOUT_S = 3.0
"""How long a worker may take to give back what it has."""
_DEATH_TIMEOUT_S = 1.0
"""How long one may take to end that is killed."""
_DELAY_MIN_S = 0.1
_DELAY_MAX_S = 5.0
_CALM_S = 30.0
"""One that lived for so long is started again after the shortest delay."""


class LocalWorkers:
    """A background task, `run`. `environment` is asked at each start for what a worker of that name is told."""

    def __init__(
        self, *, names: tuple[str, ...], environment: Callable[[str], Mapping[str, str]], clock: Clock
    ) -> None:
        self._names = names
        self._environment = environment
        self._clock = clock

    async def run(self) -> None:
        """Keeps all of them running until it is cancelled; then they are stopped, and killed where they take long."""
        async with asyncio.TaskGroup() as group:
            for name in self._names:
                group.create_task(self._keep(name), name=f"batch:keep:{name}")

    async def _keep(self, name: str) -> None:
        delay_s = _DELAY_MIN_S
        while True:
            began_s = self._clock.monotonic()
            process = await asyncio.create_subprocess_exec(
                *tethered((sys.executable, "-m", "services.batch.worker"), signal_number=signal.SIGKILL),
                stdin=asyncio.subprocess.DEVNULL,
                env=dict(self._environment(name)),
                start_new_session=True,
            )
            log.info("worker started", worker=name, pid=process.pid)
            try:
                code = await process.wait()
            except asyncio.CancelledError:
                await self._end(process)
                raise
            if self._clock.monotonic() - began_s > _CALM_S:
                delay_s = _DELAY_MIN_S
            log.warning("worker died; it starts again", worker=name, exit_code=code, delay_s=delay_s)
            await self._clock.sleep(delay_s)
            delay_s = min(2 * delay_s, _DELAY_MAX_S)

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(_STOP_TIMEOUT_S):
                await give_way_no_more(process.pid, clock=self._clock)
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        try:
            async with asyncio.timeout(_DEATH_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            log.warning("a worker was killed and has not ended yet", pid=process.pid, waited_s=_DEATH_TIMEOUT_S)


def environment_of(prefix: str, told: Mapping[str, object]) -> Mapping[str, str]:
    """This process's environment with what is told under `prefix`, and without its password to the database, for which
    a worker has no use."""
    own = {name: value for name, value in os.environ.items() if not name.endswith("_DATABASE_URL")}
    return own | {f"{prefix}{field.upper()}": str(value) for field, value in told.items()}
