"""Tests and bounds that hold however often one looks. Pure; arrays in, arrays out.

A test of fixed size promises its error for one look at a sample whose size was settled beforehand. Whoever looks every
second and stops at the first bad figure has many chances to be wrong. What is here promises its error over all looks
together, because each statistic is a non-negative supermartingale that begins at 1 while the hypothesis is true: such
a one ever reaches 1/alpha with a probability of at most alpha (Ville 1939).

Shares (errors, slow requests, wrong answers) are tested by mixtures of likelihood ratios: Robbins, "Statistical methods
related to the law of the iterated logarithm", Ann. Math. Stat. 41 (1970); Howard, Ramdas, McAuliffe, Sekhon,
"Time-uniform, nonparametric, nonasymptotic confidence sequences", Ann. Stat. 49(2) (2021), the beta-binomial mixtures.
The ratio of a share q to the limit p0 is a martingale where the true share is p0, and for q > p0 a supermartingale
where it is less; so a mixture over q > p0 tests all shares up to p0 at once, exactly, at any size of sample.

Means are bounded by the Gaussian mixture of Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas, "Time-uniform central limit
theory and asymptotic confidence sequences", Ann. Stat. 52(6) (2024). That is an asymptotic statement: it wants
independent values with a bit more than a finite variance, and enough of them at the first look for the central limit
theorem.
"""

from dataclasses import dataclass
from math import inf, log, sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from services.router.domain.evidence import MetricSum

Floats = NDArray[np.float64]

_EXCESS = 30.0
"""Shares above a limit p0 are mixed by Beta(1, 30) stretched over (p0, 1): what one expects to find is some 3 points
above the limit. It decides how soon a breach is found, never whether the test holds."""
_GRID = 16
_ROUNDS = 8
"""Bounds are found on a grid of 16 places, eight times in a row: to 16^-8 of the range that is searched, outwards."""
_CELLS = 256
"""The range of shares that two versions may have in common is looked through in so many cells."""
_FAR = 20.0
"""So many standard deviations away all of a posterior distribution is on one side, but for 1e-9 at most."""
_MEAN_BEST_AT = 2000.0
"""The sample size at which bounds of means are tightest."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Where a value lies: from `low` to `high`, infinite where nothing is known yet."""

    low: float
    high: float


def log_evidence_above(hits: ArrayLike, count: ArrayLike, limit: ArrayLike) -> Floats:
    """The logarithm of the evidence that the share which `hits` of `count` are drawn from is above `limit` (0 to 1).

    While the share is at most the limit, it ever reaches log(1/alpha) with a probability of at most alpha.
    """
    k, n, p0 = _arrays(hits, count, limit)
    with np.errstate(divide="ignore", invalid="ignore"):
        tail = _part_below(n - k + _EXCESS, k + 1.0, 1.0 - p0)
        evidence = (
            log(_EXCESS)
            - _EXCESS * np.log1p(-p0)
            + special.betaln(k + 1.0, n - k + _EXCESS)
            + np.log(tail)
            - special.xlogy(k, p0)
            - special.xlog1py(n - k, -p0)
        )
    # No tail is left where the measured share is far below the limit; nor is anything above a limit of 1.
    return np.where((tail > 0.0) & (p0 < 1.0), evidence, -inf)


def log_evidence_below(hits: ArrayLike, count: ArrayLike, limit: ArrayLike) -> Floats:
    """The logarithm of the evidence that the share is below `limit`: the shares below it are mixed evenly."""
    k, n, p0 = _arrays(hits, count, limit)
    with np.errstate(divide="ignore", invalid="ignore"):
        tail = _part_below(k + 1.0, n - k + 1.0, p0)
        evidence = (
            special.betaln(k + 1.0, n - k + 1.0)
            + np.log(tail)
            - np.log(p0)
            - special.xlogy(k, p0)
            - special.xlog1py(n - k, -p0)
        )
    return np.where((tail > 0.0) & (p0 > 0.0), evidence, -inf)


def log_evidence_increase(
    hits: ArrayLike, count: ArrayLike, base_hits: ArrayLike, base_count: ArrayLike, increase: float
) -> Floats:
    """A lower bound of the logarithm of the evidence that a share exceeds another one by more than `increase`.

    If it does not, and the other's true share is x, then the first is at most x + increase: the evidence against that,
    times the evidence of the other's samples against x, is a supermartingale, for what one version does tells nothing
    of the other's next request. Either is mixed with doing nothing, so that neither drags the other down. Whatever x
    is, the smallest of these products is at most the true one, and so as valid. Cheaper at equal shares of the traffic
    than a bound for each side: it does not ask for both to be unlucky at once.
    """
    k, n, j, m = np.broadcast_arrays(
        *(np.asarray(value, dtype=np.float64) for value in (hits, count, base_hits, base_count))
    )
    start, end = j / np.maximum(m, 1.0), k / np.maximum(n, 1.0) - increase
    x = start[..., None] + np.maximum(end - start, 0.0)[..., None] * np.linspace(0.0, 1.0, _CELLS + 1)
    # Above, evidence falls with x; below, it grows. So a cell's ends bound what is in between, and the first and the
    # last what is beyond them.
    mine = log_evidence_above(k[..., None], n[..., None], np.minimum(x + increase, 1.0))
    other = log_evidence_below(j[..., None], m[..., None], x)
    nothing = np.full((*start.shape, 1), -inf)
    product = _hedged(np.concatenate([mine, nothing], axis=-1)) + _hedged(np.concatenate([nothing, other], axis=-1))
    return np.where(end > start, product.min(axis=-1), -inf)


