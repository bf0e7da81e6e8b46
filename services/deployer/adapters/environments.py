"""Environments for frameworks: virtual environments that uv makes, one for each set of requirements.

    environments/
        <framework>-<digest>/   one environment, whole once `environment.json` is in it
        <framework>-<digest>.lock
        cache/                  uv's own: wheels are there once, and environments link to them

A folder without its `environment.json` is what a build left that was interrupted; the next one begins anew. Whoever
builds holds the lock file, so deployers that share a disk build once.
"""

import asyncio
import fcntl
import json
import os
import shutil
import signal
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence, Set
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from services.common.clock import Clock
from services.common.errors import MeshError, Reason
from services.common.telemetry.logging import get_logger
from services.deployer.domain.environment import FRAMEWORKS, Environment, lock_versions

log = get_logger(__name__)

Report = Callable[[str], Awaitable[None]]
_STAMP = "environment.json"
_BUILD_TIMEOUT_S = 3600.0
_LOOK_AGAIN_S = 0.5
_REPORT_EVERY_S = 2.0
_SAID_LINES = 12
_CARRIED = ("SSL_CERT_FILE", "SSL_CERT_DIR")
_NOT_TO_BE_HAD = ("No solution found", "was not found in the package registry", "hash mismatch", "Hash mismatch")
"""What uv says where trying again is no use; all else is taken for an index that does not answer."""


@dataclass(frozen=True)
class Installer:
    """Where packages come from, and for which Python."""

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
        index = ("--default-index", self.index) if self.index else ()
        return ("--only-binary", ":all:", *index, *(part for link in self.links for part in ("--find-links", link)))


