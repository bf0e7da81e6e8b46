"""Running uv: one command at a time, heard while it runs, ended when whoever asked for it goes away."""

import asyncio
import os
import re
import signal
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from services.common.clock import Clock
from services.common.errors import MeshError, Reason

Report = Callable[[str], Awaitable[None]]
_REPORT_EVERY_S = 2.0
_FIRST_LINES, _LAST_LINES = 6, 6
_LINE_LENGTH_MAX = 500
_CARRIED = ("SSL_CERT_FILE", "SSL_CERT_DIR")
_NOT_TO_BE_HAD = re.compile(
    "No solution found|was not found in the package registry|[Hh]ash mismatch|Couldn't parse|are unsatisfiable"
)
"""What uv says where trying again is no use; all else is taken for an index that does not answer."""


@dataclass(frozen=True)
class Installer:
    """uv, where packages come from, and for which Python."""

    uv: Path
    python: Path
    """The interpreter of the model servers; models run in the same version of Python."""
    locks: Path
    """The folder with a lock file for each framework."""
    index: str = ""
    """URL of the package index; empty: PyPI, or what uv is configured to use."""
    links: Sequence[str] = field(default_factory=tuple)
    """Folders and pages with further wheels."""
    proxy: str = ""
    """URL of the proxy to ask the index through; empty: none."""

    @property
    def options(self) -> Sequence[str]:
        """Options of uv that say where packages come from. Wheels alone: building from source would run code."""
        return ("--only-binary", ":all:", *(part for link in self.links for part in ("--find-links", link)))

    @property
    def python_identity(self) -> str:
        """Tells one Python from another, also where a new one took the old one's place."""
        real = self.python.resolve()
        return f"{self.python} {real} {real.stat().st_mtime_ns}"

    async def run(self, command: Sequence[str], *, folder: Path, lock: int, report: Report, clock: Clock) -> None:
        """Runs a command of uv in `folder`, which holds `lock` for as long as it lives, even if this process dies.

        Raises ENVIRONMENT_FAILED or DEPENDENCY_UNAVAILABLE, in uv's words.
        """
        process = await asyncio.create_subprocess_exec(
            str(self.uv),
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=self._environment(folder),
            cwd=folder,
            start_new_session=True,
            pass_fds=(lock,),
        )
        said = Said()
        try:
            assert process.stderr is not None
            told_s = clock.monotonic()
            async for line in process.stderr:
                text = line.decode(errors="replace").strip()
                said.add(text)
                if text and clock.monotonic() - told_s >= _REPORT_EVERY_S:
                    told_s = clock.monotonic()
                    await report(text[:200])
            code = await process.wait()
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        if code != 0:
            raise said.error()

    def _environment(self, folder: Path) -> Mapping[str, str]:
        carried = {name: os.environ[name] for name in _CARRIED if name in os.environ}
        # Not on the command line, which everybody sees: the URLs may hold passwords.
        index = {"UV_DEFAULT_INDEX": self.index} if self.index else {}
        proxy = {"HTTP_PROXY": self.proxy, "HTTPS_PROXY": self.proxy} if self.proxy else {}
        return {
            **carried,
            **index,
            **proxy,
            "PATH": os.defpath,
            "LANG": "C.UTF-8",
            "HOME": str(folder),
            "UV_CACHE_DIR": str(folder / "cache"),
            "UV_PYTHON_DOWNLOADS": "never",
            "UV_NO_PROGRESS": "1",
        }


class Said:
    """What uv said: its first lines, which have the cause, and its last ones."""

    def __init__(self) -> None:
        self._first: list[str] = []
        self._last: deque[str] = deque(maxlen=_LAST_LINES)
        self._in_vain = False

    def add(self, line: str) -> None:
        """Another line."""
        if not line:
            return
        self._in_vain = self._in_vain or _NOT_TO_BE_HAD.search(line) is not None
        if len(self._first) < _FIRST_LINES:
            self._first.append(line[:_LINE_LENGTH_MAX])
        else:
            self._last.append(line[:_LINE_LENGTH_MAX])

    def error(self) -> MeshError:
        """The failure that it tells of."""
        said = " ".join([*self._first, *self._last])
        if self._in_vain:
            return MeshError(
                Reason.ENVIRONMENT_FAILED,
                f"the version's requirements cannot be installed: {said}; register it anew with requirements that fit "
                "together and have wheels for this Python",
            )
        return MeshError(
            Reason.DEPENDENCY_UNAVAILABLE,
            f"the environment cannot be built: {said}; see whether the package index answers",
            retry_after_s=5.0,
        )
