"""Stored artifacts, read: plain or in frames, whole or from an offset on, and checked on the way."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from services.common.seekable import SeekableBytes
from services.registry.adapters.artifact_errors import corrupt
from services.registry.adapters.artifact_keys import KeyRing
from services.registry.adapters.frames import FRAME_BYTES, BrokenFramesError, FrameReader, Stretch
from services.registry.adapters.object_store import FileStretch, Objects
from services.registry.domain.artifacts import Record, is_plain

__all__ = ["PIECE_BYTES", "FileStretch", "Reading", "StretchFile", "open_reading", "whole_digest"]

PIECE_BYTES: Final = 1024 * 1024


class Run(Protocol):
    """Blocking work in a thread."""

    def __call__(self, work: Callable[[int], bytes], number: int, /) -> Awaitable[bytes]:
        """What the work comes to."""
        ...


@dataclass(frozen=True, slots=True)
class Reading:
    """An artifact that is being read. Its parts are of 4 MiB, the last one less."""

    digest: str
    stretch: Stretch
    frames: FrameReader | None
    """None: it is plain."""

    @property
    def size_bytes(self) -> int:
        """The size as it was sent."""
        return self.frames.size_bytes if self.frames is not None else self.stretch.size_bytes

    @property
    def parts(self) -> int:
        """How many parts it has."""
        return max(1, -(-self.size_bytes // FRAME_BYTES))

    def part(self, number: int) -> bytes:
        """A part. Raises ARTIFACT_CORRUPT where it is seen at once that it changed. Blocking."""
        if self.frames is None:
            return self.stretch.read_at(number * FRAME_BYTES, FRAME_BYTES)
        try:
            return self.frames.frame(number)
        except BrokenFramesError as error:
            raise corrupt(self.digest, str(error)) from error

    def beginning(self) -> bytes:
        """The first bytes. Blocking."""
        return self.part(0)[:512]

    def close(self) -> None:
        """Gives it up."""
        self.stretch.close()

    async def pieces(self, run: Run, offset_bytes: int) -> AsyncGenerator[bytes, None]:
        """Its parts from an offset on, the next one fetched while one is used. At the end ARTIFACT_CORRUPT where they
        are not what was sent.

        Frames tell by themselves whether they are sound, so that a download that goes on need not begin anew for it;
        plain bytes are read from the beginning, because only the digest of the whole tells.
        """
        checked = hashlib.sha256() if self.frames is None or not offset_bytes else None
        first = 0 if checked is not None else min(offset_bytes // FRAME_BYTES, self.parts)

        def read(number: int) -> bytes:
            part = self.part(number)
            if checked is not None:
                checked.update(part)
            return part

        # One part at a time is read, in order, so the hash is never updated by two threads.
        coming = asyncio.ensure_future(run(read, first)) if first < self.parts else None
        try:
            for number in range(first, self.parts):
                assert coming is not None
                part = await coming
                coming = asyncio.ensure_future(run(read, number + 1)) if number + 1 < self.parts else None
                beyond = part[max(0, offset_bytes - number * FRAME_BYTES) :]
                if beyond:
                    yield beyond
        finally:
            if coming is not None:
                # Its thread reads from what is closed next.
                await asyncio.gather(coming, return_exceptions=True)
        if checked is not None and checked.hexdigest() != self.digest:
            raise corrupt(self.digest, f"it has SHA-256 {checked.hexdigest()}")


class StretchFile(SeekableBytes):
    """Plain stored bytes as a file to read and seek in."""

    def __init__(self, stretch: Stretch) -> None:
        super().__init__(stretch.size_bytes)
        self._stretch = stretch

    def _read_at(self, begin: int, wanted: int) -> bytes:
        return self._stretch.read_at(begin, wanted)

    def close(self) -> None:
        """Closes what it reads from."""
        if not self.closed:
            self._stretch.close()
        super().close()


def open_reading(objects: Objects, record: Record, keys: KeyRing) -> Reading:
    """The object of a record, open. Raises FileNotFoundError, ARTIFACT_CORRUPT. Blocking."""
    stretch = objects.open(record.name)
    if is_plain(record.name):
        return Reading(record.digest, stretch, None)
    try:
        frames = FrameReader(stretch, keys)
    except BrokenFramesError as error:
        stretch.close()
        raise corrupt(record.digest, str(error)) from error
    except BaseException:
        stretch.close()
        raise
    if frames.digest != record.digest:
        stretch.close()
        raise corrupt(record.digest, "its object is another artifact's")
    return Reading(record.digest, stretch, frames)


def whole_digest(reading: Reading) -> str:
    """SHA-256 of all of it. Raises ARTIFACT_CORRUPT. Blocking."""
    seen = hashlib.sha256()
    for part in _parts(reading):
        seen.update(part)
    return seen.hexdigest()


def _parts(reading: Reading) -> Iterator[bytes]:
    return (reading.part(number) for number in range(reading.parts))
