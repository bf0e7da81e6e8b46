"""Tar archives, read strictly and written canonically.

The reader takes plain files and folders, in the dialects that `tar` and Python write, and refuses everything else by
its name: links, devices, sparse files. Python's own reader holds the headers of names in memory however large they
claim to be, and knows too many kinds of entries for bytes that anybody may send.

The writer makes the same bytes of the same files, whoever packs them, when, and on which disk: names in order, and no
times, owners or modes. So folders with the same content have the same digest.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from services.common.artifacts.unpacking import NAME_BYTES_MAX, Unpacking
from services.common.errors import shown

BLOCK_BYTES: Final = 512
_PIECE_BYTES: Final = 1024 * 1024
_LONG_MAX: Final = 64 * 1024
"""The largest header of further attributes that is read."""
_NAME, _SIZE, _CHECKSUM, _TYPE, _MAGIC, _PREFIX = (
    slice(0, 100),
    slice(124, 136),
    slice(148, 156),
    slice(156, 157),
    slice(257, 262),
    slice(345, 500),
)
_FILES = (b"0", b"\0", b"7")
_WORDS = {b"1": "a hard link", b"2": "a link", b"3": "a device", b"4": "a device", b"6": "a pipe"}


class ByteReader(Protocol):
    """What archives are read from."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end."""
        ...


@dataclass(frozen=True, slots=True)
class Member:
    """A file or a folder of an archive."""

    path: str
    """Relative, checked, without "." parts."""
    size_bytes: int
    folder: bool = False


class TarReader:
    """The members of an archive in turn; the bytes of one can be read until the next is asked for."""

    def __init__(self, stream: ByteReader, unpacking: Unpacking) -> None:
        self._stream = stream
        self._unpacking = unpacking
        self._left = self._padding = 0

    def __iter__(self) -> Iterator[Member]:
        """Every member. Raises ARTIFACT_INVALID where the archive breaks a rule or off."""
        name, size = "", -1
        while True:
            self._skip()
            header = self._exactly(BLOCK_BYTES)
            if not any(header):
                self._drain()
                return
            stated = self._stated_size(header)
            kind = bytes(header[_TYPE])
            if kind in (b"L", b"x"):
                extra = self._extra(stated)
                if kind == b"L":
                    name = self._text(extra.rstrip(b"\0"))
                else:
                    name, size = self._attributes(extra, name, size)
                continue
            if kind == b"g":
                self._attributes(self._extra(stated), "", -1, everywhere=True)
                continue
            member = self._member(header, kind, name, stated if size < 0 else size)
            name, size = "", -1
            if member is not None:
                yield member

    def read(self, size: int, /) -> bytes:
        """At most `size` further bytes of the present member; none at its end."""
        piece = self._stream.read(min(size, self._left)) if self._left else b""
        if self._left and not piece:
            raise self._unpacking.refused("the end of it is missing")
        self._left -= len(piece)
        return piece

    def _member(self, header: bytes, kind: bytes, name: str, size: int) -> Member | None:
        name = name or self._own_name(header)
        if kind not in (*_FILES, b"5"):
            word = _WORDS.get(kind, f"of the unknown kind {kind!r}")
            raise self._unpacking.refused(f"its entry {shown(name)} is {word}")
        # Old archives mark folders by a slash at the end.
        folder = kind == b"5" or name.endswith("/")
        if folder and size:
            raise self._unpacking.refused(f"its folder {shown(name)} has bytes of its own")
        path = self._unpacking.admit(name, size_bytes=size, folder=folder)
        self._left, self._padding = size, -size % BLOCK_BYTES
        return Member(path, size, folder) if path else None

    def _own_name(self, header: bytes) -> str:
        name = header[_NAME].split(b"\0", 1)[0]
        prefix = header[_PREFIX].split(b"\0", 1)[0] if header[_MAGIC] == b"ustar" and header[262:263] == b"\0" else b""
        return self._text(prefix + b"/" + name if prefix else name)

    def _text(self, name: bytes) -> str:
        if len(name) > NAME_BYTES_MAX:
            raise self._unpacking.refused(f"an entry of it has a name of more than {NAME_BYTES_MAX} bytes")
        try:
            return name.decode()
        except UnicodeDecodeError:
            raise self._unpacking.refused(f"its entry {shown(name)} has a name that is no UTF-8") from None

    def _stated_size(self, header: bytes) -> int:
        unsigned = sum(header[:148]) + 8 * 32 + sum(header[156:])
        if self._octal(header[_CHECKSUM]) != unsigned:
            raise self._unpacking.refused("it is no tar archive, or is damaged")
        size = header[_SIZE]
        if size[0] == 0x80:
            return int.from_bytes(size[1:])
        return self._octal(size)

    def _octal(self, digits: bytes) -> int:
        text = digits.split(b"\0", 1)[0].strip()
        try:
            # int() would take "_", "+" and "-" too.
            return int(text, 8) if text.isdigit() else {b"": 0}[text]
        except (ValueError, KeyError):
            raise self._unpacking.refused("it is no tar archive, or is damaged") from None

    def _extra(self, size: int) -> bytes:
        if not 0 < size <= _LONG_MAX:
            raise self._unpacking.refused(f"an entry of it has more than {_LONG_MAX} bytes of attributes")
        extra = self._exactly(size)
        self._exactly(-size % BLOCK_BYTES)
        return extra

    def _attributes(self, extra: bytes, name: str, size: int, *, everywhere: bool = False) -> tuple[str, int]:
        """Name and size as a header of attributes has them: records of "<length> <key>=<value>\\n"."""
        while extra:
            digits, _, _ = extra[:12].partition(b" ")
            length = int(digits) if digits.isdigit() else 0
            record, extra = extra[:length], extra[length:]
            key, equals, value = record[len(digits) + 1 : -1].partition(b"=")
            if len(record) != length or not equals or record[-1:] != b"\n":
                raise self._unpacking.refused("an entry of it has broken attributes")
            if key.startswith(b"GNU.sparse") or (everywhere and key in (b"path", b"size")):
                raise self._unpacking.refused(f"an entry of it has the attribute {shown(key.decode(errors='replace'))}")
            if key == b"path":
                name = self._text(value)
            elif key == b"size":
                size = int(value) if value.isdigit() and len(value) < 20 else -2
                if size < 0:
                    raise self._unpacking.refused("an entry of it has broken attributes")
        return name, size

    def _exactly(self, size: int) -> bytes:
        pieces = []
        while size:
            piece = self._stream.read(size)
            if not piece:
                raise self._unpacking.refused("it is no tar archive, or the end of it is missing")
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def _skip(self) -> None:
        while self._left:
            self.read(_PIECE_BYTES)
        self._exactly(self._padding)
        self._padding = 0

    def _drain(self) -> None:
        """Reads what is behind the end, which is zeros, so that a checksum behind that is seen too."""
        while piece := self._stream.read(_PIECE_BYTES):
            if any(piece):
                raise self._unpacking.refused("it goes on behind its end")


