"""The files of an artifact, however it is packed."""

import io
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import BinaryIO, cast

from services.registry.adapters.readers.refused import BrokenError, RefusedError
from services.registry.adapters.readers.section import Entry, section_of
from services.registry.adapters.readers.tar_walk import BLOCK_BYTES, is_tar, tar_entries
from services.registry.adapters.readers.zip_walk import is_zip, zip_entries
from services.registry.domain.version import Artifact

_GZIP = b"\x1f\x8b"
_HEAD_BYTES = BLOCK_BYTES
_RATIO_MAX = 200
"""How much a tar.gz may grow; weights hardly compress, so one that grows more is no model."""
_FLOOR_BYTES = 64 * 1024 * 1024


@dataclass
class Contents:
    """An artifact's files by their paths. `packed`: it is a folder or an archive of one, not a single file."""

    files: Mapping[str, Entry]
    packed: bool
    head: bytes = b""
    """The first bytes of a single file."""
    _zip: Mapping[str, Entry] | None = field(default=None, repr=False)

    @property
    def sole(self) -> Entry | None:
        """The only file; None where there are several."""
        return next(iter(self.files.values())) if len(self.files) == 1 else None

    def zip(self) -> Mapping[str, Entry]:
        """The files within the single file, where that is a zip; else none. Raises RefusedError where it is broken."""
        if self._zip is None:
            sole = self.sole
            self._zip = zip_entries(sole.open()) if sole is not None and is_zip(self.head) else {}
        return self._zip

    def within(self, folder: str) -> "Contents":
        """What lies in a folder, by paths from there on."""
        inside = f"{folder}/" if folder else ""
        found = {name[len(inside) :]: one for name, one in self.files.items() if name.startswith(inside)}
        return Contents(found, packed=True)

    def single(self, path: str) -> "Contents | None":
        """One of the files, as if it were the whole artifact."""
        entry = self.files.get(path)
        return None if entry is None else single(entry)


def single(entry: Entry) -> Contents:
    """An artifact that is one file."""
    return Contents({entry.name: entry}, packed=False, head=entry.head(_HEAD_BYTES))


@contextmanager
def opened(stream: BinaryIO, artifact: Artifact) -> Iterator[Contents]:
    """The files of an artifact that `stream` holds. A folder in which everything lies is left out of their paths."""
    head = stream.read(_HEAD_BYTES)
    if artifact.kind == "tar.gz" and head[:2] == _GZIP:
        with tempfile.TemporaryFile() as unpacked:
            stream.seek(0)
            size_bytes = _unpack(stream, cast("BinaryIO", unpacked), artifact.size_bytes)
            yield _folder(cast("BinaryIO", unpacked), size_bytes)
    elif is_tar(head) or artifact.kind == "directory":
        yield _folder(stream, stream.seek(0, io.SEEK_END))
    else:
        yield single(section_of(artifact.filename, stream, 0, artifact.size_bytes))


def _folder(stream: BinaryIO, size_bytes: int) -> Contents:
    files = tar_entries(stream, size_bytes)
    if not files:
        raise RefusedError("it holds no files", "pack the model's folder")
    tops = {PurePosixPath(name).parts[0] for name in files if "/" in name}
    nested = Contents(files, packed=True)
    return nested.within(tops.pop()) if len(tops) == 1 and all("/" in name for name in files) else nested


def _unpack(stream: BinaryIO, into: BinaryIO, packed_bytes: int) -> int:
    bytes_max = max(_FLOOR_BYTES, packed_bytes * _RATIO_MAX)
    unpacker, total = zlib.decompressobj(16 + zlib.MAX_WBITS), 0
    try:
        while True:
            piece = unpacker.unconsumed_tail or unpacker.unused_data or stream.read(256 * 1024)
            if unpacker.eof:
                # Parallel packers write several archives one behind the other.
                if piece[:2] != _GZIP:
                    return total
                unpacker = zlib.decompressobj(16 + zlib.MAX_WBITS)
            if not piece:
                raise BrokenError("it is a tar.gz archive whose end is missing", "pack the folder again")
            total += into.write(unpacker.decompress(piece, 1024 * 1024))
            if total > bytes_max:
                raise RefusedError(f"it unpacks to more than {bytes_max} bytes", "pack the model's files alone")
    except zlib.error:
        raise BrokenError("it is a broken tar.gz archive", "pack the folder again") from None
