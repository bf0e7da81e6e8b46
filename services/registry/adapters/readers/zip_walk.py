"""The files in a zip, found by its central directory alone.

Python's own reader keeps a directory of any size and unpacks without end; this one has bounds, and takes only what
model files use: entries that are stored or deflated, in one file, without a password.
"""

import io
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO, cast

from services.registry.adapters.readers.refused import BrokenError, RefusedError
from services.registry.adapters.readers.section import Entry, Section
from services.registry.adapters.readers.tar_walk import safe_path

ENTRIES_MAX = 100_000
_DIRECTORY_BYTES_MAX = 32 * 1024 * 1024
_INFLATED_BYTES_MAX = 256 * 1024 * 1024
_END, _END_SIGN = struct.Struct("<4s4H2LH"), b"PK\x05\x06"
_LOCATOR, _LOCATOR_SIGN = struct.Struct("<4sLQL"), b"PK\x06\x07"
_END64, _END64_SIGN = struct.Struct("<4sQ2H2L4Q"), b"PK\x06\x06"
_ENTRY, _ENTRY_SIGN = struct.Struct("<4s6H3L5H2L"), b"PK\x01\x02"
_LOCAL, _LOCAL_SIGN = struct.Struct("<4s5H3L2H"), b"PK\x03\x04"
_STORED, _DEFLATED = 0, 8
_MARK32 = 0xFFFFFFFF
_BROKEN = "it is a broken zip archive"


def is_zip(head: bytes) -> bool:
    """Whether a file that begins so may be a zip."""
    return head[:4] == _LOCAL_SIGN


def zip_entries(stream: BinaryIO) -> Mapping[str, Entry]:
    """The files by their paths, in the directory's order. Raises RefusedError."""
    size_bytes = stream.seek(0, io.SEEK_END)
    count, begin, length = _directory(stream, size_bytes)
    if count > ENTRIES_MAX or length > _DIRECTORY_BYTES_MAX:
        raise RefusedError(f"it holds more than {ENTRIES_MAX} files")
    if begin + length > size_bytes:
        raise BrokenError(_BROKEN)
    stream.seek(begin)
    data = stream.read(length)
    found: dict[str, Entry] = {}
    at = 0
    for _ in range(count):
        entry, at = _entry(stream, size_bytes, data, at)
        if entry.name in found:
            raise RefusedError(f"it holds {entry.name[:120]!r} twice")
        if not entry.name.endswith("/"):
            found[entry.name] = entry
    return found


def _directory(stream: BinaryIO, size_bytes: int) -> tuple[int, int, int]:
    """How many entries the directory has, where it begins, and its length."""
    tail_bytes = min(size_bytes, _END.size + 0xFFFF)
    stream.seek(size_bytes - tail_bytes)
    tail = stream.read(tail_bytes)
    at = tail.rfind(_END_SIGN)
    if at < 0 or at + _END.size > len(tail):
        raise BrokenError("it is a zip archive whose end is missing")
    _, disk, _, _, count, length, begin, _ = _END.unpack_from(tail, at)
    ends_at = size_bytes - tail_bytes + at
    place = ends_at - _LOCATOR.size
    locator = _read(stream, place, _LOCATOR, size_bytes) if place >= 0 else None
    if locator is not None and locator[0] == _LOCATOR_SIGN:
        end = _read(stream, cast("int", locator[2]), _END64, size_bytes)
        if end is None or end[0] != _END64_SIGN:
            raise BrokenError(_BROKEN)
        count, length, begin = (cast("int", number) for number in end[7:10])
        ends_at = place - _END64.size
    if disk not in (0, 0xFFFF):
        raise RefusedError("it is a zip archive in several parts")
    if begin + length != ends_at:
        # Others count places from where the directory must have begun then, and would see another archive than this.
        raise BrokenError("it is a zip archive with something before or between its parts")
    return count, begin, length


def _read(stream: BinaryIO, place: int, form: struct.Struct, size_bytes: int) -> tuple[object, ...] | None:
    if not 0 <= place <= size_bytes - form.size:
        return None
    stream.seek(place)
    return form.unpack(stream.read(form.size))