class UvEnvironments:
    """An `Environments`."""

    def __init__(self, folder: Path, installer: Installer, *, clock: Clock, keep_s: float) -> None:
        self._folder = folder
        self._installer = installer
        self._clock = clock
        self._keep_s = keep_s
        self._locks = {name: self._lock_file(name).read_text() for name in FRAMEWORKS}
        self._turn = asyncio.Lock()
        """One at a time: a build takes the disk, the network and a core."""

    def locked(self, framework: str) -> Mapping[str, str]:
        """The versions in the framework's lock file."""
        return lock_versions(self._locks[framework])

    def lock_digest(self, framework: str) -> str:
        """Tells one lock file of a framework from another."""
        return Environment(framework).key(self._locks[framework], "")

    async def ensure(self, environment: Environment, report: Report) -> Path:
        """The environment's folder, built where it is not there; `report` is told how far that is.

        Raises ENVIRONMENT_FAILED where the requirements cannot be met, DEPENDENCY_UNAVAILABLE where the index or the
        disk is at fault.
        """
        lock = self._locks[environment.framework]
        place = self._folder / environment.key(lock, str(self._installer.python))
        if await asyncio.to_thread(_is_whole, place):
            return place
        if self._turn.locked():
            await report(f"waiting for another environment to be built before that of {environment.framework}")
        async with self._turn, self._held(place):
            if not await asyncio.to_thread(_is_whole, place):
                await self._build(environment, place, report)
        return place

    async def prune(self, in_use: Set[Path]) -> Sequence[str]:
        """Removes environments that nothing uses and nothing has used for as long as they are kept; their names."""
        return await asyncio.to_thread(self._prune, {path.resolve() for path in in_use})

    async def _build(self, environment: Environment, place: Path, report: Report) -> None:
        began_s = self._clock.monotonic()
        wanted = ", ".join(environment.requirements) or f"the lock file of {environment.framework}"
        log.info("building an environment", environment=place.name, requirements=wanted)
        await report(f"building an environment with {wanted}")
        uv = str(self._installer.uv)
        make = (uv, "venv", "--no-project", "--python", str(self._installer.python), str(place))
        install = (uv, "pip", "install", "--python", str(place / "bin" / "python"), *self._installer.options)
        try:
            async with asyncio.timeout(_BUILD_TIMEOUT_S):
                await asyncio.to_thread(shutil.rmtree, place, ignore_errors=True)
                await self._run(make, report)
                what = await asyncio.to_thread(self._requirements, environment, place)
                await self._run([*install, *what], report)
            await asyncio.to_thread(_stamp, place, environment)
        except TimeoutError:
            raise MeshError(
                Reason.DEPENDENCY_UNAVAILABLE,
                f"the environment was not built within {_BUILD_TIMEOUT_S:.0f} s; see whether the package index answers",
            ) from None
        except OSError as error:
            raise MeshError(
                Reason.DEPENDENCY_UNAVAILABLE,
                f"the environment cannot be written ({error.strerror}); make room on the deployer's disk",
            ) from error
        except MeshError:
            await asyncio.to_thread(shutil.rmtree, place, ignore_errors=True)
            raise
        log.info("built an environment", environment=place.name, took_s=round(self._clock.monotonic() - began_s, 1))

    def _requirements(self, environment: Environment, place: Path) -> Sequence[str]:
        """What `uv pip install` is told to install."""
        lock = self._lock_file(environment.framework)
        if not environment.requirements:
            hashes = ["--require-hashes"] if "--hash=" in self._locks[environment.framework] else []
            return [*hashes, "-r", str(lock)]
        file = place / "requirements.txt"
        file.write_text("".join(f"{line}\n" for line in environment.requirements))
        return ["-r", str(file)]

    async def _run(self, command: Sequence[str], report: Report) -> None:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=self._environment(),
            cwd=self._folder,
            start_new_session=True,
        )
        said: deque[str] = deque(maxlen=_SAID_LINES)
        try:
            await self._listen(process, said, report)
            code = await process.wait()
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        if code != 0:
            raise _failed(" ".join(said))

    async def _listen(self, process: asyncio.subprocess.Process, said: deque[str], report: Report) -> None:
        assert process.stderr is not None
        told_s = self._clock.monotonic()
        async for line in process.stderr:
            text = line.decode(errors="replace").strip()
            if text:
                said.append(text[:500])
            if text and self._clock.monotonic() - told_s >= _REPORT_EVERY_S:
                told_s = self._clock.monotonic()
                await report(text[:200])

    def _environment(self) -> Mapping[str, str]:
        carried = {name: os.environ[name] for name in _CARRIED if name in os.environ}
        proxy = self._installer.proxy
        return {
            **carried,
            **({"HTTP_PROXY": proxy, "HTTPS_PROXY": proxy} if proxy else {}),
            "PATH": os.defpath,
            "LANG": "C.UTF-8",
            "HOME": str(self._folder),
            "UV_CACHE_DIR": str(self._folder / "cache"),
            "UV_PYTHON_DOWNLOADS": "never",
            "UV_NO_PROGRESS": "1",
        }

    @asynccontextmanager
    async def _held(self, place: Path) -> AsyncIterator[None]:
        """Nobody else builds there, in whatever process."""
        await asyncio.to_thread(self._folder.mkdir, parents=True, exist_ok=True)
        with place.with_name(place.name + ".lock").open("wb") as stream:
            while not _take(stream.fileno()):
                await self._clock.sleep(_LOOK_AGAIN_S)
            yield

    def _lock_file(self, framework: str) -> Path:
        return self._installer.locks / f"{framework}.lock"

    def _prune(self, in_use: Set[Path]) -> Sequence[str]:
        removed = []
        for stamp in sorted(self._folder.glob(f"*/{_STAMP}")):
            place = stamp.parent
            with place.with_name(place.name + ".lock").open("wb") as stream:
                old = self._clock.now().timestamp() - stamp.stat().st_mtime > self._keep_s
                if place.resolve() in in_use or not old or not _take(stream.fileno()):
                    continue
                # Half of it must not look whole.
                stamp.unlink()
                shutil.rmtree(place, ignore_errors=True)
                removed.append(place.name)
        return removed


def _is_whole(place: Path) -> bool:
    """Whether it was built to its end; notes that it is used."""
    try:
        os.utime(place / _STAMP)
    except FileNotFoundError:
        return False
    return True


def _stamp(place: Path, environment: Environment) -> None:
    said = {"framework": environment.framework, "requirements": environment.requirements}
    half = place / f"{_STAMP}.half"
    half.write_text(json.dumps(said, indent=1) + "\n")
    half.replace(place / _STAMP)


def _take(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _failed(said: str) -> MeshError:
    if any(words in said for words in _NOT_TO_BE_HAD):
        return MeshError(
            Reason.ENVIRONMENT_FAILED,
            f"the version's requirements cannot be installed: {said[:1500]}; register it anew with requirements that "
            "fit together and have wheels for this Python",
        )
    return MeshError(
        Reason.DEPENDENCY_UNAVAILABLE,
        f"the environment cannot be built: {said[:1500]}; see whether the package index answers",
        retry_after_s=5.0,
    )
