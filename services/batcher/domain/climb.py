"""Which way of sending is best now: found by trying, in small controlled trials under the traffic as it is.

A way is two numbers: how many batches a backend gets at a time, and how long those who wait are held back for callers
that were just answered (see `gathering`). What is best depends on the model, the machine and the load, and models of
all three are wrong somewhere, so it is measured, as PCC does for the rate of a connection (M. Dong et al., PCC:
Re-architecting Congestion Control for Consistent High Performance, NSDI 2015): the way in force and a neighbouring one
take turns for short intervals, in the order A B B A, and the neighbour takes over only if it won by more than chance
explains (see `trial`). Pairs of neighbouring intervals see the same traffic, so a load that drifts cancels out.

What a trial costs, those who wait pay. A way that cannot carry the load is given up at its first sign, and how long a
way that did not win is left alone is in proportion to what trying it has cost: the trials of a way cost next to
nothing in the long run. What the backend rules out is not tried at all (see `slots`). Where it makes no difference
nothing moves, so it cannot oscillate between equals. All are due again when batches or their times have changed, and
every ten minutes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

from services.batcher.domain.slots import Slots
from services.batcher.domain.trial import Interval, Pair, gain, verdict

_SHARES_ALONE = (0.0, 1.0, 0.5)
"""In this order: of ways that differ little a trial takes long."""
_LANDINGS_MIN = 8
_INTERVAL_MIN_S = 0.02
_INTERVAL_MAX_S = 5.0
_INTERVAL_GROWTH = 1.3
"""An interval has at least so many batches and lasts at least so long; beyond the maximum batches are too few to
compare, and the trial is given up. From pair to pair both grow: where a few short ones do not decide, the load comes in
bursts that are longer, and what one way leaves behind the next one pays for."""
_HARM = 4.0
"""A batch whose members were here this many times longer than usual under the best way, and"""
_HARM_WORST = 1.5
"""this many times longer than any in this trial, ends a trial at once."""
_HARM_LOSS = 2.0
"""As so much does the interval count: the line that it left has to be worked off."""
_BEHIND_MAX = 2
"""So many full batches that left rows behind end a trial at once,"""
_BEHIND_USUAL = 0.01
"""where usually less than this share of them does: the way does not carry the load."""
_BEHIND_WEIGHT = 0.002
_FULL = 0.9
"""Of the most rows, as many are full: who comes next may not have fitted in."""
_REST_FIRST_S = 0.5
_REST_GROWTH = 3.0
_REST_MAX_S = 600.0
_COST_TIMES = 200.0
"""A way is left alone for this many times what its trial cost, in seconds of all power: trials cost 0.5 % of it."""
_LOSS_MIN = 0.03
"""What a trial costs at least: measuring costs too."""
_IDLE_S = 0.1
"""Rests are of times with traffic: what is longer between two batches is added to them."""
_PAUSE_SHARE = 0.25
"""Of a trial's length, between it and the next one: whoever waited longer for it should have gone by then."""
_CHANGED = 0.5
"""Batches or times that differ by e to this power since they were compared make all ways due,"""
_CHANGED_REST = 4.0
"""but not before this many times what trials have taken since the last time."""
_WEIGHT = 0.003
"""Of the newest batch in the usual rows and times: longer than bursts."""
_WEIGHT_FIRST = 0.05


@dataclass(frozen=True, slots=True)
class Way:
    """One way of sending."""

    in_flight: int
    """Batches at a time for a backend of capacity 1."""
    share: float
    """Of those who are around, how many make a batch that waits no longer for more; 0: none waits."""


def ways(in_flight_max: int) -> Sequence[Way]:
    """All that are tried. With several at a time each waits for its even part of those around: batches of even parts
    follow one another without a gap, and where they were uneven once they become even again, while without waiting a
    pattern of one large batch at a time, once there, stays. Two at a time may also go at once: best for callers that
    are many and do not wait for answers."""
    alone = [Way(1, share) for share in _SHARES_ALONE]
    return (*alone, *([Way(2, 0.0)] if in_flight_max >= 2 else []), *_even_ways(in_flight_max))


def _even_ways(in_flight_max: int) -> Sequence[Way]:
    return [Way(count, 1 / count) for count in range(2, in_flight_max + 1)]


@dataclass(slots=True)
class _Rest:
    """Until when a way is left alone, and how often in a row it did not win."""

    until_s: float
    fruitless: int


