"""What a caller's messages have in common, read once.

Callers who ask again and again write the same bytes around the one thing that changes, the tensor. Once such a message
was read, others that differ from it in that place alone are known by the bytes around it: one look-up instead of taking
a message apart. Messages that differ elsewhere, in an id for instance, are read as ever.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

_KEPT_MAX = 64
"""Templates; callers with more kinds of messages than that begin anew."""
_AROUND_BYTES_MAX = 1024
"""Of the bytes around the place; messages with more are mostly not tensor."""
_LEARN_EVERY = 128
"""Messages that were not known and are not looked at either: who never repeats a message must not pay for it."""
_FLIPPED = bytes(255 - byte for byte in range(256))


class Templates(Generic[T]):
    """What is known of messages, by the bytes around their changing place."""

    __slots__ = ("_known", "_pause", "_places")

    def __init__(self) -> None:
        self._places: dict[int, tuple[int, int]] = {}
        """Where the place begins and ends, by the length of the message."""
        self._known: dict[bytes, T] = {}
        self._pause = 0

    @property
    def kept(self) -> int:
        """How many are known."""
        return len(self._known)

    def find(self, data: bytes) -> tuple[T, bytes] | None:
        """What was learned of such a message, and what this one has in the changing place. None: nothing is known."""
        place = self._places.get(len(data))
        if place is None:
            return None
        start, end = place
        known = self._known.get(data[:start] + data[end:])
        return None if known is None else (known, data[start:end])

    def learn(self, data: bytes, content: bytes | memoryview, reads_as: Callable[[bytes, bytes], T | None]) -> None:
        """Learns from a message that was not known and has `content` in it. `reads_as` is given the same message with
        something else there, and that; it says what is to be known of such messages, or None where that one does not
        read as this one but for the content."""
        if self._pause:
            self._pause -= 1
            return
        self._pause = _LEARN_EVERY
        around = len(data) - len(content)
        start = data.rfind(content)
        if not content or around > _AROUND_BYTES_MAX or start < 0:
            return
        end = start + len(content)
        other = bytes(content).translate(_FLIPPED)
        known = reads_as(data[:start] + other + data[end:], other)
        if known is None:
            return
        if len(self._known) >= _KEPT_MAX:
            self._known.clear()
            self._places.clear()
        self._places[len(data)] = (start, end)
        self._known[data[:start] + data[end:]] = known
