"""How artifacts are stored where they are compressed or encrypted: frames that can each be read alone.

    header   magic, version, flags, size of a frame, size of the whole, number of frames, place of the index, SHA-256 of
             the whole; the key's id and the artifact's own key, wrapped
    frames   4 MiB each before compression, the last one less; compressed by zstd or not, then encrypted or not
    index    for each frame its stored size, whether it is compressed, and a CRC-32

A reader finds any byte by the index, and decodes one frame. A frame is encrypted by AES-256-GCM under a key that no
other artifact has, with its number as the nonce; number, compression and "this is the last" are authenticated with it.
The wrapped key is authenticated with all of the header, so with the digest, the size and the number of frames. So
frames that are cut off, put in another order, or taken from another artifact do not open, and neither does another
artifact under this one's name. The digest is not among what each frame is bound to, because it is known at the end
only; the key, which is the artifact's own, and the header stand for it.
"""

import secrets
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO, Final, Protocol

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.common.seekable import SeekableBytes
from services.registry.adapters.artifact_errors import corrupt
from services.registry.adapters.artifact_keys import KEY_BYTES, NO_KEY_ID, WRAP_BYTES, KeyRing

FRAME_BYTES: Final = 4 * 1024 * 1024
LEVEL: Final = 1
"""Of zstd. Level 3 takes three to six times the CPU for weights, and makes them a twentieth smaller at best."""
_MAGIC: Final = b"\x89IMFRAME"
_VERSION: Final = 1
_ENCRYPTED: Final = 1
_HEADER: Final = struct.Struct("<8sBBHIQIQ32s8s")
HEADER_BYTES: Final = _HEADER.size + WRAP_BYTES
_ENTRY: Final = struct.Struct("<II")
_COMPRESSED: Final = 1 << 31
_FRAMES_MAX: Final = 1 << 22


class BrokenFramesError(Exception):
    """What is stored is not what was stored."""


class Stretch(Protocol):
    """Stored bytes that can be read anywhere, by several threads at once."""

    @property
    def size_bytes(self) -> int:
        """How many there are."""
        ...

    def read_at(self, offset: int, size: int) -> bytes:
        """Exactly these bytes, fewer only at the end. Raises MeshError."""
        ...

    def close(self) -> None:
        """Gives it up."""
        ...


def pays(sample: bytes | bytearray) -> bool:
    """Whether compressing more of the same is worth its time: where a sample shrinks by more than a twentieth."""
    return bool(sample) and len(zstandard.ZstdCompressor(level=LEVEL).compress(sample)) < 0.95 * len(sample)


class FrameWriter:
    """Writes an artifact into a new file, from its beginning on."""

    def __init__(self, stream: BinaryIO, *, compress: bool, keys: KeyRing) -> None:
        self._stream = stream
        self._zstd = zstandard.ZstdCompressor(level=LEVEL) if compress else None
        self._keys = keys
        self._data_key = secrets.token_bytes(KEY_BYTES) if keys.encrypts else b""
        self._cipher = AESGCM(self._data_key) if self._data_key else None
        self._waiting = bytearray()
        self._index: list[tuple[int, int]] = []
        self._size = 0
        stream.write(bytes(HEADER_BYTES))

    def write(self, piece: bytes | bytearray | memoryview) -> None:
        """Adds a piece of any size."""
        self._waiting += piece
        # The last frame is known as such only when no more comes.
        while len(self._waiting) > FRAME_BYTES:
            frame = bytes(memoryview(self._waiting)[:FRAME_BYTES])
            del self._waiting[:FRAME_BYTES]
            self._add(frame, last=False)

    def finish(self, digest: bytes) -> None:
        """Writes the rest; `digest` is the SHA-256 of all that was written."""
        self._add(bytes(self._waiting), last=True)
        self._waiting.clear()
        index_at = self._stream.tell()
        self._stream.write(b"".join(_ENTRY.pack(*entry) for entry in self._index))
        head = _HEADER.pack(
            _MAGIC,
            _VERSION,
            _ENCRYPTED if self._cipher else 0,
            0,
            FRAME_BYTES,
            self._size,
            len(self._index),
            index_at,
            digest,
            self._keys.current_id if self._cipher else NO_KEY_ID,
        )
        self._stream.seek(0)
        self._stream.write(head + (self._keys.wrap(self._data_key, head) if self._cipher else bytes(WRAP_BYTES)))

    def _add(self, frame: bytes, *, last: bool) -> None:
        self._size += len(frame)
        stored, mark = frame, 0
        if self._zstd is not None:
            packed = self._zstd.compress(frame)
            if len(packed) < len(frame):
                stored, mark = packed, _COMPRESSED
        number = len(self._index)
        if self._cipher is not None:
            stored = self._cipher.encrypt(_nonce(number), stored, _about(number, mark, last=last))
        self._index.append((len(stored) | mark, zlib.crc32(stored)))
        self._stream.write(stored)


