"""The artifact store as files: `artifacts/sha256/<2 digits>/<digest>`, read-only, named by what is in them.

An artifact is written to a file of its own under `artifacts/incoming`, synced, and renamed to its digest. So under a
digest stands nothing or all of it, whatever dies when. Whoever writes a file in `incoming` holds a lock on it; a start
clears those that nobody holds, and leaves alone what another process writes.

A file's modification time is when it was first kept. When it is sent or named again, an empty file of its name in
`artifacts/wanted` gets the time of that; access times would not do, since backups and scans move them. The lock file
makes "it is there already" and "it is old, away with it" exclude each other.
"""

import asyncio
import fcntl
import hashlib
import os
import stat
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from io import BufferedReader, FileIO
from pathlib import Path
from typing import BinaryIO

from services.common.disk import sync_folder
from services.common.errors import MeshError, Reason
from services.registry.adapters.incoming import Incoming, clear_incoming, store_errors
from services.registry.domain.artifact_uri import DIGEST, ArtifactPlace, filename_of
from services.registry.domain.version import Artifact, Stored

_CHUNK_BYTES = 1024 * 1024
_GZIP = b"\x1f\x8b"
_TAR_ENDINGS = (".tar.gz", ".tgz")


class FileArtifactStore:
    """An `ArtifactStore`."""

    def __init__(self, folder: Path, *, bytes_max: int, copies_max: int) -> None:
        self._folder = folder.absolute() / "artifacts"
        self._incoming = self._folder / "incoming"
        self._wanted = self._folder / "wanted"
        self._bytes_max = bytes_max
        self._turns = asyncio.Semaphore(copies_max)

    async def start(self) -> None:
        """Makes the folders and clears what interrupted copies left."""
        await asyncio.to_thread(self._start)

    def path_of(self, digest: str) -> str:
        """Absolute path of the copy."""
        return str(self._place(digest))

    async def open(self, digest: str) -> BinaryIO:
        """The copy, open for reading."""
        return BufferedReader(await asyncio.to_thread(_opened, self._place(digest), ArtifactPlace(digest=digest)))

    async def find(self, digest: str) -> Stored | None:
        """What the file system knows of the copy."""
        return await asyncio.to_thread(_stored, self._place(digest))

    async def keep(self, place: ArtifactPlace, *, digest: str = "") -> Artifact:
        """Takes a copy, off the event loop; a caller who goes away stops it at the next piece."""
        stop = threading.Event()
        async with self._turns:
            try:
                return await asyncio.to_thread(self._keep, place, digest, stop)
            except asyncio.CancelledError:
                stop.set()
                raise

    async def receive(self, pieces: AsyncIterator[bytes], *, filename: str, digest: str = "") -> Artifact:
        """Takes what is sent, piece by piece."""
        source = filename or "that is sent"
        incoming = await asyncio.to_thread(Incoming, self._incoming, source=source, bytes_max=self._bytes_max)
        try:
            begins = b""
            async for piece in pieces:
                begins = (begins + piece[:2])[:2]
                await asyncio.to_thread(incoming.write, piece)
            _check_digest(incoming.digest, digest, source)
            await asyncio.to_thread(self._put, incoming)
        finally:
            incoming.close()
        return Artifact(incoming.digest, _kind(begins, filename), filename, incoming.size_bytes)

    async def read(self, digest: str, *, offset_bytes: int = 0) -> AsyncIterator[bytes]:
        """The bytes from `offset_bytes` on. All are hashed on the way, and the end is an error where they changed."""
        place = ArtifactPlace(digest=digest)
        with await asyncio.to_thread(_opened, self._place(digest), place) as stream:
            seen, at = hashlib.sha256(), 0
            while piece := await asyncio.to_thread(stream.read, _CHUNK_BYTES):
                await asyncio.to_thread(seen.update, piece)
                beyond, at = piece[max(0, offset_bytes - at) :], at + len(piece)
                if beyond:
                    yield beyond
            self._check_kept(seen.hexdigest(), digest)

    async def old(self, before: datetime) -> Sequence[Stored]:
        """Everything that was last sent or named before then."""
        return await asyncio.to_thread(self._old, before)

    async def remove(self, digest: str, *, before: datetime) -> bool:
        """Takes a copy away if that is still so."""
        return await asyncio.to_thread(self._remove, digest, before)

    def _start(self) -> None:
        for folder in (self._incoming, self._wanted):
            folder.mkdir(parents=True, exist_ok=True)
        (self._folder / "lock").touch()
        sync_folder(self._folder)
        clear_incoming(self._incoming)

    def _place(self, digest: str) -> Path:
        return self._folder / "sha256" / digest[:2] / digest

    def _keep(self, place: ArtifactPlace, digest: str, stop: threading.Event) -> Artifact:
        if place.digest:
            return self._kept(place, digest)
        source = Path(place.path)
        with (
            _opened(source, place) as stream,
            Incoming(self._incoming, source=place.path, bytes_max=self._bytes_max) as incoming,
        ):
            buffer, begins = memoryview(bytearray(_CHUNK_BYTES)), b""
            while count := _read(stream, buffer, source):
                if stop.is_set():
                    raise MeshError(Reason.CALLER_CANCELLED, f"the copy of {source} was given up by its caller")
                begins = begins or bytes(buffer[: min(count, 2)])
                incoming.write(buffer[:count])
            _check_digest(incoming.digest, digest, place.path)
            self._put(incoming)
            filename = filename_of(place)
            return Artifact(incoming.digest, _kind(begins, filename), filename, incoming.size_bytes)

    def _kept(self, place: ArtifactPlace, digest: str) -> Artifact:
        """An artifact that is there already, checked to be whole."""
        with self._locked(fcntl.LOCK_SH), _opened(self._place(place.digest), place), store_errors():
            (self._wanted / place.digest).touch()
        with _opened(self._place(place.digest), place) as stream:
            begins = stream.read(2) or b""
            stream.seek(0)
            self._check_kept(hashlib.file_digest(stream, "sha256").hexdigest(), place.digest)
            _check_digest(place.digest, digest, f"artifact://sha256/{place.digest}")
            return Artifact(place.digest, _kind(begins, ""), "", stream.seek(0, os.SEEK_END))

    def _put(self, incoming: Incoming) -> None:
        """Gives a copy its place, unless the same bytes stand there; wrong ones are replaced, which mends them."""
        place = self._place(incoming.digest)
        with self._locked(fcntl.LOCK_SH), store_errors():
            try:
                with FileIO(place) as stream:
                    (self._wanted / incoming.digest).touch()
                    if hashlib.file_digest(stream, "sha256").hexdigest() == incoming.digest:
                        return
            except FileNotFoundError:
                pass
            incoming.put(place)

    def _old(self, before: datetime) -> Sequence[Stored]:
        found = []
        for path in sorted((self._folder / "sha256").glob("*/*")):
            if DIGEST.fullmatch(path.name) and self._wanted_at(path) < before.timestamp():
                stored = _stored(path)
                found += [stored] if stored is not None else []
        return found

    def _remove(self, digest: str, before: datetime) -> bool:
        place = self._place(digest)
        with self._locked(fcntl.LOCK_EX), store_errors():
            try:
                if self._wanted_at(place) >= before.timestamp():
                    return False
                place.unlink()
                (self._wanted / digest).unlink(missing_ok=True)
            except FileNotFoundError:
                return False
            return True

    def _wanted_at(self, place: Path) -> float:
        """Seconds since 1970 when the artifact was last sent or named."""
        kept_at_s = place.stat().st_mtime
        try:
            return max(kept_at_s, (self._wanted / place.name).stat().st_mtime)
        except FileNotFoundError:
            return kept_at_s

    @contextmanager
    def _locked(self, kind: int) -> Iterator[None]:
        with store_errors():
            stream = (self._folder / "lock").open("rb")
        with stream:
            fcntl.flock(stream, kind)
            yield

    def _check_kept(self, seen: str, kept: str) -> None:
        if seen != kept:
            raise MeshError(
                Reason.ARTIFACT_CORRUPT,
                f"the stored artifact {kept} has SHA-256 {seen}; restore {self._place(kept)} from a backup, or "
                "register it again from where it came",
                metadata={"artifact_digest": kept},
            )


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


