"""What is in demand: when each version was last asked for, as batchers tell it, and which sleeping ones are wanted now.

Nothing of it is kept over a restart. A deployer that has just started knows of nobody who was idle, and batchers ask
again for what they still need.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass
from math import exp, inf

from services.common.clock import Clock
from services.common.signals import Signal
from services.deployer.domain.scaling import Load

Name = tuple[str, str]
"""A model and a version."""
SILENT_S = 30.0
"""Without word of a batcher for so long nothing counts as idle: it may be asked and cannot tell."""
GONE_S = 600.0
"""A batcher without a word for so long is not there any more."""
WANTED_S = 2.0
"""How long a word that somebody waits holds: whoever waits repeats it."""
DECAY_S = 300.0
"""What was asked for so long ago counts e times less than what is asked for now."""
_WINDOWS = 2
"""A version is idle once so many of a batcher's windows have passed without it: it may be asked for within one."""


@dataclass(frozen=True, slots=True)
class _Heard:
    at_s: float
    window_s: float
    loads: Mapping[Name, Load]


class Demand:
    """Fires `changed` when something that sleeps is wanted."""

    def __init__(self, *, clock: Clock, changed: Signal) -> None:
        self._clock = clock
        self._changed = changed
        self._since_s = -inf
        """Since when all batchers have told what they were asked for."""
        self._batchers: dict[str, _Heard] = {}
        self._asked_s: dict[Name, float] = {}
        self._wanted_s: dict[Name, float] = {}
        self._waits_since_s: dict[Name, float] = {}
        self._counts: dict[Name, tuple[float, float]] = {}
        """Requests, those of long ago for less, and when that was their number."""
        self.words = 0
        """How often a batcher has told what it was asked for."""

    def report(self, batcher_id: str, window_s: float, loads: Mapping[Name, Load]) -> None:
        """A batcher lives, and these versions were asked for in its last window or have requests under way."""
        now_s = self._clock.monotonic()
        if not self._all_tell(now_s):
            self._since_s = now_s
        self._batchers[batcher_id] = _Heard(now_s, window_s, loads)
        self.words += 1
        for name, load in loads.items():
            self._asked_s[name] = now_s
            self._counts[name] = (self._count(name, now_s) + load.requests_per_s * window_s, now_s)

    def want(self, name: Name) -> None:
        """Somebody waits for a version that sleeps."""
        now_s = self._clock.monotonic()
        new = not self.wanted(name)
        self._asked_s[name] = self._wanted_s[name] = now_s
        if new:
            self._waits_since_s[name] = now_s
            self._changed.fire()

    def awake(self, name: Name) -> None:
        """It answers from now on: it is idle since now at the earliest, and need not be wanted any more."""
        self._asked_s[name] = self._clock.monotonic()
        self._wanted_s.pop(name, None)

    def wanted(self, name: Name) -> bool:
        """Whether somebody waits for it."""
        return self._clock.monotonic() - self._wanted_s.get(name, -inf) <= WANTED_S

    def waits_s(self, name: Name) -> float:
        """For how long somebody has waited for it, in seconds; 0 where nobody does."""
        return self._clock.monotonic() - self._waits_since_s[name] if self.wanted(name) else 0.0

    def idle_s(self, name: Name) -> float:
        """For how long nobody has asked for it, as far as is known, in seconds. 0: it may be in use."""
        now_s = self._clock.monotonic()
        if not self._all_tell(now_s):
            return 0.0
        idle_s = now_s - max(self._since_s, self._asked_s.get(name, now_s))
        return idle_s if idle_s >= _WINDOWS * max(one.window_s for one in self._batchers.values()) else 0.0

    def since_s(self, name: Name) -> float:
        """How long ago it was last asked for, as far as was told, in seconds."""
        now_s = self._clock.monotonic()
        return now_s - self._asked_s.get(name, now_s)

    def rate_per_s(self, name: Name) -> float:
        """How often it has been asked for of late, in requests a second."""
        return self._count(name, self._clock.monotonic()) / DECAY_S

    def load(self, name: Name) -> Load | None:
        """What all batchers together were asked for of a version; None while one that may be asked is silent."""
        if not self._all_tell(self._clock.monotonic()):
            return None
        found = [heard.loads[name] for heard in self._batchers.values() if name in heard.loads]
        return Load(
            requests_per_s=sum(one.requests_per_s for one in found),
            in_flight=sum(one.in_flight for one in found),
            queued=sum(one.queued for one in found),
            p95_ms=max((one.p95_ms for one in found), default=0.0),
        )

    def keep(self, names: Set[Name]) -> None:
        """Forgets all others, and batchers that are gone; names that are new are idle from now on."""
        now_s = self._clock.monotonic()
        self._asked_s = {name: self._asked_s.get(name, now_s) for name in names}
        self._wanted_s = {name: at_s for name, at_s in self._wanted_s.items() if name in names}
        self._waits_since_s = {name: at_s for name, at_s in self._waits_since_s.items() if name in self._wanted_s}
        self._counts = {name: count for name, count in self._counts.items() if name in names}
        self._batchers = {one: heard for one, heard in self._batchers.items() if now_s - heard.at_s <= GONE_S}

    def _count(self, name: Name, now_s: float) -> float:
        count, at_s = self._counts.get(name, (0.0, now_s))
        return count * exp((at_s - now_s) / DECAY_S)

    def _all_tell(self, now_s: float) -> bool:
        heard = self._batchers.values()
        return bool(heard) and all(now_s - one.at_s <= SILENT_S for one in heard)