def _entry(stream: BinaryIO, size_bytes: int, data: bytes, at: int) -> tuple[Entry, int]:
    if at + _ENTRY.size > len(data):
        raise BrokenError(_BROKEN)
    fields = _ENTRY.unpack_from(data, at)
    sign, flags, method = fields[0], fields[3], fields[4]
    packed, unpacked, name_bytes, extra_bytes, comment_bytes, place = (*fields[8:13], fields[16])
    at += _ENTRY.size
    raw, extra = data[at : at + name_bytes], data[at + name_bytes : at + name_bytes + extra_bytes]
    if sign != _ENTRY_SIGN or len(raw) < name_bytes or len(extra) < extra_bytes:
        raise BrokenError(_BROKEN)
    name = raw.decode("utf-8" if flags & 0x800 else "cp437", errors="replace")
    # Folders keep the slash that marks them.
    path = safe_path(name) + ("/" if name.endswith("/") else "")
    unpacked, packed, place = _wide(extra, unpacked, packed, place)
    if flags & 1 or method not in (_STORED, _DEFLATED):
        raise RefusedError(f"its entry {path[:120]!r} is encrypted or packed in a way that is not read")
    if place + _LOCAL.size + packed > size_bytes or (method == _STORED and packed != unpacked):
        raise BrokenError(_BROKEN)
    packed_entry = _Packed(stream, size_bytes, path, method, place, packed)
    return Entry(path, unpacked, packed_entry.open), at + name_bytes + extra_bytes + comment_bytes


def _wide(extra: bytes, *numbers: int) -> tuple[int, ...]:
    """The numbers, those that are too large for the entry taken from its extra field."""
    wide: list[int] = []
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == 1:
            body = extra[at + 4 : at + 4 + length]
            wide = [value for (value,) in struct.iter_unpack("<Q", body[: len(body) // 8 * 8])]
            break
        at += 4 + length
    found: list[int] = []
    for number in numbers:
        if number == _MARK32:
            if not wide:
                raise BrokenError(_BROKEN)
            number = wide.pop(0)  # noqa: PLW2901
        found.append(number)
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Packed:
    """Where an entry's bytes are, and how they are packed."""

    stream: BinaryIO
    size_bytes: int
    path: str
    method: int
    place: int
    packed_bytes: int

    def open(self) -> BinaryIO:
        """The bytes as they were before they were packed. Raises RefusedError."""
        local = _read(self.stream, self.place, _LOCAL, self.size_bytes)
        if local is None or local[0] != _LOCAL_SIGN:
            raise BrokenError(_BROKEN)
        begin = self.place + _LOCAL.size + cast("int", local[9]) + cast("int", local[10])
        if begin + self.packed_bytes > self.size_bytes:
            raise BrokenError(_BROKEN)
        section = cast("BinaryIO", Section(self.stream, begin, self.packed_bytes))
        if self.method == _STORED:
            return section
        return io.BytesIO(inflated(section, self.path, -zlib.MAX_WBITS))


def inflated(stream: BinaryIO, path: str, window_bits: int, bytes_max: int = _INFLATED_BYTES_MAX) -> bytes:
    """What a deflated stream unpacks to. Raises RefusedError where that is broken or more than `bytes_max`."""
    unpacker, parts, total = zlib.decompressobj(window_bits), [], 0
    try:
        while not unpacker.eof and (piece := unpacker.unconsumed_tail or stream.read(64 * 1024)):
            parts.append(unpacker.decompress(piece, 1024 * 1024))
            total += len(parts[-1])
            if total > bytes_max:
                raise RefusedError(f"its entry {path[:120]!r} unpacks to more than {bytes_max} bytes")
    except zlib.error:
        raise BrokenError(f"its entry {path[:120]!r} is broken") from None
    if not unpacker.eof:
        raise BrokenError(f"the end of its entry {path[:120]!r} is missing")
    return b"".join(parts)
