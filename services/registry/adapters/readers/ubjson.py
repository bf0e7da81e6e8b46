"""Some members of a UBJSON document (draft 12, as XGBoost writes it), without reading the rest of it into memory."""

import struct
from collections.abc import Collection, Iterator, Mapping

from services.registry.adapters.readers.refused import BrokenError, RefusedError
from services.registry.adapters.window import Window

_NUMBERS = {
    "i": struct.Struct(">b"),
    "U": struct.Struct(">B"),
    "I": struct.Struct(">h"),
    "l": struct.Struct(">i"),
    "L": struct.Struct(">q"),
    "d": struct.Struct(">f"),
    "D": struct.Struct(">d"),
}
_CONSTANTS: Mapping[str, object] = {"T": True, "F": False, "Z": None, "N": None}
_DEPTH_MAX = 64
_VALUES_MAX = 2_000_000
_TEXT_BYTES_MAX = 1024 * 1024
_BROKEN = "it is no UBJSON document, or the end of it is missing"


def is_ubjson_object(head: bytes) -> bool:
    """Whether a file that begins so may be a UBJSON object: a brace, then the length of a name."""
    return head[:1] == b"{" and head[1:2] in (b"i", b"U", b"I", b"l", b"L")


def skim_ubjson(window: Window, wanted: Collection[str], *, inside: str) -> Mapping[str, object]:
    """The members of the outermost object's member `inside` that are wanted. Raises RefusedError."""
    walk = _Walk(window)
    if walk.marker() != "{":
        raise BrokenError(_BROKEN)
    for name in walk.members():
        if name != inside:
            walk.skip(walk.marker(), 0)
            continue
        if walk.marker() != "{":
            raise BrokenError(_BROKEN)
        found: dict[str, object] = {}
        for member in walk.members():
            if member in wanted:
                found[member] = walk.value(walk.marker(), 0)
            else:
                walk.skip(walk.marker(), 0)
        return found
    return {}


class _Walk:
    def __init__(self, window: Window) -> None:
        self._window = window
        self._at = 0
        self._left = _VALUES_MAX

    def marker(self) -> str:
        """The next type marker."""
        return self._take(1).decode("latin-1")

    def members(self) -> Iterator[str]:
        """The names of an object's members; each value must be taken or skipped before the next."""
        count = self._count()[1]
        while count is None or count > 0:
            marker = self.marker()
            if count is None and marker == "}":
                return
            count = None if count is None else count - 1
            yield self._text(self._integer(marker))

    def value(self, marker: str, depth: int) -> object:
        """The value of that marker."""
        self._step(depth)
        if marker == "{":
            found: dict[str, object] = {}
            for name in self.members():
                found[name] = self.value(self.marker(), depth + 1)
            return found
        if marker == "[":
            return self._list(depth)
        if marker == "S":
            return self._text(self._integer(self.marker()))
        if marker in _CONSTANTS:
            return _CONSTANTS[marker]
        return self._number(marker)

    def skip(self, marker: str, depth: int) -> None:
        """Steps over the value of that marker."""
        self._step(depth)
        if marker == "{":
            for _ in self.members():
                self.skip(self.marker(), depth + 1)
        elif marker == "[":
            kind, count = self._count()
            if kind and count is not None:
                if kind not in _NUMBERS:
                    raise BrokenError(_BROKEN)
                self._forward(_NUMBERS[kind].size * count)
                return
            while count is None or count > 0:
                inner = self.marker()
                if count is None and inner == "]":
                    return
                count = None if count is None else count - 1
                self.skip(inner, depth + 1)
        elif marker == "S":
            self._forward(self._integer(self.marker()))
        elif marker not in _CONSTANTS:
            self._number(marker)

    def _list(self, depth: int) -> list[object]:
        kind, count = self._count()
        found: list[object] = []
        while count is None or count > 0:
            marker = kind or self.marker()
            if count is None and marker == "]":
                return found
            count = None if count is None else count - 1
            found.append(self.value(marker, depth + 1))
        return found

    def _count(self) -> tuple[str, int | None]:
        """The type and the number of what a container holds, where it says so."""
        kind, count = "", None
        if self._peek() == "$":
            self._take(1)
            kind = self.marker()
        if self._peek() == "#":
            self._take(1)
            count = self._integer(self.marker())
        if (kind and count is None) or (count is not None and count < 0):
            raise BrokenError(_BROKEN)
        return kind, count

    def _integer(self, marker: str) -> int:
        number = self._number(marker)
        if not isinstance(number, int) or number < 0:
            raise BrokenError(_BROKEN)
        return number

    def _number(self, marker: str) -> int | float:
        form = _NUMBERS.get(marker)
        if form is None:
            raise BrokenError(_BROKEN)
        number: int | float = form.unpack(self._take(form.size))[0]
        return number

    def _text(self, length: int) -> str:
        if length > _TEXT_BYTES_MAX:
            raise RefusedError(f"it holds a text of more than {_TEXT_BYTES_MAX} bytes")
        return self._take(length).decode(errors="replace")

    def _step(self, depth: int) -> None:
        self._left -= 1
        if self._left < 0 or depth > _DEPTH_MAX:
            raise RefusedError("it has too many parts to be read")

    def _peek(self) -> str:
        return chr(self._window[self._at]) if self._at < len(self._window) else ""

    def _take(self, count: int) -> bytes:
        data = self._window[self._at : self._at + count]
        if len(data) < count:
            raise BrokenError(_BROKEN)
        self._at += count
        return data

    def _forward(self, count: int) -> None:
        if count < 0 or self._at + count > len(self._window):
            raise BrokenError(_BROKEN)
        self._at += count
