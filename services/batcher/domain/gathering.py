"""Holding a batch back for callers that were just answered.

Callers that ask again as soon as they are answered come back one after another within a moment. Where a batch of
eight lands and a backend is free, sending the first that comes back alone lets the other seven wait for a whole batch;
so those who wait may be held back until a share of all who are around is there. Around is who waits, who is on the way
and who was just answered. Whether holding back pays, and for which share, is tried out (see `climb`); how long it may
last is bounded here: never longer than joining two batches saves (the bound of ski rental: beyond it, it would have
been cheaper to go). Where joining saves nothing, as with a model whose time is in proportion to its rows, nobody waits.

A lone caller is all who are around, so it never waits; nor does whoever comes when the last answer is older than the
bound.
"""

from math import ceil

from services.batcher.domain.latency_model import LatencyModel

_HELD_MIN_S = 0.001
"""Timers of an event loop are no finer. What ends a hold in time is the arrival of who is expected, not the timer."""
_FADE = 0.8
"""Of the count of those around, at each landing that saw fewer."""
_LOOK_EVERY = 16
"""Landings after which what joining saves is looked up anew."""
_FALL = 0.85
"""To this share of itself may what joining saves fall at once."""
_SAVING_MIN = 0.2
"""Of the time of the joined batch; where joining saves less, nobody waits for it."""


class Gathering:
    """Of one group: how many are around, and when one was last answered."""

    __slots__ = ("_around", "_asked_s", "_away", "_bound_s", "_departed_s", "_landed_s", "_look")

    def __init__(self) -> None:
        self._around = 0.0
        self._away = 0
        self._landed_s = float("-inf")
        self._bound_s = 0.0
        self._look = 0
        self._asked_s = self._departed_s = float("-inf")

    def departed(self, rows: int) -> None:
        """A batch left."""
        self._away += rows
        self._departed_s = self._asked_s

    def spaced_s(self, spacing_s: float, now_s: float) -> float:
        """The moment that is `spacing_s` after the latest batch left, where any is away; else now."""
        self._asked_s = now_s
        return max(now_s, self._departed_s + spacing_s) if self._away else now_s

    def landed(self, rows: int, *, waiting: int, now_s: float, occupancy: LatencyModel, lately: LatencyModel) -> None:
        """A batch is back, while `waiting` rows wait. `occupancy`: how long batches keep a backend busy; `lately`: the
        same, of sizes that came lately."""
        here = waiting + self._away
        faded = self._around * _FADE
        self._around = max(faded, here)
        self._away -= rows
        self._landed_s = now_s
        self._look -= 1
        if self._look < 0:
            self._look = _LOOK_EVERY
            # What was once learned of the joined batch may be long past, and would keep it from ever being seen again.
            bound_s = max(_bound_s(here / 2, occupancy), _bound_s(here / 2, lately))
            # Where times have just changed, sizes that were not seen since are off for a while: it falls step by step.
            fallen_s = _FALL * self._bound_s
            self._bound_s = max(bound_s, fallen_s if fallen_s > _HELD_MIN_S else 0.0)

    def until_s(self, rows: int, share: float, oldest_s: float) -> float:
        """Until when `rows` waiting rows, of which the oldest came at `oldest_s`, are worth holding back for a `share`
        of those around. A moment that has passed: not at all."""
        around, bound_s = self._around, self._bound_s
        landed_s = self._landed_s
        if rows >= share * around or rows >= int(around) - self._away or oldest_s > landed_s + bound_s:
            return 0.0
        return max(oldest_s, landed_s) + bound_s

    def missing(self, rows: int, share: float) -> int:
        """How many more are waited for, at least 1."""
        return max(1, min(ceil(share * self._around), int(self._around) - self._away) - rows)


def _bound_s(half: float, occupancy: LatencyModel) -> float:
    """What it saves to join two batches of `half` the rows."""
    half = max(1.0, half)
    joined_s = occupancy.expected_s(2 * half)
    saved_s = 2 * occupancy.expected_s(half) - joined_s
    return max(_HELD_MIN_S, saved_s) if saved_s > _SAVING_MIN * joined_s else 0.0
