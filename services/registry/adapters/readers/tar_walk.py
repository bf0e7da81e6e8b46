"""The files in a tar, found by its headers alone.

Python's own reader keeps whatever long names and extended headers claim to be, so this one reads only what a file's
name and place take, within bounds. Links, devices and names that lead out of the archive are refused: no model needs
them.
"""

from collections.abc import Iterator, Mapping
from typing import BinaryIO

from services.registry.adapters.readers.refused import BrokenError, RefusedError
from services.registry.adapters.readers.section import Entry, section_of

BLOCK_BYTES = 512
ENTRIES_MAX = 10_000
_HEADER_BYTES_MAX = 64 * 1024
_NAME_BYTES_MAX = 4096
_FILE, _OLD_FILE, _CONTIGUOUS, _FOLDER = b"0", b"\0", b"7", b"5"
_LONG_NAME, _EXTENDED, _GLOBAL = b"L", b"x", b"g"


def is_tar(head: bytes) -> bool:
    """Whether a file that begins so, with 512 bytes, is a tar."""
    return len(head) >= BLOCK_BYTES and head[257:262] == b"ustar" and _sum(head) == _octal(head[148:156])


def tar_entries(stream: BinaryIO, size_bytes: int) -> Mapping[str, Entry]:
    """The plain files by their paths, in the archive's order. Raises RefusedError."""
    found: dict[str, Entry] = {}
    for name, begin, length in _files(stream, size_bytes):
        if name in found:
            raise RefusedError(f"it holds {name!r} twice", "pack the folder again")
        found[name] = section_of(name, stream, begin, length)
        if len(found) > ENTRIES_MAX:
            raise RefusedError(f"it holds more than {ENTRIES_MAX} files", "pack the model's files alone")
    return found


def safe_path(name: str) -> str:
    """A path within an archive, without "./". Raises RefusedError where it leads out of it."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    bad = name.startswith("/") or ".." in parts or "\\" in name or not name.isprintable()
    if bad or len(name) > _NAME_BYTES_MAX:
        raise RefusedError(f"it holds the path {name[:120]!r}", "pack plain files by relative names")
    return "/".join(parts)


def _files(stream: BinaryIO, size_bytes: int) -> Iterator[tuple[str, int, int]]:
    at, headers = 0, 0
    name = ""
    length = -1
    while at + BLOCK_BYTES <= size_bytes:
        stream.seek(at)
        header = stream.read(BLOCK_BYTES)
        headers += 1
        if headers > 4 * ENTRIES_MAX:
            raise RefusedError(f"it holds more than {ENTRIES_MAX} files", "pack the model's files alone")
        if not header.strip(b"\0"):
            return
        if len(header) < BLOCK_BYTES or _sum(header) != _octal(header[148:156]):
            raise BrokenError("it is a broken tar archive", "pack the folder again")
        kind, stated = header[156:157], _size(header[124:136])
        at += BLOCK_BYTES
        if stated < 0 or at + stated > size_bytes:
            raise BrokenError("it is a tar archive whose end is missing", "pack the folder again")
        if kind == _LONG_NAME:
            name = _short(stream, stated).rstrip(b"\0").decode(errors="replace")
        elif kind == _EXTENDED:
            extended = _records(_short(stream, stated))
            name, length = extended.get("path", name), int(extended.get("size", length))
        elif kind != _GLOBAL:
            path = safe_path(name or _name(header))
            if kind in (_FILE, _OLD_FILE, _CONTIGUOUS):
                stated = length if length >= 0 else stated
                if at + stated > size_bytes:
                    raise BrokenError("it is a tar archive whose end is missing", "pack the folder again")
                yield path, at, stated
            elif kind != _FOLDER:
                raise RefusedError(f"it holds {path!r}, which is a link or a device", "pack plain files and folders")
            name, length = "", -1
        at += -(-stated // BLOCK_BYTES) * BLOCK_BYTES


def _short(stream: BinaryIO, size_bytes: int) -> bytes:
    if size_bytes > _HEADER_BYTES_MAX:
        raise RefusedError("it holds a path that is too long", "pack the model's files by short names")
    return stream.read(size_bytes)


def _records(data: bytes) -> Mapping[str, str]:
    """The keys of an extended header: "<length> <key>=<value>\\n" each."""
    found: dict[str, str] = {}
    at = 0
    while at < len(data):
        text, space, _ = data[at : at + 8].partition(b" ")
        length = int(text) if space and text.isdigit() else 0
        record = data[at + len(text) + 1 : at + length]
        key, equals, value = record.rstrip(b"\n").partition(b"=")
        if length <= len(text) + 1 or not equals or (key == b"size" and not (value.isdigit() and len(value) < 16)):
            raise BrokenError("it is a tar archive with a broken extended header", "pack the folder again")
        found[key.decode(errors="replace")] = value.decode(errors="replace")
        at += length
    return found


def _name(header: bytes) -> str:
    name, prefix = (field.split(b"\0", 1)[0].decode(errors="replace") for field in (header[:100], header[345:500]))
    # GNU's own format has other things where the prefix is.
    return f"{prefix}/{name}" if prefix and header[257:263] == b"ustar\0" else name


def _size(field: bytes) -> int:
    return int.from_bytes(field[1:], "big") if field[0] == 0x80 else _octal(field)


def _octal(field: bytes) -> int:
    text = field.strip(b" \0")
    return int(text, 8) if text and not text.strip(b"01234567") else (0 if not text else -1)


def _sum(header: bytes) -> int:
    return sum(header[:148]) + sum(header[156:BLOCK_BYTES]) + 8 * 0x20