@dataclass(frozen=True, slots=True)
class _Place:
    offset: int
    size: int
    mark: int
    crc: int


class FrameReader:
    """A stored artifact. Safe to use from several threads; blocking. Closes what it reads from."""

    def __init__(self, stretch: Stretch, keys: KeyRing) -> None:
        """Raises BrokenFramesError, DEPENDENCY_UNAVAILABLE where the key is not there."""
        self._stretch = stretch
        head = stretch.read_at(0, HEADER_BYTES)
        if len(head) != HEADER_BYTES:
            raise BrokenFramesError("its header is cut off")
        magic, version, flags, _, frame_bytes, self.size_bytes, count, index_at, digest, key_id = _HEADER.unpack_from(
            head
        )
        if magic != _MAGIC or version != _VERSION or frame_bytes != FRAME_BYTES:
            raise BrokenFramesError("it has no header of a known version")
        if count != max(1, -(-self.size_bytes // FRAME_BYTES)) or count > _FRAMES_MAX:
            raise BrokenFramesError("its header contradicts itself")
        self.digest: str = digest.hex()
        self._cipher: AESGCM | None = None
        if flags & _ENCRYPTED:
            try:
                self._cipher = AESGCM(keys.unwrap(key_id, head[_HEADER.size :], head[: _HEADER.size]))
            except ValueError as error:
                raise BrokenFramesError(str(error)) from None
        self._places = self._read_index(index_at, count)

    @property
    def frames(self) -> int:
        """How many frames there are; an empty artifact has one."""
        return len(self._places)

    def frame(self, number: int) -> bytes:
        """What a frame holds. Raises BrokenFramesError, or what the stretch raises."""
        place = self._places[number]
        stored = self._stretch.read_at(place.offset, place.size)
        if len(stored) != place.size or zlib.crc32(stored) != place.crc:
            raise BrokenFramesError(f"frame {number} was changed")
        last = number == len(self._places) - 1
        expected = self.size_bytes - number * FRAME_BYTES if last else FRAME_BYTES
        try:
            if self._cipher is not None:
                stored = self._cipher.decrypt(_nonce(number), stored, _about(number, place.mark, last=last))
            if place.mark:
                if zstandard.frame_content_size(stored) != expected:
                    raise BrokenFramesError(f"frame {number} has another size")
                # A decompressor of its own for each: they are not for several threads.
                stored = zstandard.ZstdDecompressor().decompress(stored, max_output_size=expected)
        except (InvalidTag, zstandard.ZstdError):
            raise BrokenFramesError(f"frame {number} does not open") from None
        if len(stored) != expected:
            raise BrokenFramesError(f"frame {number} has another size")
        return stored

    def close(self) -> None:
        """Gives the stored bytes up."""
        self._stretch.close()

    def _read_index(self, index_at: int, count: int) -> Sequence[_Place]:
        index = self._stretch.read_at(index_at, count * _ENTRY.size)
        if len(index) != count * _ENTRY.size or index_at + len(index) != self._stretch.size_bytes:
            raise BrokenFramesError("its end is missing")
        places, offset = [], HEADER_BYTES
        for size_and_mark, crc in _ENTRY.iter_unpack(index):
            place = _Place(offset, size_and_mark & ~_COMPRESSED, size_and_mark & _COMPRESSED, crc)
            if place.size > FRAME_BYTES + 1024:
                raise BrokenFramesError("its index is damaged")
            places.append(place)
            offset += place.size
        if offset != index_at:
            raise BrokenFramesError("its index is damaged")
        return places


class FrameFile(SeekableBytes):
    """A stored artifact as a file to read and seek in; holds one frame."""

    def __init__(self, reader: FrameReader) -> None:
        super().__init__(reader.size_bytes)
        self._reader = reader
        self._number, self._frame = -1, b""

    def _read_at(self, begin: int, wanted: int) -> memoryview:
        number, place = divmod(begin, FRAME_BYTES)
        if number != self._number:
            try:
                self._number, self._frame = number, self._reader.frame(number)
            except BrokenFramesError as error:
                raise corrupt(self._reader.digest, str(error)) from error
        return memoryview(self._frame)[place : place + wanted]

    def close(self) -> None:
        """Closes what it reads from."""
        if not self.closed:
            self._reader.close()
        super().close()


def _nonce(number: int) -> bytes:
    return number.to_bytes(12)


def _about(number: int, mark: int, *, last: bool) -> bytes:
    return struct.pack("<Q??", number, bool(mark), last)
