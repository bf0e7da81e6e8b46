"""Some members of a large JSON document, without reading the rest of it into memory.

A boosted model is mostly numbers in lists. Only brackets and quotes decide where a value ends, so the text is searched
for these alone, block by block; the members that are wanted are small and are parsed by the json module.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import BinaryIO

from services.registry.adapters.readers.refused import BrokenError, RefusedError

_BLOCK_BYTES = 1024 * 1024
_VALUE_BYTES_MAX = 4 * 1024 * 1024
_DEPTH_MAX = 64
_TOKENS_MAX = 10_000_000
_BRACKET = re.compile(rb'[\[\]{}"]')
_STRING_END = re.compile(rb'["\\]')
_ESCAPED = re.compile(rb'.(?:[^"\\]*\\.)*', re.DOTALL)
"""What follows a backslash, and all that is escaped behind it."""
_SPACE = b" \t\r\n"
_BROKEN = "it is no JSON document, or the end of it is missing"


def is_json_object(head: bytes) -> bool:
    """Whether a file that begins so may be a JSON object."""
    return head.lstrip(_SPACE)[:1] == b"{"


def skim(stream: BinaryIO, wanted: Collection[str], *, inside: Sequence[str] = ()) -> Mapping[str, object]:
    """The members that are wanted of the outermost object, or of the one that lies `inside` it by these names.

    Raises RefusedError; also for members that are wanted and larger than 4 MiB.
    """
    stream.seek(0)
    skimmer = _Skimmer(stream)
    for outer in inside:
        for name in skimmer.members():
            if name == outer:
                break
            skimmer.skip()
        else:
            return {}
    return _members(skimmer, wanted)


def _members(skimmer: "_Skimmer", wanted: Collection[str]) -> Mapping[str, object]:
    found: dict[str, object] = {}
    for name in skimmer.members():
        if name in wanted:
            found[name] = parsed(skimmer.value())
            if len(found) == len(wanted):
                break
        else:
            skimmer.skip()
    return found


def parsed(data: bytes, *, parts_max: int = 100_000) -> object:
    """A small JSON text as a value. Raises BrokenError."""
    if data.count(b"[") + data.count(b"{") > parts_max:
        raise RefusedError("it holds a JSON value of too many parts")
    try:
        value: object = json.loads(data)
    except (ValueError, RecursionError):
        raise BrokenError(_BROKEN) from None
    return value


class _Skimmer:
    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._block = b""
        self._at = 0
        self._kept: bytearray | None = None
        self._left = _TOKENS_MAX

    def members(self) -> "_Members":
        """The names of an object's members; each value must be taken or skipped before the next. Of what is no object,
        none."""
        if self.space() != b"{":
            self.skip()
            return _Members(None)
        self._expect(b"{")
        return _Members(self)

    def value(self) -> bytes:
        """The text of the value here."""
        self._kept = bytearray()
        self.skip()
        kept, self._kept = bytes(self._kept), None
        return kept

    def skip(self) -> None:
        """Steps over the value here."""
        first = self.space()
        if first in (b"{", b"["):
            self._nest()
        elif first == b'"':
            self._take(1)
            self._string()
        else:
            while (byte := self._peek()) and byte not in b",]} \t\r\n":
                self._take(1)

    def name(self) -> str:
        """The name of a member, with the colon behind it taken."""
        outer, self._kept = self._kept, bytearray()
        self._expect(b'"')
        self._string()
        name, self._kept = bytes(self._kept), outer
        self._expect(b":")
        value = parsed(name)
        if not isinstance(value, str):
            raise BrokenError(_BROKEN)
        return value

    def space(self) -> bytes:
        """The next byte that is no space, not taken. Raises BrokenError at the end."""
        while (byte := self._peek()) and byte in _SPACE:
            self._at += 1
        if not byte:
            raise BrokenError(_BROKEN)
        return byte

    def take(self) -> bytes:
        """The next byte that is no space, taken."""
        byte = self.space()
        self._take(1)
        return byte

    def _expect(self, byte: bytes) -> None:
        if self.take() != byte:
            raise BrokenError(_BROKEN)

    def _nest(self) -> None:
        depth = 0
        while True:
            token = self._until(_BRACKET)
            if token == b'"':
                self._string()
                continue
            depth += 1 if token in (b"[", b"{") else -1
            if depth > _DEPTH_MAX:
                raise RefusedError(f"it nests more than {_DEPTH_MAX} levels")
            if depth <= 0:
                return

    def _string(self) -> None:
        while self._until(_STRING_END) != b'"':
            self._peek()
            escaped = _ESCAPED.match(self._block, self._at)
            self._take(escaped.end() - self._at if escaped is not None else 0)

    def _until(self, pattern: re.Pattern[bytes]) -> bytes:
        """Takes everything up to and with the next match, which it returns."""
        self._left -= 1
        if self._left < 0:
            raise RefusedError("it has too many parts to be read")
        while True:
            found = pattern.search(self._block, self._at)
            if found is not None:
                self._take(found.end() - self._at)
                return found.group()
            self._take(len(self._block) - self._at)
            if not self._peek():
                raise BrokenError(_BROKEN)

    def _peek(self) -> bytes:
        if self._at >= len(self._block):
            self._block, self._at = self._stream.read(_BLOCK_BYTES), 0
        return self._block[self._at : self._at + 1]

    def _take(self, count: int) -> None:
        if self._kept is not None:
            self._kept += self._block[self._at : self._at + count]
            if len(self._kept) > _VALUE_BYTES_MAX:
                raise RefusedError(f"it holds a description of more than {_VALUE_BYTES_MAX} bytes")
        self._at += count


class _Members:
    """Iterates over an object's members."""

    def __init__(self, skimmer: _Skimmer | None) -> None:
        self._skimmer = skimmer
        self._first = True
        self._left = 1_000_000

    def __iter__(self) -> "_Members":
        return self

    def __next__(self) -> str:
        if self._skimmer is None:
            raise StopIteration
        byte = self._skimmer.space()
        self._left -= 1
        if byte == b"}":
            self._skimmer.take()
            raise StopIteration
        if not self._first and self._skimmer.take() != b",":
            raise BrokenError(_BROKEN)
        if self._left < 0:
            raise RefusedError("it has too many parts to be read")
        self._first = False
        return self._skimmer.name()
