"""Which way of sending is best now: found by trying, in small controlled trials under the traffic as it is.

A way is two numbers: how many batches a backend gets at a time, and how long those who wait are held back for callers
that were just answered (see `gathering`). What is best depends on the model, the machine and the load, and models of
all three are wrong somewhere, so it is measured, as PCC does for the rate of a connection (M. Dong et al., PCC:
Re-architecting Congestion Control for Consistent High Performance, NSDI 2015): the way in force and a neighbouring one
take turns for short intervals, in the order A B B A, and the neighbour takes over only if it won by more than chance
explains. Pairs of neighbouring intervals see the same traffic, so a load that drifts cancels out.

What is compared is power, throughput over mean time in the system (L. Kleinrock, Power and Deterministic Rules of
Thumb for Probabilistic Problems in Computer Communications, ICC 1979). In a closed loop more throughput is less time;
below saturation throughput is given and time decides; beyond it throughput decides the time: one figure for all three.

It rests between rounds, twice as long after each that found nothing, and begins anew when batches or their times have
changed. Where it makes no difference nothing moves, so it cannot oscillate between equals.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log, sqrt

_SHARES_ALONE = (0.0, 0.5, 1.0)
_LANDINGS_MIN = 8
_INTERVAL_MIN_S = 0.02
_INTERVAL_MAX_S = 5.0
_INTERVAL_GROWTH = 1.3
"""An interval has at least so many batches and lasts at least so long; beyond the maximum batches are too few to
compare, and the round is given up. From pair to pair they grow: where a few short ones do not decide, the load comes in
bursts that are longer, and what one way leaves behind the next one pays for."""
_PAIRS_MIN = 3
_PAIRS_MAX = 10
_WIN_MIN = 0.01
"""The least gain in power, as a logarithm, for which a way is changed."""
_CERTAIN = 2.5
"""Standard errors by which a gain must be beyond the least."""
_HOPELESS = -0.08
"""Two pairs in a row below this end a trial: it costs those who wait."""
_HARM = 4.0
"""A batch whose members were here this many times longer than usual under the best way ends a trial at once; near
saturation twice as long is chance."""
_PAIR_CUT = 0.3
"""A pair counts at most this much: a pause of the machine during one interval is not the way's doing."""
_SPREAD_MIN = 0.004
_REST_FIRST_S = 0.5
_REST_MAX_S = 60.0
_CHANGED = 0.4
"""Batches or times that differ by e to this power since the last round let the next one begin early,"""
_EARLY = 0.125
"""after this share of the rest."""
_WEIGHT = 0.01
"""Of the newest batch in the usual rows and times."""
_SKIPS_MAX = 32
"""Rounds that a way which lost clearly is left out of; they double each time it loses."""


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


class _Interval:
    """What was measured in one interval."""

    __slots__ = ("began_s", "landings", "least_s", "requests", "rows", "skip", "sojourn_s")

    def __init__(self, began_s: float, skip: int, least_s: float) -> None:
        self.began_s = began_s
        self.least_s = least_s
        """It lasts at least so long."""
        self.skip = skip
        """Batches to pass over: they were sent the other way, or while the line found its new shape."""
        self.landings = self.rows = self.requests = 0
        self.sojourn_s = 0.0

    def power(self, now_s: float) -> float:
        """The logarithm of throughput over mean time."""
        return log(self.rows / (now_s - self.began_s) * self.requests / max(self.sojourn_s, 1e-9))


