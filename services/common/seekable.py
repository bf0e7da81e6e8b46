"""What lies somewhere else, as a file to read and seek in."""

import io
from abc import abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer as Buffer


class SeekableBytes(io.RawIOBase):
    """A raw file of `size_bytes` bytes, which `_read_at` brings. For one thread at a time."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__()
        self._size_bytes = size_bytes
        self._at = 0

    @abstractmethod
    def _read_at(self, begin: int, wanted: int) -> bytes | memoryview:
        """At least one and at most `wanted` bytes from `begin` on; `begin` is before the end."""

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Where it is."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Goes to a place, also behind the end, as files do."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size_bytes}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: "Buffer", /) -> int:
        """Reads what comes at once; 0 at the end."""
        view = memoryview(buffer).cast("B")
        wanted = min(len(view), self._size_bytes - self._at)
        if wanted <= 0:
            return 0
        part = self._read_at(self._at, wanted)
        view[: len(part)] = part
        self._at += len(part)
        return len(part)
