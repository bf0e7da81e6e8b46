"""Bytes of a file by their place, as of a sequence, wherever it lies: blocks are read as they are asked for."""

from typing import BinaryIO, overload

_BLOCK_BYTES = 256 * 1024


class Window:
    """A file as a read-only sequence of bytes. Holds one block, so a walk that steps over most of it reads little.

    For one thread at a time; blocking.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._length = stream.seek(0, 2)
        self._begin = 0
        self._block = b""

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, place: int) -> int: ...

    @overload
    def __getitem__(self, place: slice) -> bytes: ...

    def __getitem__(self, place: int | slice) -> int | bytes:
        """One byte, or those from `start` to `stop`. Raises IndexError for a byte behind the end."""
        if isinstance(place, slice):
            begin, end, _ = place.indices(self._length)
            return self._bytes(begin, end)
        at = place - self._begin
        if 0 <= at < len(self._block):
            return self._block[at]
        if not 0 <= place < self._length:
            raise IndexError(place)
        self._load(place)
        return self._block[0]

    def _bytes(self, begin: int, end: int) -> bytes:
        if not self._begin <= begin <= end <= self._begin + len(self._block):
            if end - begin > _BLOCK_BYTES:
                self._stream.seek(begin)
                return self._stream.read(end - begin)
            self._load(begin)
        return self._block[begin - self._begin : end - self._begin]

    def _load(self, place: int) -> None:
        self._stream.seek(place)
        self._begin, self._block = place, self._stream.read(_BLOCK_BYTES)
