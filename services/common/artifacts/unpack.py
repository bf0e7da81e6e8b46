"""Archives listed, checked and unpacked, piece by piece. Blocking: for threads other than the event loop's."""

import secrets
import shutil
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from services.common.artifacts.tar import ByteReader, Member, TarReader
from services.common.artifacts.unpacking import Limits, Unpacking

Kind = Literal["directory", "tar.gz"]
"""A canonical or other tar, and one in gzip."""
_PIECE_BYTES: Final = 1024 * 1024
_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS


class GzipReader:
    """What a gzip file unpacks to, bounded in how much it may grow."""

    def __init__(self, stream: ByteReader, unpacking: Unpacking) -> None:
        self._stream = stream
        self._unpacking = unpacking
        self._inflate = zlib.decompressobj(_GZIP_WINDOW)
        self._packed = self._unpacked = 0
        self._begun = False

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end. Raises ARTIFACT_INVALID for what is broken or grows too much."""
        while True:
            piece = self._inflate.unconsumed_tail or self._inflate.unused_data or self._fetch()
            if self._inflate.eof:
                if not piece:
                    return b""
                # Another part of a file in several parts.
                self._inflate = zlib.decompressobj(_GZIP_WINDOW)
            try:
                # Also without a further piece: something may be left inside.
                made = self._inflate.decompress(piece, size)
            except zlib.error:
                raise self._unpacking.refused("it is no gzip file, or is damaged") from None
            if not piece and not made:
                raise self._unpacking.refused("it is no gzip file, or the end of it is missing")
            self._unpacked += len(made)
            self._unpacking.check_ratio(packed_bytes=self._packed, unpacked_bytes=self._unpacked)
            if made:
                return made

    def _fetch(self) -> bytes:
        piece = self._stream.read(_PIECE_BYTES)
        self._packed += len(piece)
        return piece


def listing(stream: ByteReader, kind: Kind, *, source: str, limits: Limits) -> Sequence[Member]:
    """The members of an archive, all of it read. Raises ARTIFACT_INVALID naming what is wrong with which."""
    return list(_reader(stream, kind, source, limits))


def unpack(
    stream: ByteReader,
    kind: Kind,
    folder: Path,
    *,
    source: str,
    limits: Limits,
) -> None:
    """Makes `folder`, which must not be there, of an archive: whole, or not at all.

    Raises ARTIFACT_INVALID for what may not be unpacked, OSError where the disk refuses.
    """
    building = folder.with_name(f".{folder.name}.{secrets.token_hex(8)}")
    building.mkdir()
    try:
        reader = _reader(stream, kind, source, limits)
        for member in reader:
            place = building / member.path
            if member.folder:
                place.mkdir(parents=True, exist_ok=True)
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            # A new file under a checked name in a folder of our own: there is no link to follow.
            with place.open("xb") as file:
                while piece := reader.read(_PIECE_BYTES):
                    file.write(piece)
        building.rename(folder)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise


def _reader(stream: ByteReader, kind: Kind, source: str, limits: Limits) -> TarReader:
    unpacking = Unpacking(source, limits)
    return TarReader(GzipReader(stream, unpacking) if kind == "tar.gz" else stream, unpacking)
