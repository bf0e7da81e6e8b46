"""Packed text as a file that is read forwards.

A packed file cannot be entered in its middle. Offsets are those of the unpacked text; going forwards unpacks what lies
between and forgets it, going backwards begins anew. So chunks are read in their order, by one reader.
"""

import bz2
import io
from typing import BinaryIO, cast

import pyarrow as pa

from services.batch.domain.job import Compression
from services.common.errors import MeshError, Reason

_CODECS = {Compression.GZIP: "gzip", Compression.ZSTD: "zstd"}
_STEP_BYTES = 1024 * 1024
UNPACKED_FREE_BYTES = 1024**3
UNPACKED_FACTOR_MAX = 1_000
"""What a packed file may unpack to: a GiB and so many times its size. Text of rows packs to a tenth, and some hundred
times smaller where it repeats itself; what goes beyond was made to keep somebody busy."""


def unpacked(file: BinaryIO, compression: Compression, *, path: str, size_bytes: int) -> BinaryIO:
    """What is in a file. Reading raises INPUT_UNREADABLE where it is cut off, damaged or unpacks to too much."""
    if compression is Compression.NONE:
        return file
    return cast("BinaryIO", io.BufferedReader(_Unpacked(file, compression, path=path, size_bytes=size_bytes)))


class _Unpacked(io.RawIOBase):
    """The unpacked bytes of a packed file."""

    def __init__(self, file: BinaryIO, compression: Compression, *, path: str, size_bytes: int) -> None:
        super().__init__()
        self._file = file
        self._compression = compression
        self._path = path
        self._most = UNPACKED_FREE_BYTES + UNPACKED_FACTOR_MAX * size_bytes
        self._stream = self._begin()
        self._at = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is, at the price of unpacking what lies between."""
        return True

    def tell(self) -> int:
        """Where it is in the unpacked text."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Goes to a byte of the unpacked text. Raises ValueError where that is told from the end."""
        if whence == io.SEEK_END:
            raise ValueError("the end of a packed file is not known")
        target = offset + (self._at if whence == io.SEEK_CUR else 0)
        if target < self._at:
            self._stream, self._at = self._begin(), 0
        while self._at < target and self._next(min(_STEP_BYTES, target - self._at)):
            pass
        return self._at

    def readinto(self, buffer: "bytearray | memoryview", /) -> int:  # type: ignore[override]  # a narrower buffer
        """Fills a buffer."""
        piece = self._next(min(len(buffer), _STEP_BYTES))
        buffer[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        """Closes the packed file too."""
        if not self.closed:
            self._file.close()
        super().close()

    def _begin(self) -> "pa.CompressedInputStream | _Bz2Stream":
        self._file.seek(0)
        if self._compression is Compression.BZ2:
            return _Bz2Stream(self._file)
        return pa.CompressedInputStream(pa.PythonFile(_Kept(self._file), mode="r"), _CODECS[self._compression])

    def _next(self, size: int) -> bytes:
        try:
            piece: bytes = self._stream.read(size)
        except (pa.ArrowException, OSError, EOFError) as error:
            why = "it is cut off" if "runcated" in str(error) else f"it is damaged ({error})"
            raise self._unreadable(f"as {self._compression} {why}") from error
        self._at += len(piece)
        if self._at > self._most:
            raise self._unreadable(
                f"it unpacks to more than {self._most} bytes, {UNPACKED_FACTOR_MAX} times its size; unpack it "
                "yourself if that is so"
            )
        return piece

    def _unreadable(self, why: str) -> MeshError:
        return MeshError(
            Reason.INPUT_UNREADABLE,
            f"input_uri {self._path!r} cannot be read: {why}",
            metadata={"input_uri": self._path},
        )


class _Bz2Stream:
    """What a file of bz2 unpacks to. Arrow's own stumbles over some files of several members."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._member: bz2.BZ2Decompressor | None = None

    def read(self, size: int) -> bytes:
        """At least one byte, at most `size`; none at the end. Raises EOFError, OSError."""
        while True:
            packed = b""
            if self._member is None or self._member.eof:
                packed = (self._member.unused_data if self._member is not None else b"") or self._file.read(_STEP_BYTES)
                if not packed:
                    return b""
                self._member = bz2.BZ2Decompressor()
            elif self._member.needs_input:
                packed = self._file.read(_STEP_BYTES)
                if not packed:
                    raise EOFError("truncated")
            piece = self._member.decompress(packed, size)
            if piece:
                return piece


class _Kept:
    """A file that stays open when Arrow is done with it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.closed = False

    def read(self, size: int = -1) -> bytes:
        """Some bytes."""
        return self._file.read(size)

    def readable(self) -> bool:
        """It is."""
        return True

    def close(self) -> None:
        """Nothing."""
        self.closed = True