class Climb:
    """The search of one version. `way` is in force; `best` is what won so far."""

    __slots__ = (
        "_candidate",
        "_candidates",
        "_gains",
        "_in_flight_max",
        "_interval",
        "_losses",
        "_next_s",
        "_power",
        "_rest_s",
        "_round",
        "_rows_mean",
        "_rows_then",
        "_seconds_mean",
        "_seconds_then",
        "_settled_s",
        "_trial_s",
        "_turn",
        "_usual_s",
        "best",
        "moves",
        "trials",
        "way",
    )

    def __init__(self, *, in_flight: int, in_flight_max: int) -> None:
        self._in_flight_max = max(1, in_flight_max)
        count = max(1, min(in_flight, self._in_flight_max))
        self.best = self.way = Way(count, 1 / count if count > 1 else 0.0)
        self.trials = 0
        """Trials that were begun."""
        self.moves = 0
        """Trials that were won."""
        self._candidate: Way | None = None
        self._candidates: list[Way] = []
        self._gains: list[float] = []
        self._interval = _Interval(0.0, 0, 0.0)
        self._losses: dict[Way, tuple[int, int]] = {}
        """For ways that lost clearly: how often, and the round from which on they may be tried again."""
        self._round = 0
        self._next_s = self._settled_s = self._trial_s = 0.0
        self._rest_s = _REST_FIRST_S
        self._rows_mean = self._seconds_mean = 0.0
        self._rows_then = self._seconds_then = 0.0
        self._turn = 0
        self._power = self._usual_s = 0.0

    @property
    def trying(self) -> bool:
        """Whether a trial is going on: `sojourn_s` of `landed` counts only then."""
        return self._candidate is not None

    @property
    def searching(self) -> bool:
        """Whether a round of trials is going on."""
        return self._candidate is not None or bool(self._candidates)

    def landed(
        self, *, rows: int, requests: int, seconds: float, sojourn_s: float, contended: bool, now_s: float
    ) -> bool:
        """A batch of `rows` rows was answered after `seconds`; its `requests` members had been here for `sojourn_s` all
        together. `contended`: the way mattered for it. Returns whether another way is in force now."""
        if self._candidate is None:
            return self._rested(rows, seconds, contended=contended, now_s=now_s)
        interval = self._interval
        if self._turn and self.way is self._candidate and sojourn_s > _HARM * self._usual_s * requests:
            return self._end(won=False, lost_by=_HARM, now_s=now_s)
        if interval.skip:
            interval.skip -= 1
            interval.began_s = now_s
            return False
        interval.landings += 1
        interval.rows += rows
        interval.requests += requests
        interval.sojourn_s += sojourn_s
        lasted_s = now_s - interval.began_s
        if interval.landings < _LANDINGS_MIN or lasted_s < interval.least_s:
            return self._settle(now_s) if lasted_s > _INTERVAL_MAX_S else False
        return self._interval_over(now_s)

    def _rested(self, rows: int, seconds: float, *, contended: bool, now_s: float) -> bool:
        if not self._rows_mean:
            self._rows_mean, self._seconds_mean = float(rows), seconds
        self._rows_mean += _WEIGHT * (rows - self._rows_mean)
        self._seconds_mean += _WEIGHT * (seconds - self._seconds_mean)
        if not contended:
            return False
        if self._candidates:
            return self._try_next(now_s) if now_s >= self._next_s else False
        if now_s < self._next_s:
            if now_s < self._settled_s + (self._next_s - self._settled_s) * _EARLY or not self._changed():
                return False
            self._losses.clear()
        self._round += 1
        self._candidates = self._neighbours()
        return self._try_next(now_s)

    def _changed(self) -> bool:
        return _apart(self._rows_mean, self._rows_then) or _apart(self._seconds_mean, self._seconds_then)

    def _neighbours(self) -> list[Way]:
        """What to try from here."""
        count = self.best.in_flight
        near = [way for way in ways(self._in_flight_max) if way != self.best and abs(way.in_flight - count) <= 1]
        return [way for way in near if self._losses.get(way, (0, 0))[1] <= self._round]

    def _try_next(self, now_s: float) -> bool:
        if not self._candidates:
            return self._settle(now_s)
        self._candidate = self._candidates.pop(0)
        self.trials += 1
        self._gains = []
        self._turn = 0
        self._trial_s = now_s
        return self._begin(now_s)

    def _begin(self, now_s: float) -> bool:
        """The next interval of a trial: A B, B A, A B, …"""
        before = self.way
        first = self._candidate is None or self._turn % 4 in (0, 3)
        self.way = way = self.best if first or self._candidate is None else self._candidate
        skip = 2 + before.in_flight + way.in_flight if way != before else 0
        self._interval = _Interval(now_s, skip, _INTERVAL_MIN_S * _INTERVAL_GROWTH ** len(self._gains))
        return way != before

    def _interval_over(self, now_s: float) -> bool:
        interval = self._interval
        power = interval.power(now_s)
        candidate = self.way is self._candidate
        if not candidate:
            self._usual_s = interval.sojourn_s / interval.requests
        if self._turn % 2:
            gain = power - self._power if candidate else self._power - power
            self._gains.append(max(-_PAIR_CUT, min(_PAIR_CUT, gain)))
            verdict = _verdict(self._gains)
            if verdict is not None:
                return self._end(won=verdict, lost_by=-sum(self._gains) / len(self._gains), now_s=now_s)
        self._power = power
        self._turn += 1
        return self._begin(now_s)

    def _end(self, *, won: bool, lost_by: float, now_s: float) -> bool:
        before, tried = self.way, self._candidate
        assert tried is not None
        if won:
            old, self.best = self.best, tried
            self.moves += 1
            self._rest_s = _REST_FIRST_S
            self._candidates = [way for way in self._neighbours() if way != old]
        elif lost_by > -_HOPELESS:
            losses = self._losses.get(tried, (0, 0))[0] + 1
            self._losses[tried] = (losses, self._round + min(_SKIPS_MAX, 2**losses))
        self._candidate = None
        self.way = self.best
        if self._candidates:
            # As long as the trial was: whoever waited longer for it has gone by then.
            self._next_s = now_s + (now_s - self._trial_s)
        else:
            self._settle(now_s)
        return self.way != before

    def _settle(self, now_s: float) -> bool:
        """Nothing nearby is better."""
        before, self.way = self.way, self.best
        self._candidate = None
        self._candidates = []
        self._rows_then, self._seconds_then = self._rows_mean, self._seconds_mean
        self._settled_s = now_s
        self._next_s = now_s + self._rest_s
        self._rest_s = min(_REST_MAX_S, self._rest_s * 2)
        return self.way != before


def _apart(now: float, then: float) -> bool:
    return then <= 0 or now <= 0 or abs(log(now / then)) > _CHANGED


def _verdict(gains: Sequence[float]) -> bool | None:
    """Whether a neighbour is better by these logarithms of its power over the other's; None while that is open."""
    count = len(gains)
    if count >= 2 and max(gains[-2:]) < _HOPELESS:
        return False
    if count < _PAIRS_MIN:
        return None
    mean = sum(gains) / count
    spread = sqrt(sum((gain - mean) ** 2 for gain in gains) / (count - 1))
    error = max(spread, _SPREAD_MIN) / sqrt(count)
    if mean - _CERTAIN * error > _WIN_MIN:
        return True
    if mean + error < _WIN_MIN or count >= _PAIRS_MAX:
        return False
    return None
