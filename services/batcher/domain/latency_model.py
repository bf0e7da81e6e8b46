"""How long a batch takes, as a function of its rows: learned from the batches themselves, never set.

Sizes are kept in buckets, two for each power of two (1, 2, 3, 4-5, 6-7, 8-11, 12-15, …), so the memory of a model is
bounded whatever sizes come. A bucket holds the usual time: an exponential moving average whose residuals are cut at
three usual deviations (Huber's M-estimator: P. J. Huber, Robust Estimation of a Location Parameter, 1964). One pause of
a garbage collector moves it by a fraction of a deviation. Where batches of all sizes take longer or shorter than they
used to, for some tens of batches, the whole curve is moved at once: sizes that did not come lately move with the rest.

The 95th percentile is a multiple of the usual time, one for all sizes of a model: stochastic approximation of a
quantile (H. Robbins, S. Monro, A Stochastic Approximation Method, 1951) of the time over what was expected. Outliers
count in it, each as one and not by its size.

More rows never take less time, so the buckets are read through isotonic regression (pool adjacent violators), each
weighed by how much it saw and how lately: noise cannot make a larger batch look quicker, and what was learned before
the machine changed gives way to what is seen now. Between buckets the model is linear; beyond the largest batch seen it
goes on with the last slope, and where only one size was seen it stays flat: it does not invent a cost.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import ceil, exp, inf, log

_WEIGHT = 0.06
"""Of the newest batch in the averages, once a bucket has seen some: about the last thirty count."""
_CUT = 3.0
"""Residuals beyond this many usual deviations count as this many."""
_CUT_SPREAD = 6.0
"""And this many for the deviation, which must be able to grow when everything changes."""
_QUANTILE = 0.95
_QUANTILE_STEP = 0.05
"""Of the logarithm of the multiple at one batch; it sways by about as much, and falls by a fifth within 100 batches."""
_TAIL_FIRST = 1.25
_TAIL_MAX = 100.0
_TAIL_UP = exp(_QUANTILE * _QUANTILE_STEP)
_TAIL_DOWN = exp((_QUANTILE - 1) * _QUANTILE_STEP)
_SPREAD_MIN = 0.01
"""The least deviation, as a share of the time: where all take the same, the next one may still differ."""
_FADE_BATCHES = 2000.0
"""A bucket's weight falls to 1/e over this many batches of other sizes."""
_SECONDS_MIN = 1e-7
_DRIFT_WEIGHT = 0.05
_DRIFT_CUT = 1.0
"""A batch counts in the drift as at most e times slower or quicker than expected."""
_RATIO_MIN = exp(-_DRIFT_CUT)
_DRIFT_MAX = 0.25
"""Once batches take e to this power times what was expected, 1.28 times or less than 0.78 times, the curve is moved."""
_STALE = 500
"""Batches of other sizes after which a size is learned anew: what it once took would say that the machine changed."""
_KNOWN_MIN = 8
"""Batches after which a model relies on itself."""
_REREAD_MAX = 64
"""The curve is read anew at most this many batches after the last time."""


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One size on the learned curve."""

    rows: float
    """The usual rows of the batches that it stands for."""
    expected_s: float
    p95_s: float


class _Bucket:
    """Batches of about the same size."""

    __slots__ = ("expected_s", "rows", "seen", "seen_at", "spread_s")

    def __init__(self, rows: int, seconds: float) -> None:
        self.rows = float(rows)
        self.expected_s = seconds
        self.spread_s = max(seconds * 0.1, 1e-9)
        self.seen = 1
        self.seen_at = 0

    def add(self, rows: int, seconds: float) -> None:
        self.seen = seen = self.seen + 1
        weight = 1.0 / seen if seen < 1.0 / _WEIGHT else _WEIGHT
        spread_s = self.spread_s
        residual_s = seconds - self.expected_s
        size_s = residual_s if residual_s >= 0 else -residual_s
        if size_s > _CUT * spread_s:
            cut_s = _CUT * spread_s
            self.expected_s += weight * (cut_s if residual_s > 0 else -cut_s)
            size_s = min(size_s, _CUT_SPREAD * spread_s)
        else:
            self.expected_s += weight * residual_s
        self.rows += weight * (rows - self.rows)
        # Never slower than the average moves: a first guess that was too small must not cut the truth off.
        self.spread_s = max(spread_s + max(weight, _WEIGHT) * (size_s - spread_s), self.expected_s * _SPREAD_MIN)


class LatencyModel:
    """Time of a batch by its rows. `parent` answers while this one has seen too little: a group's model has its
    version's. `keeps`: sizes that did not come within so many batches are left out; inf: none. Times are in seconds,
    from a batch's departure to its answer."""

    __slots__ = ("_buckets", "_curve", "_drift", "_keeps", "_parent", "_reread_at", "_sizes", "_tail", "seen")

    def __init__(self, parent: "LatencyModel | None" = None, *, keeps: float = inf) -> None:
        self._parent = parent
        self._keeps = keeps
        self._buckets: dict[int, _Bucket] = {}
        self._curve: list[CurvePoint] = []
        self._sizes: list[float] = []
        self._reread_at = 1
        self._tail = _TAIL_FIRST
        self._drift = 0.0
        self.seen = 0
        """Batches that it learned from."""

    def observe(self, rows: int, seconds: float) -> None:
        """A batch of `rows` rows took `seconds`; one without rows counts as one of 1 row."""
        self.seen = seen = self.seen + 1
        rows = max(1, rows)
        bits = rows.bit_length()
        index = 2 * bits - 1 if bits >= 2 and rows < 3 << (bits - 2) else 2 * bits
        bucket = self._buckets.get(index)
        if bucket is None or seen - bucket.seen_at > _STALE:
            bucket = self._buckets[index] = _Bucket(rows, max(seconds, _SECONDS_MIN))
            self._reread_at = seen
        else:
            # Before the bucket learns from it, or a lone batch would be compared with itself.
            self._compare(seconds / bucket.expected_s)
            bucket.add(rows, seconds)
        bucket.seen_at = seen
        parent = self._parent
        if parent is not None:
            parent.observe(rows, seconds)

    @property
    def known(self) -> bool:
        """Whether it, or its parent, has seen any batch."""
        return self.seen > 0 or (self._parent is not None and self._parent.known)

    def expected_s(self, rows: float) -> float:
        """The usual time of a batch of `rows` rows; 0.0 where nothing is known."""
        parent = self._parent
        if parent is not None and self.seen < _KNOWN_MIN and parent.seen:
            return parent.expected_s(rows)
        curve = self.curve()
        if not curve:
            return 0.0
        above = bisect_left(self._sizes, rows)
        if above == 0 or len(curve) == 1:
            return curve[0].expected_s
        above = min(above, len(curve) - 1)
        low, high = curve[above - 1], curve[above]
        share = (rows - low.rows) / (high.rows - low.rows)
        return low.expected_s + share * (high.expected_s - low.expected_s)

    def p95_s(self, rows: float) -> float:
        """The time that 95 of 100 batches of `rows` rows do not exceed; 0.0 where nothing is known."""
        return self.expected_s(rows) * self.tail

    @property
    def tail(self) -> float:
        """The 95th percentile of the time over what was expected."""
        parent = self._parent
        return parent.tail if parent is not None and self.seen < _KNOWN_MIN and parent.seen else self._tail

    @property
    def rows_seen(self) -> tuple[float, float]:
        """The sizes of the smallest and the largest batches seen, about; zeros where there were none."""
        curve = self.curve()
        return (curve[0].rows, curve[-1].rows) if curve else (0.0, 0.0)

    def rows_within(self, seconds: float, *, rows_max: int) -> int:
        """The largest batch, of at most `rows_max` rows, whose 95th percentile is at most `seconds`; at least 1. All of
        `rows_max` where nothing is known."""
        return _largest(self.p95_s, seconds, rows_max)

    def rows_brief(self, times: float, *, rows_max: int) -> int:
        """The largest batch, of at most `rows_max` rows, that usually takes at most `times` as long as the smallest one
        seen; at least 1. All of `rows_max` where nothing is known."""
        curve = self.curve()
        return _largest(self.expected_s, times * curve[0].expected_s, rows_max) if curve else rows_max

    def rows_enough(self, share: float, *, rows_max: int) -> int:
        """The smallest batch that gets `share` of the rows a second of the best size seen; `rows_max` where the largest
        one seen, or nothing, may still be short of the best."""
        curve = self.curve()
        known = [point for point in curve if point.rows <= rows_max]
        best = max((point.rows / max(point.expected_s, _SECONDS_MIN) for point in known), default=0.0)
        wanted = share * best
        for index, point in enumerate(curve[:-1]):
            if point.rows < wanted * point.expected_s:
                continue
            if index == 0:
                return min(rows_max, ceil(point.rows))
            low = curve[index - 1]
            slope_s = (point.expected_s - low.expected_s) / (point.rows - low.rows)
            least = wanted * (low.expected_s - slope_s * low.rows) / (1 - wanted * slope_s)
            return max(1, min(rows_max, ceil(min(least, point.rows))))
        return rows_max

    def curve(self) -> Sequence[CurvePoint]:
        """What was learned, by growing rows; times never fall."""
        if self.seen >= self._reread_at:
            self._reread_at = self.seen + max(1, min(_REREAD_MAX, self.seen // 4))
            self._curve = _isotonic(
                [one for one in self._buckets.values() if self.seen - one.seen_at <= self._keeps], self._tail, self.seen
            )
            self._sizes = [point.rows for point in self._curve]
        return self._curve

    def _compare(self, ratio: float) -> None:
        """A batch took `ratio` times what was expected."""
        if ratio > self._tail:
            self._tail = min(_TAIL_MAX, self._tail * _TAIL_UP)
        else:
            self._tail = max(1.0, self._tail * _TAIL_DOWN)
        moved = log(ratio) if ratio > _RATIO_MIN else -_DRIFT_CUT
        self._drift = drift = self._drift + _DRIFT_WEIGHT * (min(moved, _DRIFT_CUT) - self._drift)
        if drift > _DRIFT_MAX or drift < -_DRIFT_MAX:
            factor = exp(drift)
            for bucket in self._buckets.values():
                bucket.expected_s *= factor
                bucket.spread_s *= factor
            self._drift = 0.0
            self._reread_at = self.seen


def _largest(time_s: Callable[[float], float], seconds: float, rows_max: int) -> int:
    """The largest batch, of 1 to `rows_max` rows, that takes at most `seconds`. Larger ones take no less."""
    if time_s(rows_max) <= seconds:
        return rows_max
    low, high = 1, rows_max
    while high - low > 1:
        middle = (low + high) // 2
        if time_s(middle) <= seconds:
            low = middle
        else:
            high = middle
    return low


def _isotonic(buckets: Iterable[_Bucket], tail: float, seen: int) -> list[CurvePoint]:
    """Pool adjacent violators. `seen`: batches of the model so far."""
    ordered = sorted(buckets, key=lambda one: one.rows)
    weights = [min(one.seen, 1.0 / _WEIGHT) * exp((one.seen_at - seen) / _FADE_BATCHES) + 1e-12 for one in ordered]
    usual = _pooled([one.expected_s for one in ordered], weights)
    return [CurvePoint(one.rows, usual_s, usual_s * tail) for one, usual_s in zip(ordered, usual, strict=True)]


def _pooled(values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """The non-decreasing values that are nearest to `values` in the weighted least squares."""
    pools: list[tuple[float, float, int]] = []
    for value, weight in zip(values, weights, strict=True):
        mean, total, count = value, weight, 1
        while pools and pools[-1][0] > mean:
            before, weighed, many = pools.pop()
            mean = (before * weighed + mean * total) / (weighed + total)
            total += weighed
            count += many
        pools.append((mean, total, count))
    return [mean for mean, _, count in pools for _ in range(count)]
