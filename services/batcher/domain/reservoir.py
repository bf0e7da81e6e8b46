"""A uniform sample of the rows that pass, for a comparison and an addition a request.

Algorithm L (Li, "Reservoir-sampling algorithms of time complexity O(n(1+log(N/n)))", ACM TOMS 1994): it says beforehand
which row is taken next, so what is not taken costs nothing. Of n rows, k ln(n/k) and k more are taken.
"""

from collections.abc import Callable
from math import exp, log, log1p
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Reservoir(Generic[Item]):
    """At most `size` of the rows offered since the last `drain`, each as likely as the other."""

    __slots__ = ("_chance", "_size", "_weight", "kept", "next_at", "seen")

    def __init__(self, size: int, chance: Callable[[], float]) -> None:
        """`chance` gives numbers from 0 to below 1."""
        self._size = size
        self._chance = chance
        self._weight = 1.0
        self.seen = 0
        """Rows offered."""
        self.next_at = 0
        """The next one to be taken, counted from 0."""
        self.kept: list[Item] = []

    def take(self, rows: int, item: Callable[[int], Item]) -> None:
        """Takes what is due of the last `rows` rows, which are in `seen` already; `item` makes one of its place."""
        first = self.seen - rows
        while self.next_at < self.seen:
            one = item(self.next_at - first)
            if len(self.kept) < self._size:
                self.kept.append(one)
                self.next_at += 1
                if len(self.kept) == self._size:
                    self.next_at += self._skip()
            else:
                self.kept[int(self._chance() * self._size)] = one
                self.next_at += 1 + self._skip()

    def drain(self) -> tuple[int, list[Item]]:
        """The rows offered and the sample of them; begins anew."""
        seen, kept = self.seen, self.kept
        self.seen, self.next_at, self.kept, self._weight = 0, 0, [], 1.0
        return seen, kept

    def _skip(self) -> int:
        """Rows that are passed over before the next one is taken."""
        self._weight *= exp(log(self._uniform()) / self._size)
        return int(log(self._uniform()) / log1p(-self._weight)) if self._weight < 1.0 else 0

    def _uniform(self) -> float:
        """Above 0, as a logarithm needs it."""
        return 1.0 - self._chance()
