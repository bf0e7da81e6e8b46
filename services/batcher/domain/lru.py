"""A least-recently-used store with a bound in bytes and an end for every entry."""

from collections import OrderedDict
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class ByteLru(Generic[K, V]):
    """Holds at most `bytes_max` bytes, as its user counts them; what was not asked for longest goes first.

    An entry that is over is never given out. It is dropped when somebody asks for it or its turn to go comes, because a
    timer for each would cost more than the room that it takes within the bound.
    """

    def __init__(self, *, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.bytes_held = 0
        self.evicted = 0
        """Entries that made room for others since the start."""
        self.expired = 0
        """Entries that were found to be over since the start."""
        self._entries: OrderedDict[K, tuple[V, int, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K, now_s: float) -> V | None:
        """The value, which counts as used now; None where there is none or it is over."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if now_s >= entry[2]:
            del self._entries[key]
            self.bytes_held -= entry[1]
            self.expired += 1
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: K, value: V, *, size_bytes: int, expires_s: float) -> None:
        """Keeps a value until `expires_s`, in the place of what the key had. One larger than the bound is not kept."""
        entries = self._entries
        before = entries.pop(key, None)
        if before is not None:
            self.bytes_held -= before[1]
        if size_bytes > self.bytes_max:
            return
        entries[key] = (value, size_bytes, expires_s)
        self.bytes_held += size_bytes
        while self.bytes_held > self.bytes_max:
            _, (_, size, _) = entries.popitem(last=False)
            self.bytes_held -= size
            self.evicted += 1