class Climb:
    """The search of one version. `way` is in force; `best` is what won so far."""

    __slots__ = (
        "_began_s",
        "_behind",
        "_behind_usual",
        "_candidate",
        "_first",
        "_in_flight_max",
        "_interval",
        "_landed_s",
        "_landings",
        "_next_s",
        "_pairs",
        "_reset_s",
        "_rests",
        "_rows_mean",
        "_rows_then",
        "_seconds_mean",
        "_seconds_then",
        "_skip",
        "_slots",
        "_spent_s",
        "_stretch",
        "_trial_s",
        "_turn",
        "_turned_s",
        "_usual_s",
        "_weight",
        "_worst_s",
        "best",
        "moves",
        "trials",
        "way",
    )

    def __init__(self, slots: Slots, *, in_flight: int, in_flight_max: int) -> None:
        self._slots = slots
        self._in_flight_max = max(1, in_flight_max)
        count = max(1, min(in_flight, self._in_flight_max))
        self.best = self.way = Way(count, 1 / count if count > 1 else 0.0)
        self.trials = 0
        """Trials that were begun."""
        self.moves = 0
        """Trials that were won."""
        self._candidate: Way | None = None
        self._pairs: list[Pair] = []
        self._first = self._interval = Interval()
        self._turn = self._landings = self._skip = 0
        self._began_s = self._turned_s = self._trial_s = 0.0
        self._stretch = 1.0
        """Of the interval, against the shortest."""
        self._usual_s = self._worst_s = 0.0
        """In this trial, of members of batches of the best way: mean and most of their time here."""
        self._behind = 0
        """Batches of this interval that were full and left rows behind."""
        self._behind_usual = 0.0
        self._rests: dict[Way, _Rest] = {}
        self._next_s = 0.0
        self._landed_s = 0.0
        """When traffic was last seen, outside of trials."""
        self._reset_s = self._spent_s = 0.0
        """When all were due the last time, and how long trials have taken since."""
        self._rows_mean = self._seconds_mean = 0.0
        self._rows_then = self._seconds_then = 0.0
        self._weight = _WEIGHT_FIRST

    @property
    def trying(self) -> bool:
        """Whether a trial is going on: `sojourn_s` of `landed` counts only then."""
        return self._candidate is not None

    def departed(self, rows: int, *, left_behind: bool) -> None:
        """A batch left. `left_behind`: it was full, and rows wait on."""
        slots = self._slots
        slots.rows_sent += rows
        full = left_behind and rows >= _FULL * slots.rows_max
        if self.way is self.best:
            self._behind_usual += _BEHIND_WEIGHT * (full - self._behind_usual)
        elif full:
            self._behind += 1

    def landed(
        self, *, rows: int, requests: int, seconds: float, sojourn_s: float, contended: bool, now_s: float
    ) -> bool:
        """A batch of `rows` rows was answered after `seconds`; its `requests` members had been here for `sojourn_s` all
        together. `contended`: the way mattered for it. Returns whether another way is in force now."""
        candidate = self._candidate
        if candidate is None:
            return self._rested(rows, seconds, contended=contended, now_s=now_s)
        if self.way is candidate:
            if self._turn and self._harms(sojourn_s / requests):
                return self._end(won=False, cost_s=_HARM_LOSS * (now_s - self._turned_s), now_s=now_s)
        elif sojourn_s > self._worst_s * requests:
            self._worst_s = sojourn_s / requests
        if self._skip:
            self._skip -= 1
            self._began_s = now_s
            return False
        interval = self._interval
        interval.rows += rows
        interval.requests += requests
        interval.sojourn_s += sojourn_s
        self._landings += 1
        lasted_s = now_s - self._began_s
        stretch = self._stretch
        if self._landings < _LANDINGS_MIN * stretch or lasted_s < _INTERVAL_MIN_S * stretch:
            return self._end(won=False, cost_s=0.0, now_s=now_s) if lasted_s > _INTERVAL_MAX_S else False
        interval.seconds = lasted_s
        return self._interval_over(now_s)

    def _harms(self, mean_s: float) -> bool:
        if self._behind >= _BEHIND_MAX and self._behind_usual < _BEHIND_USUAL:
            return True
        return mean_s > _HARM * self._usual_s and mean_s > _HARM_WORST * self._worst_s

    def _rested(self, rows: int, seconds: float, *, contended: bool, now_s: float) -> bool:
        if not self._rows_mean:
            self._rows_mean, self._seconds_mean = float(rows), seconds
        self._weight = weight = max(_WEIGHT, self._weight * (1 - _WEIGHT_FIRST))
        self._rows_mean += weight * (rows - self._rows_mean)
        self._seconds_mean += weight * (seconds - self._seconds_mean)
        gap_s = now_s - self._landed_s - _IDLE_S
        self._landed_s = now_s
        if gap_s > 0:
            self._rest_longer(gap_s)
        if not contended or now_s < self._next_s:
            return False
        since_s = now_s - self._reset_s
        if since_s > _REST_MAX_S or (since_s >= _CHANGED_REST * self._spent_s and self._changed()):
            self._rests.clear()
            self._slots.forget()
            self._reset_s, self._spent_s = now_s, 0.0
            self._rows_then = self._seconds_then = 0.0
        return self._try_next(now_s)

    def _move(self, way: Way) -> None:
        """Another way is best. What changes by it says nothing of the load."""
        self.best = way
        self.moves += 1
        self._rows_mean = self._rows_then = self._seconds_then = 0.0
        self._weight = _WEIGHT_FIRST

    def _rest_longer(self, seconds: float) -> None:
        """There was no traffic for so long."""
        self._next_s += seconds
        self._reset_s += seconds
        for rest in self._rests.values():
            rest.until_s += seconds

    def _changed(self) -> bool:
        return _apart(self._rows_mean, self._rows_then) or _apart(self._seconds_mean, self._seconds_then)

    def _neighbours(self) -> list[Way]:
        count = self.best.in_flight
        near = [way for way in ways(self._in_flight_max) if way != self.best and abs(way.in_flight - count) <= 1]
        if self._slots.single(self._rows_mean):
            return [way for way in near if way.in_flight == 1]
        return [way for way in near if self._slots.carries(way.in_flight)]

    def _try_next(self, now_s: float) -> bool:
        """Tries the neighbour that has been due for longest."""
        if self.best.in_flight > 1 and self._slots.single(self._rows_mean):
            self._move(Way(1, 0.0))
            self.way = self.best
            return True
        rests, due_s, candidate = self._rests, now_s, None
        for way in self._neighbours():
            until_s = rests[way].until_s if way in rests else 0.0
            if until_s < due_s:
                due_s, candidate = until_s, way
        if candidate is None:
            self._next_s = now_s + _REST_FIRST_S
            if not self._rows_then:
                # All were tried: what comes from now on is compared with what there is now.
                self._rows_then, self._seconds_then = self._rows_mean, self._seconds_mean
            return False
        self._candidate = candidate
        self.trials += 1
        self._pairs = []
        self._stretch = 1.0
        self._turn = 0
        self._usual_s = self._worst_s = 0.0
        self._trial_s = now_s
        return self._begin(now_s)

    def _begin(self, now_s: float) -> bool:
        """The next interval of a trial: A B, B A, A B, …"""
        before = self.way
        self.way = way = self.best if self._turn % 4 in (0, 3) or self._candidate is None else self._candidate
        # Batches to pass over: they were sent the other way, or while the line found its new shape.
        self._skip = 2 + before.in_flight + way.in_flight if way != before else 0
        self._interval = Interval()
        self._began_s = self._turned_s = now_s
        self._landings = self._behind = 0
        return way != before

    def _interval_over(self, now_s: float) -> bool:
        interval = self._interval
        tried = self.way is self._candidate
        if not tried:
            self._usual_s = max(self._usual_s, interval.sojourn_s / interval.requests)
        if self._turn % 2:
            self._pairs.append((self._first, interval) if tried else (interval, self._first))
            self._stretch *= _INTERVAL_GROWTH
            won = verdict(self._pairs)
            if won is not None:
                lost = abs(gain(self._pairs).mean) if won else -gain(self._pairs).mean
                return self._end(won=won, cost_s=lost * (now_s - self._trial_s), now_s=now_s)
        self._first = interval
        self._turn += 1
        return self._begin(now_s)

    def _end(self, *, won: bool, cost_s: float, now_s: float) -> bool:
        """`cost_s`: of trying the way that lost, in seconds of all power."""
        before, tried = self.way, self._candidate
        assert tried is not None
        lasted_s = now_s - self._trial_s
        self._candidate = None
        if won:
            winner, tried = tried, self.best
            self._move(winner)
            for rest in self._rests.values():
                rest.fruitless = 0
        rest = self._rests.setdefault(tried, _Rest(now_s, 0))
        rest.fruitless += 1
        lost_s = _COST_TIMES * max(_LOSS_MIN * lasted_s, cost_s)
        rest.until_s = now_s + min(_REST_MAX_S, max(lost_s, _REST_FIRST_S * _REST_GROWTH**rest.fruitless))
        self.way = self.best
        self._landed_s = now_s
        self._spent_s += lasted_s
        self._next_s = now_s + _PAUSE_SHARE * lasted_s
        return self.way != before


def _apart(now: float, then: float) -> bool:
    return then > 0 and now > 0 and abs(log(now / then)) > _CHANGED