def shares_low(hits: ArrayLike, count: ArrayLike, alpha: float) -> Floats:
    """The lower confidence sequence of shares: at every moment together above a true share with a probability of at
    most `alpha`. It is the limit up to which `log_evidence_above` rejects."""
    k, n = np.broadcast_arrays(np.asarray(hits, dtype=np.float64), np.asarray(count, dtype=np.float64))
    low, high = np.zeros(k.shape), k / np.maximum(n, 1.0)
    steps = np.linspace(0.0, 1.0, _GRID + 1)
    for _ in range(_ROUNDS):
        grid = low[..., None] + (high - low)[..., None] * steps
        kept = log_evidence_above(k[..., None], n[..., None], grid) < -log(alpha)
        kept[..., -1] = True
        first = np.argmax(kept, axis=-1)[..., None]
        high = np.take_along_axis(grid, first, axis=-1)[..., 0]
        low = np.take_along_axis(grid, np.maximum(first - 1, 0), axis=-1)[..., 0]
    return low


def shares_high(hits: ArrayLike, count: ArrayLike, alpha: float) -> Floats:
    """The upper confidence sequence of shares, by `log_evidence_below`."""
    k, n = np.broadcast_arrays(np.asarray(hits, dtype=np.float64), np.asarray(count, dtype=np.float64))
    low, high = np.where(n > 0.0, k / np.maximum(n, 1.0), 1.0), np.ones(k.shape)
    steps = np.linspace(0.0, 1.0, _GRID + 1)
    for _ in range(_ROUNDS):
        grid = high[..., None] - (high - low)[..., None] * steps
        kept = log_evidence_below(k[..., None], n[..., None], grid) < -log(alpha)
        kept[..., -1] = True
        first = np.argmax(kept, axis=-1)[..., None]
        low = np.take_along_axis(grid, first, axis=-1)[..., 0]
        high = np.take_along_axis(grid, np.maximum(first - 1, 0), axis=-1)[..., 0]
    return high


def share_interval(hits: int, count: int, alpha: float) -> Interval:
    """A share between both sequences; each end fails with a probability of at most `alpha`."""
    return Interval(float(shares_low(hits, count, alpha)), float(shares_high(hits, count, alpha)))


def mean_interval(sample: MetricSum, alpha: float, *, binary: bool) -> Interval:
    """The mean that a sample is drawn from; each end fails with a probability of about `alpha` over all looks.

    Exact where all values that the metric can have are 0 and 1 (`binary`). Else see `mean_radius`; and infinite while
    all values are the same, because a variance of 0 says that too little was seen, not that all is known.
    """
    if binary and is_binary(sample):
        return share_interval(round(sample.total), sample.count, alpha)
    spread = variance(sample)
    if spread <= 0.0:
        return Interval(-inf, inf)
    mean = sample.total / sample.count
    # Two-sided at 2 alpha, alpha for each side.
    radius = mean_radius(spread / sample.count, sample.count, 2.0 * alpha, best_at=_MEAN_BEST_AT)
    return Interval(mean - radius, mean + radius)


def mean_radius(squared_error: float, count: float, alpha: float, *, best_at: float) -> float:
    """Half the width of the two-sided asymptotic confidence sequence (Waudby-Smith et al. 2024, theorem 2.2) of a mean,
    or of a difference of means, at level `alpha`.

    `squared_error` is the estimate's squared standard error and `count` the samples behind it, of both sides together
    where it is a difference. The sequence is tightest at `best_at` samples.
    """
    rho_squared = (-2.0 * log(alpha) + log(-2.0 * log(alpha)) + 1.0) / best_at if alpha < 0.5 else 1.0 / best_at
    scaled = count * rho_squared
    return sqrt(squared_error * 2.0 * (scaled + 1.0) / scaled * log(sqrt(scaled + 1.0) / alpha))


def variance(sample: MetricSum) -> float:
    """The unbiased variance; 0 for fewer than two values."""
    if sample.count < 2:
        return 0.0
    return max(0.0, (sample.sum_of_squares - sample.total**2 / sample.count) / (sample.count - 1))


def is_binary(sample: MetricSum) -> bool:
    """Whether all values are 0 or 1, as far as the sums tell: then they equal those of their squares."""
    return sample.total == sample.sum_of_squares and 0.0 <= sample.total <= sample.count and sample.total % 1.0 == 0.0


def _hedged(log_evidence: Floats) -> Floats:
    """Half of it, and half of doing nothing."""
    return np.logaddexp(0.0, log_evidence) - log(2.0)


def _part_below(a: Floats, b: Floats, limit: Floats) -> Floats:
    """What part of Beta(a, b) is below `limit`; 1 or 0 without computing it where that is far away."""
    a, b, limit = np.broadcast_arrays(a, b, limit)
    mean = a / (a + b)
    away = (limit - mean) / np.sqrt(mean * (1.0 - mean) / (a + b + 1.0))
    part = np.where(away > 0.0, 1.0, 0.0)
    near = np.abs(away) < _FAR
    part[near] = special.betainc(a[near], b[near], limit[near])
    return part


def _arrays(hits: ArrayLike, count: ArrayLike, limit: ArrayLike) -> tuple[Floats, Floats, Floats]:
    return (
        np.asarray(hits, dtype=np.float64),
        np.asarray(count, dtype=np.float64),
        np.asarray(limit, dtype=np.float64),
    )
