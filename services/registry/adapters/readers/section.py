"""A part of a file as a file of its own, and files inside artifacts by name."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, cast

from services.common.seekable import SeekableBytes
from services.registry.adapters.readers.refused import RefusedError
from services.registry.adapters.window import Window

_BUFFER_BYTES = 256 * 1024


class Section(SeekableBytes):
    """`size_bytes` bytes of `stream` from `begin` on, to read and seek in. Closing it leaves `stream` open."""

    def __init__(self, stream: BinaryIO, begin: int, size_bytes: int) -> None:
        super().__init__(size_bytes)
        self._stream = stream
        self._begin = begin

    def _read_at(self, begin: int, wanted: int) -> bytes:
        self._stream.seek(self._begin + begin)
        return self._stream.read(wanted)

    def read(self, size: int | None = -1, /) -> bytes:
        """All that is asked for at once: a raw file by itself would make room for `size` bytes and copy."""
        left = max(0, self._size_bytes - self._at)
        data = self._read_at(self._at, left if size is None or size < 0 else min(size, left))
        self._at += len(data)
        return data

    def readall(self) -> bytes:
        """What is left."""
        return self.read()


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of an artifact: its path in it ("" for an artifact that is one file without a name), and its bytes."""

    name: str
    size_bytes: int
    opener: Callable[[], BinaryIO]

    def open(self) -> BinaryIO:
        """The bytes, to read and seek in. One at a time: entries share the artifact's file."""
        return self.opener()

    def buffered(self) -> BinaryIO:
        """The bytes, for readers that take a few at a time."""
        opened = self.open()
        return io.BufferedReader(opened, _BUFFER_BYTES) if isinstance(opened, Section) else opened

    def window(self) -> Window:
        """The bytes by their place."""
        return Window(self.open())

    def head(self, size_bytes: int) -> bytes:
        """The first bytes, at most so many."""
        return self.open().read(size_bytes)

    def content(self, bytes_max: int) -> bytes:
        """All bytes. Raises RefusedError where there are more than `bytes_max`."""
        if self.size_bytes > bytes_max:
            raise RefusedError(f"{self.name or 'it'} has {self.size_bytes} bytes where at most {bytes_max} are read")
        data = self.open().read(bytes_max + 1)
        if len(data) > bytes_max:
            raise RefusedError(f"{self.name or 'it'} unpacks to more than {bytes_max} bytes")
        return data

    @property
    def filename(self) -> str:
        """The last part of its path."""
        return self.name.rpartition("/")[2]


def section_of(name: str, stream: BinaryIO, begin: int, size_bytes: int) -> Entry:
    """An entry that lies in `stream` as it is."""
    return Entry(name, size_bytes, lambda: cast("BinaryIO", Section(stream, begin, size_bytes)))