def _read(stream: FileIO, buffer: memoryview, source: Path) -> int:
    try:
        return stream.readinto(buffer) or 0
    except OSError as error:
        raise _unreadable(source, error) from error


def _stored(path: Path) -> Stored | None:
    try:
        with FileIO(path) as stream:
            status = os.fstat(stream.fileno())
            begins = stream.read(2) or b""
    except FileNotFoundError:
        return None
    return Stored(path.name, _kind(begins, ""), status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))


def _kind(begins: bytes, filename: str) -> str:
    """How an artifact that begins so is packed."""
    return "tar.gz" if begins == _GZIP and (not filename or filename.endswith(_TAR_ENDINGS)) else "file"


def _check_digest(seen: str, digest: str, source: str) -> None:
    if digest and seen != digest:
        raise MeshError(
            Reason.ARTIFACT_CORRUPT,
            f"the artifact {source} has SHA-256 {seen} where {digest} was promised; copy it again from where "
            "it was made, or correct the digest",
            metadata={"artifact_digest": seen},
        )


def _unreadable(source: Path, error: Exception) -> MeshError:
    why = error.strerror if isinstance(error, OSError) else str(error)
    return MeshError(
        Reason.ARTIFACT_NOT_FOUND,
        f"the artifact {source} cannot be read by the registry ({why}); give the path of a file on the registry's host",
    )
