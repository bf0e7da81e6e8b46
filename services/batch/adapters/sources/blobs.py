"""The files that inputs consist of: on this machine or in a bucket, packed or not."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from services.batch.adapters.objects import ObjectFile
from services.batch.adapters.sources.packed import unpacked
from services.batch.domain.job import Compression
from services.common.errors import MeshError, Reason
from services.common.objects import BucketStore

_AHEAD_BYTES = 4 * 1024 * 1024
"""Of text in a bucket: what one request brings."""


class Blob(Protocol):
    """A file with rows."""

    @property
    def path(self) -> str:
        """Where it is: an absolute path, or s3:// or gs:// with bucket and key."""
        ...

    @property
    def size_bytes(self) -> int:
        """Its size as it is stored."""
        ...

    @property
    def mark(self) -> str:
        """Differs where the file was changed."""
        ...

    def open(self) -> BinaryIO:
        """It as a file that can be gone about in, every read of which is one access. Raises OSError, MeshError."""
        ...

    def text(self) -> BinaryIO:
        """What is in it once it is unpacked, to be read forwards. Raises OSError, MeshError."""
        ...


@dataclass(frozen=True, slots=True)
class LocalBlob:
    """A `Blob` on this machine."""

    path: str
    size_bytes: int
    changed_ns: int
    compression: Compression = Compression.NONE

    @property
    def mark(self) -> str:
        """Size and time of the last change: what a file that was replaced or written to does not keep."""
        return f"{self.size_bytes}:{self.changed_ns}"

    def open(self) -> BinaryIO:
        """Without a buffer: whoever reads asks for much."""
        try:
            return cast("BinaryIO", Path(self.path).open("rb", buffering=0))
        except OSError as error:
            raise MeshError(
                Reason.INPUT_UNREADABLE,
                f"input_uri {self.path!r} cannot be read: {error.strerror}",
                metadata={"input_uri": self.path},
            ) from None

    def text(self) -> BinaryIO:
        """Unpacked."""
        return unpacked(self.open(), self.compression, path=self.path, size_bytes=self.size_bytes)


@dataclass(frozen=True, slots=True)
class ObjectBlob:
    """A `Blob` in a bucket."""

    path: str
    size_bytes: int
    e_tag: str
    store: BucketStore
    key: str
    compression: Compression = Compression.NONE

    @property
    def mark(self) -> str:
        """ETag and size."""
        return f"{self.e_tag}:{self.size_bytes}"

    def open(self) -> BinaryIO:
        """One request for each read."""
        file = ObjectFile(self.store, self.key, uri=self.path, size_bytes=self.size_bytes, e_tag=self.e_tag)
        return cast("BinaryIO", file)

    def text(self) -> BinaryIO:
        """Unpacked, with some of it read ahead."""
        ahead = cast("BinaryIO", io.BufferedReader(cast("io.RawIOBase", self.open()), _AHEAD_BYTES))
        return unpacked(ahead, self.compression, path=self.path, size_bytes=self.size_bytes)
