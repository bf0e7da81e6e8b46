"""A running part: started so that it dies with its parent, awaited until it is ready, stopped within its bound."""

import asyncio
import contextlib
import os
import signal
import socket
from pathlib import Path

from services.common.clock import Clock
from services.common.tether import tethered
from services.supervisor.domain.last_words import sentence_of
from services.supervisor.parts.part import Part
from services.supervisor.ports import variable_of

_PROBE_EVERY_S = 0.03
_LAST_WORDS_BYTES = 4000
_LOG_KEPT_BYTES = 64 * 1024 * 1024


class PartFailedError(Exception):
    """A part could not be started or died; the message is one sentence for a person, with what to do."""


class Process:
    """One start of a part."""

    def __init__(self, part: Part, process: asyncio.subprocess.Process, clock: Clock) -> None:
        self.part = part
        self._process = process
        self._clock = clock
        self._stopped = False

    @staticmethod
    async def start(part: Part, *, clock: Clock) -> "Process":
        """Spawns the part. Raises PartFailedError where a port of it is taken or its program is missing."""
        for purpose, port in part.ports.items():
            _check_free(part.name, purpose, port)
        _check_there(part)
        part.log_path.parent.mkdir(parents=True, exist_ok=True)
        if part.log_path.exists() and part.log_path.stat().st_size > _LOG_KEPT_BYTES:
            part.log_path.rename(part.log_path.with_suffix(".log.1"))
        with part.log_path.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *tethered(part.argv, signal_number=part.stop_signal, uid=part.uid),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=part.cwd,
                env=dict(part.env),
                # Of its own group, so that Ctrl-C reaches the supervisor alone and the order of the stop is ours. Not
                # of its own session: Linux shares processors out among sessions first (autogroups), and the processes
                # of models are of their server's: what is just being loaded would take from what answers.
                process_group=0,
            )
        return Process(part, process, clock)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.returncode is None

    async def wait(self) -> int:
        """Its exit code, once it has one; negative for a signal."""
        return await self._process.wait()

    async def wait_ready(self) -> None:
        """Returns when the part answers. Raises PartFailedError, with its last words, when it died or took too long."""
        deadline_s = self._clock.monotonic() + self.part.ready_timeout_s
        while not await self._answers():
            if not self.alive:
                raise PartFailedError(
                    f"{self.part.name} died while starting (exit code {self._process.returncode}): "
                    f"{last_words(self.part.log_path)}; its log is {self.part.log_path}"
                )
            if self._clock.monotonic() > deadline_s:
                raise PartFailedError(
                    f"{self.part.name} was not ready within {self.part.ready_timeout_s:.0f} s: "
                    f"{last_words(self.part.log_path)}; its log is {self.part.log_path}"
                )
            await self._clock.sleep(_PROBE_EVERY_S)

    async def stop(self) -> None:
        """Asks it to stop and waits; kills it, with all that it started, when its time is over. A second time it does
        nothing: by then its number may be another's."""
        if self._stopped:
            return
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(self.part.stop_signal)
            try:
                async with asyncio.timeout(self.part.stop_timeout_s):
                    await self._process.wait()
            except TimeoutError:
                pass
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        await self._process.wait()
        self._stopped = True
        self.part.after_stop()

    async def _answers(self) -> bool:
        if not self.alive:
            return False
        try:
            return await self.part.ready()
        except (OSError, TimeoutError):
            return False


def last_words(log_path: Path) -> str:
    """What a log says last, for a one-sentence failure."""
    try:
        with log_path.open("rb") as log:
            log.seek(max(0, log_path.stat().st_size - _LAST_WORDS_BYTES))
            tail = log.read().decode(errors="replace")
    except OSError:
        tail = ""
    return sentence_of(tail)


def _check_there(part: Part) -> None:
    if not Path(part.argv[0]).exists():
        raise PartFailedError(f"{part.name} cannot start: {part.argv[0]} is missing; run `make setup` again")


def _check_free(name: str, purpose: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            variable = variable_of(purpose)
            other = f", or choose another port with {variable}" if variable else ""
            raise PartFailedError(
                f"port {port}, which {name} needs, is taken; stop what listens there "
                f"(`ss -ltnp 'sport = :{port}'` names it){other}"
            ) from None
