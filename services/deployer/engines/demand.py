"""What is in demand: when each version was last asked for, as batchers tell it, and which sleeping ones are wanted now.

Nothing of it is kept over a restart. A deployer that has just started knows of nobody who was idle, and batchers ask
again for what they still need.
"""

from collections.abc import Iterable, Set
from math import inf

from services.common.clock import Clock
from services.common.signals import Signal

SILENT_S = 30.0
"""Without word of any batcher for so long nothing counts as idle: they may be asked and cannot tell."""

Name = tuple[str, str]
"""A model and a version."""


class Demand:
    """Fires `changed` when something that sleeps is wanted."""

    def __init__(self, *, clock: Clock, changed: Signal) -> None:
        self._clock = clock
        self._changed = changed
        self._since_s = -inf
        self._told_s: float | None = None
        self._asked_s: dict[Name, float] = {}
        self._wanted: set[Name] = set()

    def report(self, asked: Iterable[Name]) -> None:
        """A batcher lives, and these versions were asked for in its last window or have requests under way."""
        now_s = self._clock.monotonic()
        if self._told_s is None or now_s - self._told_s > SILENT_S:
            self._since_s = now_s
        self._told_s = now_s
        for name in asked:
            self._asked_s[name] = now_s

    def want(self, name: Name) -> None:
        """Somebody waits for a version that sleeps."""
        self._asked_s[name] = self._clock.monotonic()
        if name not in self._wanted:
            self._wanted.add(name)
            self._changed.fire()

    def awake(self, name: Name) -> None:
        """It answers from now on: it is idle since now at the earliest, and need not be wanted any more."""
        self._asked_s[name] = self._clock.monotonic()
        self._wanted.discard(name)

    def wanted(self, name: Name) -> bool:
        """Whether somebody waits for it."""
        return name in self._wanted

    def idle_s(self, name: Name) -> float:
        """For how long nobody has asked for it, as far as is known, in seconds."""
        now_s = self._clock.monotonic()
        if self._told_s is None or now_s - self._told_s > SILENT_S:
            return 0.0
        return now_s - max(self._since_s, self._asked_s.get(name, now_s))

    def keep(self, names: Set[Name]) -> None:
        """Forgets all others; those that are new are idle from now on."""
        now_s = self._clock.monotonic()
        self._asked_s = {name: self._asked_s.get(name, now_s) for name in names}
        self._wanted &= names
