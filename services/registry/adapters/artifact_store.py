"""The artifact store: bytes under their digest, in a folder or a bucket, plain or in frames, each kept once.

What comes is written to a file of this machine while it is hashed; then its object is put, whole and for good; then it
is recorded. An artifact that is recorded already is wanted from that moment on, so that nobody clears it away, and
its object is looked at: one that is gone or damaged is replaced by what has just come.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import BinaryIO, ParamSpec, TypeVar, cast

from services.common.artifacts.unpack import listing
from services.common.artifacts.unpacking import Limits
from services.common.errors import MeshError, Reason
from services.common.telemetry.logging import get_logger
from services.registry.adapters.artifact_errors import corrupt
from services.registry.adapters.artifact_reading import (
    PIECE_BYTES,
    FileStretch,
    Reading,
    StretchFile,
    open_reading,
    whole_digest,
)
from services.registry.adapters.artifact_sources import Sources
from services.registry.adapters.frames import FrameFile, FrameReader
from services.registry.adapters.incoming import Encoding, Incoming, clear_incoming
from services.registry.adapters.object_store import Objects
from services.registry.domain.artifact_uri import ArtifactPlace
from services.registry.domain.artifacts import (
    FOLDER,
    MESH,
    Record,
    Sender,
    digest_in,
    framed_name,
    kind_of,
    no_artifact,
    plain_name,
)
from services.registry.domain.version import Artifact, Stored
from services.registry.ports import ArtifactBook

log = get_logger(__name__)

P = ParamSpec("P")
T = TypeVar("T")
_SWEEP_PAGE = 500


class ObjectArtifactStore:
    """An `ArtifactStore`."""

    def __init__(
        self,
        *,
        objects: Objects,
        book: ArtifactBook,
        sources: Sources,
        incoming: Path,
        encoding: Encoding,
        bytes_max: int,
        copies_max: int,
    ) -> None:
        self._objects = objects
        self._book = book
        self._sources = sources
        self._incoming = incoming
        self._encoding = encoding
        self._bytes_max = bytes_max
        self._limits = Limits(bytes_max=bytes_max)
        self._turns = asyncio.Semaphore(copies_max)
        # A pool of its own: a bucket that hangs must not hold up what else the process has threads for.
        self._threads = ThreadPoolExecutor(2 * copies_max + 4, thread_name_prefix="artifacts")

    async def start(self) -> None:
        """Clears what interrupted copies left, and records what lay in the folder before there were records."""
        await self.run(self._start)
        if self._objects.folder is not None:
            # Another registry may be about to record what it has just put: nothing is taken away here.
            await self._adopt(_OF_ANY_AGE, removes=False)

    async def stop(self) -> None:
        """Lets the threads go once what they do is done."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Blocking work in one of the store's threads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(work, *args, **kwargs))

    def path_of(self, digest: str) -> str:
        """Absolute path of the copy where it lies on this machine's disks as it was sent; else empty."""
        folder = self._objects.folder
        path = folder / plain_name(digest) if folder is not None else None
        return str(path) if path is not None and path.is_file() else ""

    def uri_of(self, digest: str) -> str:
        """Where the copy is; the object's name may go on behind it."""
        return self._objects.uri(plain_name(digest))

    async def find(self, digest: str) -> Stored | None:
        """What is recorded of it."""
        record = await self._book.find(digest)
        return _stored(record) if record is not None else None

    async def is_seen(self, digest: str, viewer: str) -> bool:
        """Whether the viewer may know of it."""
        return await self._book.is_seen(digest, viewer)

    async def keep(self, place: ArtifactPlace, *, digest: str = "", sender: Sender = MESH) -> Artifact:
        """Takes a copy, off the event loop; a caller who goes away stops it at the next piece."""
        if place.digest:
            return await self._kept(place, digest, sender)
        stop = threading.Event()
        async with self._turns:
            try:
                incoming, kind, filename = await self.run(self._take, place, digest, stop)
                try:
                    # Naming a place proves no right to its bytes: they are seen as a version's, once it is registered.
                    return await self._put(incoming, kind, filename, replace(sender, owns=False))
                finally:
                    await self.run(incoming.close)
            except asyncio.CancelledError:
                stop.set()
                raise

    async def receive(
        self, pieces: AsyncIterator[bytes], *, filename: str, digest: str = "", sender: Sender = MESH
    ) -> Artifact:
        """Takes what is sent, piece by piece."""
        source = filename or "that is sent"
        incoming = await self.run(self._begin, source)
        try:
            async for piece in pieces:
                await self.run(incoming.write, piece)
            kind = await self.run(self._end, incoming, digest, filename, source)
            return await self._put(incoming, kind, filename, sender)
        finally:
            await self.run(incoming.close)

    async def read(self, digest: str, *, offset_bytes: int = 0) -> AsyncIterator[bytes]:
        """The bytes from `offset_bytes` on. The next stretch is fetched while one is sent."""
        reading = await self._reading(digest)
        try:
            async with aclosing(reading.pieces(self.run, offset_bytes)) as pieces:
                async for piece in pieces:
                    for begin in range(0, len(piece), PIECE_BYTES):
                        yield piece[begin : begin + PIECE_BYTES]
        finally:
            await self.run(reading.close)

    async def open(self, digest: str) -> BinaryIO:
        """The bytes as a file."""
        reading = await self._reading(digest)
        raw: RawIOBase = FrameFile(reading.frames) if reading.frames is not None else StretchFile(reading.stretch)
        return cast("BinaryIO", BufferedReader(raw, 128 * 1024))

    async def old(self, before: datetime) -> Sequence[Stored]:
        """What no version is made of and nobody sent, fetched or named since."""
        return [_stored(record) for record in await self._book.garbage(before)]

    async def remove(self, digest: str, *, before: datetime) -> bool:
        """Takes an artifact away if that is still so."""
        record = await self._book.find(digest)
        if record is None:
            return False
        # Seen before the record goes: what is put under the name afterwards is another's.
        mark = await self.run(self._objects.mark, record.name)
        gone = await self._book.forget(digest, before=before)
        if gone is None:
            return False
        if gone.name == record.name:
            await self.run(self._objects.remove_same, gone.name, mark)
        return True

    async def sweep(self, before: datetime) -> int:
        """Takes away objects that nothing points to and that are older; records those that might be a version's."""
        return await self._adopt(before)

    def _start(self) -> None:
        self._incoming.mkdir(parents=True, exist_ok=True)
        clear_incoming(self._incoming)

    def _begin(self, source: str) -> Incoming:
        return Incoming(self._incoming, source=source, bytes_max=self._bytes_max, encoding=self._encoding)

    def _take(self, place: ArtifactPlace, digest: str, stop: threading.Event) -> tuple[Incoming, str, str]:
        source = self._sources.open(place, self._limits)
        incoming = self._begin(str(place))
        try:
            for piece in source.pieces:
                _go_on(stop, place)
                incoming.write(piece)
            kind = self._end(incoming, digest, source.filename, str(place), folder=source.folder)
            _go_on(stop, place)
        except BaseException:
            incoming.close()
            raise
        return incoming, kind, source.filename

    def _end(self, incoming: Incoming, digest: str, filename: str, source: str, *, folder: bool = False) -> str:
        """Finishes a copy and checks it; what kind of artifact it is."""
        incoming.finish()
        _check_digest(incoming.digest, digest, source)
        kind = kind_of(incoming.begins, filename, folder=folder)
        if kind == "tar.gz" or (kind == "directory" and not folder):
            stretch = FileStretch(incoming.path)
            if incoming.plain:
                raw: RawIOBase = StretchFile(stretch)
            else:
                raw = FrameFile(FrameReader(stretch, self._encoding.keys))
            with BufferedReader(raw, PIECE_BYTES) as stream:
                listing(stream, "tar.gz" if kind == "tar.gz" else "directory", source=source, limits=self._limits)
        return kind

    async def _put(self, incoming: Incoming, kind: str, filename: str, sender: Sender) -> Artifact:
        """Gives a finished copy its place, unless the same bytes are there and sound."""
        digest = incoming.digest
        known = await self._book.touch(digest, kind=kind)
        if known is None or not await self.run(self._sound, known):
            name = plain_name(digest) if incoming.plain else framed_name(digest)
            await self.run(self._objects.put_file, name, incoming.path)
            new = Record(digest, kind, filename, incoming.size_bytes, incoming.stored_bytes, name)
            recorded = await self._book.record(new, sender=sender, replaces=known.name if known is not None else "")
            needless = {name, known.name if known is not None else name} - {recorded.name}
            await self.run(self._objects.remove, sorted(needless))
        elif sender.team and sender.owns:
            await self._book.own(digest, sender.team)
        return Artifact(digest, kind, filename, incoming.size_bytes)

    async def _kept(self, place: ArtifactPlace, digest: str, sender: Sender) -> Artifact:
        """An artifact that is there already, checked to be whole."""
        if not await self._book.is_seen(place.digest, sender.viewer):
            raise no_artifact(place.digest)
        record = await self._book.touch(place.digest)
        if record is None:
            raise no_artifact(place.digest)
        async with self._turns:
            seen = await self.run(self._digest, record)
        if seen != place.digest:
            raise corrupt(place.digest, f"it has SHA-256 {seen}")
        _check_digest(place.digest, digest, str(place))
        return Artifact(place.digest, record.kind, record.filename, record.size_bytes)

    async def _reading(self, digest: str) -> Reading:
        # Wanted from now on: nothing is cleared away while it is read.
        record = await self._book.touch(digest)
        if record is None:
            raise no_artifact(digest)
        return await self.run(self._open, record)

    def _open(self, record: Record) -> Reading:
        try:
            return open_reading(self._objects, record, self._encoding.keys)
        except FileNotFoundError:
            raise corrupt(record.digest, "its object is gone") from None

    def _digest(self, record: Record) -> str:
        reading = self._open(record)
        try:
            return whole_digest(reading)
        finally:
            reading.close()

    def _sound(self, record: Record) -> bool:
        """Whether the object of a record can be relied on: read whole on this machine's disks, asked for in a bucket,
        which checks what it keeps itself."""
        try:
            if self._objects.folder is not None:
                return self._digest(record) == record.digest
            reading = self._open(record)
        except MeshError as error:
            if error.reason is not Reason.ARTIFACT_CORRUPT:
                raise
            log.warning("a damaged artifact is replaced", digest=record.digest, error=error.message)
            return False
        reading.close()
        return reading.size_bytes == record.size_bytes

    async def _adopt(self, before: datetime, *, removes: bool = True) -> int:
        freed_bytes = 0
        found = await self.run(lambda: [one for one in self._objects.listed(FOLDER) if one.modified_at < before])
        found += await self.run(lambda: [one for one in self._objects.listed("uploads") if one.modified_at < before])
        for begin in range(0, len(found), _SWEEP_PAGE):
            page = found[begin : begin + _SWEEP_PAGE]
            known = await self._book.known([one.name for one in page])
            for one in page:
                if one.name in known:
                    continue
                digest = digest_in(one.name)
                if digest and await self._book.find(digest) is None and await self._adopted(digest, one.name):
                    continue
                if not removes:
                    continue
                await self.run(self._objects.remove, [one.name])
                freed_bytes += one.size_bytes
                log.info("an object that nothing points to was removed", name=one.name)
        return freed_bytes

    async def _adopted(self, digest: str, name: str) -> bool:
        """Records an object that has no record, for a database that is older than the store."""
        try:
            record, begins = await self.run(self._look, digest, name)
        except (MeshError, FileNotFoundError) as error:
            log.warning("an object of the store cannot be read", name=name, error=str(error))
            return True
        await self._book.record(
            Record(digest, kind_of(begins, ""), "", record.size_bytes, record.stretch.size_bytes, name), sender=MESH
        )
        return True

    def _look(self, digest: str, name: str) -> tuple[Reading, bytes]:
        reading = open_reading(self._objects, Record(digest, "file", "", 0, 0, name), self._encoding.keys)
        try:
            return reading, reading.beginning()
        finally:
            reading.close()


_OF_ANY_AGE = datetime.max.replace(tzinfo=UTC)


def _stored(record: Record) -> Stored:
    created_at = record.created_at or datetime.min.replace(tzinfo=UTC)
    return Stored(record.digest, record.kind, record.size_bytes, created_at, record.stored_bytes, record.filename)


def _go_on(stop: threading.Event, place: ArtifactPlace) -> None:
    if stop.is_set():
        raise MeshError(Reason.CALLER_CANCELLED, f"the copy of {place} was given up by its caller")


def _check_digest(seen: str, digest: str, source: str) -> None:
    if digest and seen != digest:
        raise MeshError(
            Reason.ARTIFACT_CORRUPT,
            f"the artifact {source} has SHA-256 {seen} where {digest} was promised; copy it again from where "
            "it was made, or correct the digest",
            metadata={"artifact_digest": seen},
        )
