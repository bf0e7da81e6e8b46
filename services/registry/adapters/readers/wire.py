"""Protobuf messages walked field by field, without their definitions."""

from collections.abc import Iterator

from services.registry.adapters.readers.refused import BrokenError, RefusedError
from services.registry.adapters.window import Window

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
Span = tuple[int, int]
"""Where a field's bytes begin and end in the file."""
_FIELDS_MAX = 2_000_000
_TEXT_BYTES_MAX = 64 * 1024


class Wire:
    """One message file. Walks cost one step for each field, and end after a bounded number of them."""

    def __init__(self, window: Window, *, fields_max: int = _FIELDS_MAX) -> None:
        self._window = window
        self._left = fields_max

    @property
    def whole(self) -> Span:
        """The place of the outermost message."""
        return 0, len(self._window)

    def fields(self, span: Span) -> Iterator[tuple[int, int, Span]]:
        """Number, wire type and place of each field; of a varint, its value in the place's first half."""
        at, end = span
        while at < end:
            self._left -= 1
            if self._left < 0:
                raise RefusedError("it has too many parts to be read")
            key, at = self._varint(at, end)
            number, kind = key >> 3, key & 7
            if kind == VARINT:
                value, at = self._varint(at, end)
                yield number, kind, (value, value)
                continue
            size = {FIXED64: 8, FIXED32: 4}.get(kind, 0)
            if kind == LENGTH:
                size, at = self._varint(at, end)
            elif not size:
                raise BrokenError("it holds no protobuf")
            if not number or at + size > end:
                raise BrokenError("it holds no protobuf, or the end of it is missing")
            yield number, kind, (at, at + size)
            at += size

    def parts(self, span: Span, number: int) -> Iterator[Span]:
        """The places of a field with a length: texts, bytes and messages."""
        return (place for field, kind, place in self.fields(span) if field == number and kind == LENGTH)

    def part(self, span: Span, number: int) -> Span | None:
        """The place of the last such field, which is the one that counts."""
        last = None
        for place in self.parts(span, number):
            last = place
        return last

    def text(self, span: Span | None) -> str:
        """The text at a place; "" for none. Raises BrokenError where it is no text."""
        if span is None:
            return ""
        if span[1] - span[0] > _TEXT_BYTES_MAX:
            raise RefusedError(f"it holds a text of more than {_TEXT_BYTES_MAX} bytes")
        try:
            return self._window[span[0] : span[1]].decode()
        except UnicodeDecodeError:
            raise BrokenError("it holds a text that is none") from None

    def number(self, span: Span, number: int) -> int:
        """The last value of a varint field, signed; 0 where it is absent."""
        value = 0
        for field, kind, (first, _) in self.fields(span):
            if field == number and kind == VARINT:
                value = first - 2**64 if first >= 2**63 else first
        return value

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        value = shift = 0
        while at < end and shift < 70:
            byte = self._window[at]
            value |= (byte & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if byte < 0x80:
                return value & (2**64 - 1), at
        raise BrokenError("it holds no protobuf, or the end of it is missing")
