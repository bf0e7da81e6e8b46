"""The artifact store as files: `artifacts/sha256/<2 digits>/<digest>`, read-only, named by what is in them.

An artifact is written to a file of its own under `artifacts/incoming`, synced, and renamed to its digest. So under a
digest stands nothing or all of it, whatever dies when. Whoever writes a file in `incoming` holds a lock on it; a start
clears those that nobody holds, and leaves alone what another process writes.
"""

import asyncio
import errno
import fcntl
import hashlib
import os
import secrets
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from services.common.errors import MeshError, Reason
from services.common.telemetry.logging import get_logger
from services.registry.domain.artifact_uri import ArtifactPlace, filename_of
from services.registry.domain.version import Artifact, Stored

log = get_logger(__name__)

_CHUNK_BYTES = 1024 * 1024
_GZIP = b"\x1f\x8b"
_TAR_ENDINGS = (".tar.gz", ".tgz")


class FileArtifactStore:
    """An `ArtifactStore`."""

    def __init__(self, folder: Path, *, bytes_max: int, copies_max: int) -> None:
        self._folder = folder.absolute() / "artifacts"
        self._incoming = self._folder / "incoming"
        self._bytes_max = bytes_max
        self._turns = asyncio.Semaphore(copies_max)

    async def start(self) -> None:
        """Makes the folders and clears what interrupted copies left."""
        await asyncio.to_thread(self._start)

    def path_of(self, digest: str) -> str:
        """Absolute path of the copy."""
        return str(self._place(digest))

    async def find(self, digest: str) -> Stored | None:
        """What the file system knows of the copy."""
        return await asyncio.to_thread(self._find, digest)

    async def keep(self, place: ArtifactPlace, *, digest: str = "") -> Artifact:
        """Takes a copy, off the event loop; a caller who goes away stops it at the next piece."""
        stop = threading.Event()
        async with self._turns:
            try:
                return await asyncio.to_thread(self._keep, place, digest, stop)
            except asyncio.CancelledError:
                stop.set()
                raise

    def _start(self) -> None:
        self._incoming.mkdir(parents=True, exist_ok=True)
        _sync_folder(self._folder)
        for left in self._incoming.iterdir():
            with suppress(OSError), left.open("rb") as stream:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                left.unlink()
                log.info("interrupted copy cleared", file=left.name)

    def _find(self, digest: str) -> Stored | None:
        try:
            with FileIO(self._place(digest)) as stream:
                status = os.fstat(stream.fileno())
                kind = _kind(stream, "")
        except FileNotFoundError:
            return None
        return Stored(digest, kind, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))

    def _place(self, digest: str) -> Path:
        return self._folder / "sha256" / digest[:2] / digest

    def _keep(self, place: ArtifactPlace, digest: str, stop: threading.Event) -> Artifact:
        source = Path(place.path) if place.path else self._place(place.digest)
        with _opened(source, place) as stream:
            if not place.path:
                return self._kept(place.digest, stream, digest)
            kind = _kind(stream, filename_of(place))
            with self._copying() as (target, copy):
                seen, size_bytes = self._copy(stream, copy, source, stop)
                _check_digest(seen, digest, str(source))
                copy.flush()
                os.fsync(copy.fileno())
                self._put(target, seen)
        return Artifact(seen, kind, filename_of(place), size_bytes)

    def _kept(self, kept: str, stream: FileIO, digest: str) -> Artifact:
        """An artifact that is there already, checked to be whole."""
        seen = hashlib.file_digest(stream, "sha256").hexdigest()
        if seen != kept:
            raise MeshError(
                Reason.ARTIFACT_CORRUPT,
                f"the stored artifact {kept} has SHA-256 {seen}; restore {self._place(kept)} from a backup, or "
                "register it again from where it came",
                metadata={"artifact_digest": kept},
            )
        _check_digest(seen, digest, f"artifact://sha256/{kept}")
        kind = _kind(stream, "")
        return Artifact(seen, kind, "", stream.seek(0, os.SEEK_END))

    @contextmanager
    def _copying(self) -> Iterator[tuple[Path, BinaryIO]]:
        """A new locked file in `incoming`, gone at the end unless it was renamed away."""
        target = self._incoming / secrets.token_hex(16)
        try:
            with _store_errors(), target.open("xb") as copy:
                fcntl.flock(copy, fcntl.LOCK_EX)
                yield target, copy
        finally:
            target.unlink(missing_ok=True)

    def _copy(self, stream: FileIO, copy: BinaryIO, source: Path, stop: threading.Event) -> tuple[str, int]:
        digest, size_bytes = hashlib.sha256(), 0
        buffer = memoryview(bytearray(_CHUNK_BYTES))
        while True:
            try:
                count = stream.readinto(buffer)
            except OSError as error:
                raise _unreadable(source, error) from error
            if not count:
                return digest.hexdigest(), size_bytes
            size_bytes += count
            if size_bytes > self._bytes_max:
                raise MeshError(
                    Reason.ARTIFACT_INVALID,
                    f"the artifact {source} has more than the {self._bytes_max} bytes that are taken; "
                    "raise INFERMESH_REGISTRY_ARTIFACT_BYTES_MAX if it is meant to be so large",
                )
            if stop.is_set():
                raise MeshError(Reason.CALLER_CANCELLED, f"the copy of {source} was given up by its caller")
            digest.update(buffer[:count])
            copy.write(buffer[:count])

    def _put(self, target: Path, digest: str) -> None:
        """Gives a synced copy its name, unless the same bytes stand there already."""
        place = self._place(digest)
        if _has(place, digest):
            return
        new_folder = not place.parent.is_dir()
        place.parent.mkdir(parents=True, exist_ok=True)
        target.chmod(0o444)
        target.replace(place)
        # The names must be as durable as the bytes before a row speaks of them.
        for folder in (place.parent, *((place.parent.parent, self._folder) if new_folder else ())):
            _sync_folder(folder)


