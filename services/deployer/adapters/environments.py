"""Environments for frameworks: virtual environments that uv makes, one for each set of requirements.

    environments/
        <framework>-<digest>/   one environment, whole once `environment.json` is in it
        <framework>-<digest>.lock
        cache/                  uv's own: wheels are there once, and environments link to them

A folder without its `environment.json` is what a build left that was interrupted; the next one begins anew. Whoever
builds holds the lock file, so deployers that share a disk build once. The time of `environment.json` says when it was
used last; whoever uses one says so every now and then.
"""

import asyncio
import fcntl
import json
import os
import shutil
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence, Set
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from services.common.clock import Clock
from services.common.errors import MeshError, Reason
from services.common.telemetry.logging import get_logger
from services.deployer.adapters.installer import Installer, Report
from services.deployer.domain.environment import FRAMEWORKS, Environment, lock_versions

log = get_logger(__name__)

TOUCH_EVERY_S = 3600.0
"""How often whoever uses environments says so."""
_KEEP_MIN_S = 4 * TOUCH_EVERY_S
_STAMP = "environment.json"
_BUILD_TIMEOUT_S = 1800.0
_BUILDS_MAX = 2
"""Builds at the same time: each takes the disk, the network and a core."""
_LOOK_AGAIN_S = 0.5
_SHOWN_MAX = 300


class UvEnvironments:
    """An `Environments`."""

    def __init__(self, folder: Path, installer: Installer, *, clock: Clock, keep_s: float) -> None:
        self._folder = folder
        self._installer = installer
        self._clock = clock
        self._keep_s = max(keep_s, _KEEP_MIN_S)
        self._locks = {name: self._lock_file(name).read_text() for name in FRAMEWORKS}
        self._locked = {name: lock_versions(lock) for name, lock in self._locks.items()}
        self._python = installer.python_identity
        self._digests = {name: Environment(name).key(lock, self._python) for name, lock in self._locks.items()}
        self._turns = asyncio.Semaphore(_BUILDS_MAX)

    def locked(self, framework: str) -> Mapping[str, str]:
        """The versions in the framework's lock file."""
        return self._locked[framework]

    def lock_digest(self, framework: str) -> str:
        """Tells one lock file of a framework, and one Python, from another."""
        return self._digests[framework]

    async def ensure(self, environment: Environment, report: Report) -> Path:
        """The environment's folder, built where it is not there; `report` is told how far that is.

        Raises ENVIRONMENT_FAILED where the requirements cannot be met, DEPENDENCY_UNAVAILABLE where the index or the
        disk is at fault.
        """
        place = self._folder / environment.key(self._locks[environment.framework], self._python)
        try:
            if await asyncio.to_thread(_is_whole, place):
                return place
            if self._turns.locked():
                await report(f"waiting for other environments to be built before that of {environment.framework}")
            async with self._turns, self._held(place) as lock:
                if not await asyncio.to_thread(_is_whole, place):
                    await self._build(environment, place, lock, report)
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
        return place

    async def touch(self, in_use: Iterable[Path]) -> None:
        """Says that these are used."""
        await asyncio.to_thread(lambda: [_is_whole(place) for place in in_use])

    async def prune(self, in_use: Set[Path]) -> Sequence[str]:
        """Removes environments that nothing uses and nothing has used for as long as they are kept; their names."""
        return await asyncio.to_thread(self._prune, in_use)

    async def _build(self, environment: Environment, place: Path, lock: int, report: Report) -> None:
        began_s = self._clock.monotonic()
        wanted = (", ".join(environment.requirements) or f"the lock file of {environment.framework}")[:_SHOWN_MAX]
        log.info("building an environment", environment=place.name, requirements=wanted)
        await report(f"building an environment with {wanted}")
        make = ["venv", "--no-project", "--python", str(self._installer.python), str(place)]
        python = str(place / "bin" / "python")
        try:
            async with asyncio.timeout(_BUILD_TIMEOUT_S):
                await asyncio.to_thread(shutil.rmtree, place, ignore_errors=True)
                await self._run(make, lock, report)
                what = await asyncio.to_thread(self._requirements, environment, place)
                install = ["pip", "install", "--python", python, *self._installer.options, *what]
                await self._run(install, lock, report)
            await asyncio.to_thread(_stamp, place, environment)
        except BaseException:
            # Without its stamp it is nothing. Whoever builds there next must not meet who is still taking it away.
            away = asyncio.ensure_future(asyncio.to_thread(shutil.rmtree, place, ignore_errors=True))
            while not away.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.shield(away)
            raise
        log.info("built an environment", environment=place.name, took_s=round(self._clock.monotonic() - began_s, 1))

    async def _run(self, command: Sequence[str], lock: int, report: Report) -> None:
        await self._installer.run(command, folder=self._folder, lock=lock, report=report, clock=self._clock)

    def _requirements(self, environment: Environment, place: Path) -> Sequence[str]:
        """What `uv pip install` is told to install."""
        if not environment.requirements:
            hashes = ["--require-hashes"] if "--hash=" in self._locks[environment.framework] else []
            return [*hashes, "-r", str(self._lock_file(environment.framework))]
        file = place / "requirements.txt"
        file.write_text("".join(f"{line}\n" for line in environment.requirements))
        return ["-r", str(file)]

    @asynccontextmanager
    async def _held(self, place: Path) -> AsyncIterator[int]:
        """Nobody else builds there, in whatever process. The descriptor of the lock, for those who build."""
        await asyncio.to_thread(self._folder.mkdir, parents=True, exist_ok=True)
        with place.with_name(place.name + ".lock").open("wb") as stream:
            while not _take(stream.fileno()):
                await self._clock.sleep(_LOOK_AGAIN_S)
            yield stream.fileno()

    def _lock_file(self, framework: str) -> Path:
        return self._installer.locks / f"{framework}.lock"

    def _prune(self, in_use: Set[Path]) -> Sequence[str]:
        kept = {path.resolve() for path in in_use}
        return [
            lock.stem
            for lock in sorted(self._folder.glob("*.lock"))
            if lock.with_suffix("").resolve() not in kept and self._removed(lock)
        ]

    def _removed(self, lock: Path) -> bool:
        """Removes what a lock file is of, whole or not, where nobody builds it and it has not been used for long."""
        place = lock.with_suffix("")
        with lock.open("rb") as stream, suppress(FileNotFoundError):
            if not _take(stream.fileno()):
                return False
            stamp = place / _STAMP
            used_s = (stamp if stamp.exists() else place).stat().st_mtime
            if self._clock.now().timestamp() - used_s <= self._keep_s:
                return False
            # Half of it must not look whole.
            stamp.unlink(missing_ok=True)
            shutil.rmtree(place, ignore_errors=True)
            return True
        return False


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