def header_of(path: str, size_bytes: int) -> bytes:
    """The canonical header of a file; long names and large sizes are in attributes before it, as in POSIX."""
    name = path.encode()
    extra = b""
    if len(name) > 100:
        extra += _record(b"path", name)
    if size_bytes >= 8**11:
        extra += _record(b"size", b"%d" % size_bytes)
    head = _block(name[:100], 0 if size_bytes >= 8**11 else size_bytes, b"0")
    if not extra:
        return head
    return _block(b"././@PaxHeader", len(extra), b"x") + extra + bytes(-len(extra) % BLOCK_BYTES) + head


def canonical_tar(files: Iterable[tuple[str, int, Iterable[bytes]]]) -> Iterator[bytes]:
    """The archive of files as (path, size in bytes, content), which come in order of their paths as bytes."""
    for path, size_bytes, content in files:
        yield header_of(path, size_bytes)
        yield from content
        if size_bytes % BLOCK_BYTES:
            yield bytes(-size_bytes % BLOCK_BYTES)
    yield bytes(2 * BLOCK_BYTES)


def _record(key: bytes, value: bytes) -> bytes:
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest) + 1
    while len(b"%d" % length) + len(rest) != length:
        length = len(b"%d" % length) + len(rest)
    return b"%d" % length + rest


def _block(name: bytes, size: int, kind: bytes) -> bytes:
    block = bytearray(BLOCK_BYTES)
    block[0 : len(name)] = name
    block[100:124] = b"0000644\x000000000\x000000000\x00"
    block[124:136] = b"%011o\0" % size
    block[136:148] = b"%011o\0" % 0
    block[148:156] = b" " * 8
    block[156:157] = kind
    block[257:265] = b"ustar\x0000"
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)
