"""Artifacts that the registry gave out, kept in a folder by their digest: fetched once, gone on with after a break.

What a package of the model repository is made of stays; of the rest the least recently used goes first once there are
too many bytes. Which digests those are is read out of the repository, so nothing has to be remembered over a restart.
"""

import asyncio
import hashlib
import os
from collections.abc import Callable, Iterator, Set
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from services.common.errors import MeshError, Reason
from services.common.telemetry.logging import get_logger
from services.deployer.ports import ArtifactSource

log = get_logger(__name__)

_PIECE_WAIT_S = 60.0
"""A registry that sends nothing for longer has gone."""
_CHUNK_BYTES = 1024 * 1024
_PART = ".part"


@dataclass
class _Turn:
    """One at a time fetches a digest. A lock alone looks free while who waits for it has not woken up yet."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    callers: int = 0


class ArtifactCache:
    """The folder. One process at a time uses it."""

    def __init__(self, folder: Path, *, source: ArtifactSource, bytes_max: int, pinned: Callable[[], Set[str]]) -> None:
        self._folder = folder
        self._source = source
        self._bytes_max = bytes_max
        self._pinned = pinned
        self._fetching: dict[str, _Turn] = {}

    async def start(self) -> None:
        """Makes the folder."""
        await asyncio.to_thread(self._folder.mkdir, parents=True, exist_ok=True)

    async def path(self, digest: str) -> Path:
        """The file of that digest, fetched where it is not there. Who uses it checks its digest.

        Raises ARTIFACT_NOT_FOUND, ARTIFACT_CORRUPT, and DEPENDENCY_UNAVAILABLE where the registry is away or there is
        no room; what has come stays then, and the next call goes on from there.
        """
        turn = self._fetching.setdefault(digest, _Turn())
        turn.callers += 1
        try:
            async with turn.lock:
                place = self._folder / digest
                with _disk_errors(digest):
                    if not await asyncio.to_thread(_used_now, place):
                        await self._fetch(digest, place)
                return place
        finally:
            turn.callers -= 1
            if not turn.callers:
                self._fetching.pop(digest, None)

    async def drop(self, digest: str) -> None:
        """Takes away a file that is not what it should be."""
        await asyncio.to_thread((self._folder / digest).unlink, missing_ok=True)

    async def _fetch(self, digest: str, place: Path) -> None:
        part = place.with_name(digest + _PART)
        size_bytes = await self._source.size(digest)
        await asyncio.to_thread(self._make_room, size_bytes, digest)
        seen, offset = await asyncio.to_thread(_begun, part, size_bytes)
        log.info("fetching an artifact", digest=digest, size_bytes=size_bytes, offset_bytes=offset)
        await self._receive(digest, part, seen, offset)
        if seen.hexdigest() != digest:
            await asyncio.to_thread(part.unlink)
            raise MeshError(
                Reason.ARTIFACT_CORRUPT,
                f"the artifact {digest} came from the registry with SHA-256 {seen.hexdigest()}; "
                "register it again from where it was made",
                metadata={"artifact_digest": digest},
            )
        await asyncio.to_thread(_settle, part, place)

    async def _receive(self, digest: str, part: Path, seen: "hashlib._Hash", offset: int) -> None:
        stream = await asyncio.to_thread(part.open, "ab")
        try:
            # Closed however this ends, so that a disk that is full leaves no download open.
            async with aclosing(self._source.pieces(digest, offset_bytes=offset)) as pieces:
                while True:
                    async with asyncio.timeout(_PIECE_WAIT_S):
                        piece = await anext(pieces, None)
                    if piece is None:
                        return
                    await asyncio.to_thread(_add, stream.write, seen.update, piece)
        except TimeoutError as error:
            raise MeshError(
                Reason.DEPENDENCY_UNAVAILABLE,
                f"the registry sent nothing of the artifact {digest} for {_PIECE_WAIT_S:g} s; what came is kept",
                retry_after_s=1.0,
            ) from error
        finally:
            await asyncio.to_thread(stream.close)

    def _make_room(self, size_bytes: int, digest: str) -> None:
        """Removes what was used the longest ago until so much more fits; never what is in use."""
        kept = {*self._pinned(), *self._fetching, digest}
        entries = []
        for path in self._folder.iterdir():
            with suppress(FileNotFoundError):
                status = path.stat()
                entries.append((status.st_mtime_ns, status.st_size, path))
        total = sum(size for _, size, path in entries if path.name.removesuffix(_PART) != digest)
        for _, size, path in sorted(entries):
            if total + size_bytes <= self._bytes_max:
                return
            if path.name.removesuffix(_PART) not in kept:
                path.unlink(missing_ok=True)
                total -= size
                log.info("an artifact made room for another", digest=path.name, size_bytes=size)
        if total + size_bytes > self._bytes_max:
            raise MeshError(
                Reason.DEPENDENCY_UNAVAILABLE,
                f"the artifact {digest} has {size_bytes} bytes, and {total} of the {self._bytes_max} that the deployer "
                "keeps are of versions that are deployed; raise INFERMESH_DEPLOYER_ARTIFACT_CACHE_BYTES_MAX, or remove "
                "deployments",
                retry_after_s=30.0,
            )


@contextmanager
def _disk_errors(digest: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MeshError(
            Reason.DEPENDENCY_UNAVAILABLE,
            f"the artifact {digest} cannot be kept in the deployer's data_dir ({error.strerror}); make room and see to "
            "its rights",
            retry_after_s=30.0,
        ) from error


def _used_now(place: Path) -> bool:
    """Whether the file is there; it is the most recently used one then."""
    try:
        os.utime(place)
    except FileNotFoundError:
        return False
    return True


def _begun(part: Path, size_bytes: int) -> "tuple[hashlib._Hash, int]":
    """The hash of what came before the break, and how much that is."""
    seen, offset = hashlib.sha256(), 0
    with suppress(FileNotFoundError), part.open("rb") as stream:
        while piece := stream.read(_CHUNK_BYTES):
            seen.update(piece)
            offset += len(piece)
    if offset > size_bytes:
        part.unlink()
        return hashlib.sha256(), 0
    return seen, offset


def _add(write: Callable[[bytes], object], update: Callable[[bytes], object], piece: bytes) -> None:
    write(piece)
    update(piece)


def _settle(part: Path, place: Path) -> None:
    """Gives a file its name, read-only: packages are links to it."""
    part.chmod(0o444)
    part.rename(place)
