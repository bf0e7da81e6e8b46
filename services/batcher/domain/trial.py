"""Whether one way of sending is better than another, from intervals in which they took turns.

What is compared is power, throughput over mean time in the system (L. Kleinrock, Power and Deterministic Rules of
Thumb for Probabilistic Problems in Computer Communications, ICC 1979). In a closed loop more throughput is less time;
below saturation throughput is given and time decides; beyond it throughput decides the time: one figure for all three.

The intervals of a way are added up before they are compared: a mean of what each said would count the calm ones, of
which there are many with few requests, for more than the bursts, in which the requests are. How far chance may have
moved the result is told by leaving out each pair in turn (the jackknife: J. W. Tukey, Bias and Confidence in Not-quite
Large Samples, 1958).

Where load comes and goes by itself, most of that chance is the load's: one way met the burst, the other did not. So
the times are also compared at equal load, with the load as covariate (analysis of covariance: R. A. Fisher, Statistical
Methods for Research Workers, 1932), and of the two results the more certain one counts. Only where more load goes with
more time, though: in a closed loop less time is what makes the load.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, log, sqrt

PAIRS_MIN = 3
_PAIRS_MAX = 12
_WIN_MIN = 0.01
"""The least gain in power, as a logarithm, for which a way is changed. For each pair beyond the
first it must promise as much again: what takes long to find out must be worth it."""
_CERTAIN = 2.5
"""Errors by which a gain must be beyond the least, with many pairs; with few the error itself is uncertain."""
_HOPELESS = -0.08
"""Two pairs that lost by more, beyond four errors, end a trial: it costs those who wait."""
_ERROR_MIN = 0.004
_ERROR_OF_TWO_MIN = 0.04
"""Two pairs that agree say little of how far they may err."""


@dataclass(slots=True)
class Interval:
    """What was measured while one way was in force."""

    seconds: float = 0.0
    rows: int = 0
    requests: int = 0
    sojourn_s: float = 0.0
    """Of the requests, all together."""


Pair = tuple[Interval, Interval]
"""Of the way in force and of the one that is tried, one after the other."""


@dataclass(frozen=True, slots=True)
class Gain:
    """The logarithm of the power of the way that is tried over that of the one in force."""

    mean: float
    error: float
    """Standard error."""


def gain(pairs: Sequence[Pair]) -> Gain:
    """What at least two pairs say."""
    plain = _plain(pairs)
    adjusted = _at_equal_load(pairs) if len(pairs) >= PAIRS_MIN else None
    return adjusted if adjusted is not None and adjusted.error < plain.error else plain


def verdict(pairs: Sequence[Pair]) -> bool | None:
    """Whether the way that is tried is better; None while that is open."""
    count = len(pairs)
    if count < 2:
        return None
    found = gain(pairs)
    if count < PAIRS_MIN:
        return False if found.mean + 4 * max(found.error, _ERROR_OF_TWO_MIN) < _HOPELESS else None
    if found.mean - _CERTAIN * (1 + 2 / (count - 1)) * found.error > _WIN_MIN:
        return True
    if found.mean + found.error < _WIN_MIN * (count - PAIRS_MIN + 1) or count >= _PAIRS_MAX:
        return False
    return None


def _plain(pairs: Sequence[Pair]) -> Gain:
    count = len(pairs)
    without = [_ratio([pair for other, pair in enumerate(pairs) if other != left_out]) for left_out in range(count)]
    mean = sum(without) / count
    error = sqrt((count - 1) / count * sum((one - mean) ** 2 for one in without))
    return Gain(_ratio(pairs), max(error, _ERROR_MIN))


def _ratio(pairs: Sequence[Pair]) -> float:
    return _power([tried for _, tried in pairs]) - _power([usual for usual, _ in pairs])


def _power(intervals: Sequence[Interval]) -> float:
    seconds = sojourn_s = 0.0
    rows = requests = 0
    for one in intervals:
        seconds += one.seconds
        rows += one.rows
        requests += one.requests
        sojourn_s += one.sojourn_s
    return log(max(rows, 1) / max(seconds, 1e-9) * max(requests, 1) / max(sojourn_s, 1e-9))


@dataclass(slots=True)
class _Sums:
    """Of one way: log load (x) and log mean time (y) of its intervals, weighed by their requests."""

    points: Sequence[tuple[float, float, float]]
    weight: float
    x: float
    y: float
    like: float
    """As many intervals of equal weight would say as much."""


def _sums(intervals: Sequence[Interval]) -> _Sums | None:
    points = [
        (float(one.requests), log(one.requests / one.seconds), log(one.sojourn_s / one.requests))
        for one in intervals
        if one.requests and one.seconds > 0 and one.sojourn_s > 0
    ]
    weight = sum(point[0] for point in points)
    if len(points) < PAIRS_MIN:
        return None
    return _Sums(
        points,
        weight,
        sum(w * x for w, x, _ in points) / weight,
        sum(w * y for w, _, y in points) / weight,
        weight * weight / sum(w * w for w, _, _ in points),
    )


def _at_equal_load(pairs: Sequence[Pair]) -> Gain | None:
    """None where load does not explain times."""
    usual, tried = _sums([pair[0] for pair in pairs]), _sums([pair[1] for pair in pairs])
    if usual is None or tried is None:
        return None
    xx = xy = yy = 0.0
    for sums in (usual, tried):
        # Both ways count the same, whatever their requests.
        xx += sum(w * (x - sums.x) ** 2 for w, x, _ in sums.points) / sums.weight
        xy += sum(w * (x - sums.x) * (y - sums.y) for w, x, y in sums.points) / sums.weight
        yy += sum(w * (y - sums.y) ** 2 for w, _, y in sums.points) / sums.weight
    if xx <= 0 or xy <= 0:
        return None
    slope = xy / xx
    count = len(usual.points) + len(tried.points)
    variance = max(0.0, yy - slope * xy) / 2 * count / (count - 3)
    apart = tried.x - usual.x
    like = usual.like + tried.like
    error = sqrt(variance * (1 / usual.like + 1 / tried.like + apart * apart / (xx / 2 * like)))
    return Gain(usual.y - tried.y + slope * apart, max(error, _ERROR_MIN)) if error < inf else None
