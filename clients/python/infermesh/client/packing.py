"""What is sent to the registry: a file as it is, a folder as a tar that depends on nothing but what is in it.

The registry makes the same tar of a folder that it reads itself, so the digest tells whether it has it already.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

PIECE_BYTES = 1024 * 1024
_BLOCK_BYTES = 512


@dataclass(frozen=True)
class Packed:
    """A file or folder, as bytes that can be read from any place on."""

    filename: str
    files: Sequence[tuple[str, Path, int]]
    """The name in the tar, the place, and the size; one without a name: the file itself."""

    @cached_property
    def size_bytes(self) -> int:
        """How many bytes are sent."""
        return sum(len(part) if isinstance(part, bytes) else part[1] for part in self._parts())

    @cached_property
    def digest(self) -> str:
        """SHA-256 of them. Raises OSError where a file cannot be read, or changed since it was looked at."""
        seen = hashlib.sha256()
        for piece in self.pieces():
            seen.update(piece)
        return seen.hexdigest()

    def pieces(self, offset_bytes: int = 0) -> Iterator[bytes]:
        """The bytes from an offset on, in pieces of at most 1 MiB. Raises OSError."""
        for part in self._parts():
            size = len(part) if isinstance(part, bytes) else part[1]
            if offset_bytes >= size:
                offset_bytes -= size
                continue
            if isinstance(part, bytes):
                yield part[offset_bytes:]
            else:
                yield from _content(part[0], size, offset_bytes)
            offset_bytes = 0

    def _parts(self) -> Iterator[bytes | tuple[Path, int]]:
        for name, path, size in self.files:
            if not name:
                yield path, size
                return
            yield _header(name, size)
            yield path, size
            yield bytes(-size % _BLOCK_BYTES)
        yield bytes(2 * _BLOCK_BYTES)


def pack(path: Path) -> Packed:
    """What to send of a file or folder. Raises OSError; ValueError naming what in a folder is neither."""
    if not path.is_dir():
        return Packed(path.name, [("", path, path.stat().st_size)])
    found: list[tuple[str, Path, int]] = []
    for above, folders, names in os.walk(path):
        for name in (*folders, *names):
            place = Path(above, name)
            if place.is_symlink() or not (place.is_dir() or place.is_file()):
                raise ValueError(f"{place} is a link or no plain file; an artifact holds plain files and folders alone")
            if place.is_file():
                found.append((place.relative_to(path).as_posix(), place, place.stat().st_size))
    if not found:
        raise ValueError(f"{path} holds no file")
    return Packed(f"{path.resolve().name}.tar", sorted(found, key=lambda one: one[0].encode()))


def _content(path: Path, size: int, offset_bytes: int) -> Iterator[bytes]:
    left = size - offset_bytes
    with path.open("rb") as stream:
        stream.seek(offset_bytes)
        while left:
            piece = stream.read(min(PIECE_BYTES, left))
            if not piece:
                raise OSError(f"{path} changed while it was read")
            left -= len(piece)
            yield piece


def _header(name: str, size: int) -> bytes:
    encoded = name.encode()
    extra = b""
    if len(encoded) > 100:
        extra += _record(b"path", encoded)
    if size >= 8**11:
        extra += _record(b"size", b"%d" % size)
    head = _block(encoded[:100], 0 if size >= 8**11 else size, b"0")
    if not extra:
        return head
    return _block(b"././@PaxHeader", len(extra), b"x") + extra + bytes(-len(extra) % _BLOCK_BYTES) + head


def _record(key: bytes, value: bytes) -> bytes:
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest) + 1
    while len(b"%d" % length) + len(rest) != length:
        length = len(b"%d" % length) + len(rest)
    return b"%d" % length + rest


def _block(name: bytes, size: int, kind: bytes) -> bytes:
    block = bytearray(_BLOCK_BYTES)
    block[0 : len(name)] = name
    block[100:124] = b"0000644\x000000000\x000000000\x00"
    block[124:136] = b"%011o\0" % size
    block[136:148] = b"%011o\0" % 0
    block[148:156] = b" " * 8
    block[156:157] = kind
    block[257:265] = b"ustar\x0000"
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)