def _opened(source: Path, place: ArtifactPlace) -> FileIO:
    """The file, open for reading; only a plain one, so that no pipe or device can hold a thread for good."""
    try:
        descriptor = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        if place.digest:
            raise MeshError(
                Reason.ARTIFACT_NOT_FOUND,
                f"no artifact {place.digest} is kept; register the version from a path or file:// URI",
                metadata={"artifact_digest": place.digest},
            ) from error
        raise _unreadable(source, error) from error
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return FileIO(descriptor)
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise MeshError(
            Reason.NOT_IMPLEMENTED,
            f"the artifact {source} is a folder, which cannot be registered yet; "
            "register a single file, for ONNX with the weights inside",
        )
    raise MeshError(Reason.ARTIFACT_NOT_FOUND, f"the artifact {source} is no plain file; give the path of one")


def _kind(stream: FileIO, filename: str) -> str:
    """How the artifact is packed. Leaves the stream at its beginning."""
    stream.seek(0)
    begins = stream.read(len(_GZIP))
    stream.seek(0)
    return "tar.gz" if begins == _GZIP and (not filename or filename.endswith(_TAR_ENDINGS)) else "file"


def _has(place: Path, digest: str) -> bool:
    """Whether the right bytes stand at `place`; wrong ones are replaced, so sending an artifact again mends it."""
    try:
        with place.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest() == digest
    except FileNotFoundError:
        return False


def _check_digest(seen: str, digest: str, source: str) -> None:
    if digest and seen != digest:
        raise MeshError(
            Reason.ARTIFACT_CORRUPT,
            f"the artifact {source} has SHA-256 {seen} where artifact_digest says {digest}; copy it again from where "
            "it was made, or correct artifact_digest",
            metadata={"artifact_digest": seen},
        )


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unreadable(source: Path, error: Exception) -> MeshError:
    why = error.strerror if isinstance(error, OSError) else str(error)
    return MeshError(
        Reason.ARTIFACT_NOT_FOUND,
        f"the artifact {source} cannot be read by the registry ({why}); give the path of a file on the registry's host",
    )


@contextmanager
def _store_errors() -> Iterator[None]:
    """What the disk of the store refuses, as an error that says so."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise MeshError(
            Reason.DEPENDENCY_UNAVAILABLE,
            f"the artifact store cannot be written ({error.strerror}); "
            + ("make room in the registry's data_dir" if full else "see to the registry's data_dir")
            + " and try again",
            retry_after_s=30.0,
        ) from error
