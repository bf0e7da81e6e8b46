"""Tests for one look at a sample whose size was settled beforehand. Pure.

Means by Welch's t-test (B. L. Welch, "The generalization of 'Student's' problem when several different population
variances are involved", Biometrika 34, 1947). Shares by the two-proportion z-test with the pooled variance, and the
interval of their difference by Wilson's scores (R. G. Newcombe, "Interval estimation for the difference between
independent proportions", method 10, Stat. Med. 17, 1998), which holds for rare events too. Several comparisons are
corrected for by Holm's method (S. Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Stat. 6,
1979). Sizes of effects are J. Cohen's d and h ("Statistical power analysis for the behavioral sciences", 1988).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import asin, inf, sqrt

import numpy as np

# Not scipy.stats, which takes half a second of CPU to import at each start; tests hold the two against each other.
from scipy import special

from services.router.domain.evidence import MetricSum
from services.router.domain.sequential import variance

CONFIDENCE = 0.95
RATIO_ALPHA = 0.001
"""Below this probability shares of requests are taken for more than chance."""
_RATIO_WEIGHT = 100.0
"""How firmly the mixture over other ratios believes in those of the test, in requests."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A version against the control: the difference is version minus control."""

    difference: float
    low: float
    high: float
    """The 95 % confidence interval of the difference."""
    p_value: float
    """Two-sided."""
    effect_size: float


def welch(control: MetricSum, version: MetricSum) -> Comparison:
    """Two means of any values, at least two of each."""
    means = [sample.total / sample.count for sample in (control, version)]
    spreads = [variance(sample) for sample in (control, version)]
    errors = [spread / sample.count for spread, sample in zip(spreads, (control, version), strict=True)]
    difference, error = means[1] - means[0], sqrt(sum(errors))
    if error == 0.0:
        return Comparison(difference, difference, difference, 1.0 if difference == 0.0 else 0.0, 0.0)
    # Welch and Satterthwaite; by parts of the sum, because squares of tiny variances are zeros.
    parts = [one / sum(errors) for one in errors]
    freedom = 1.0 / (parts[0] ** 2 / (control.count - 1) + parts[1] ** 2 / (version.count - 1))
    p_value = 2.0 * float(special.stdtr(freedom, -abs(difference) / error))
    reach = float(special.stdtrit(freedom, (1.0 + CONFIDENCE) / 2.0)) * error
    pooled = sqrt((spreads[0] * (control.count - 1) + spreads[1] * (version.count - 1)) / (_both(control, version) - 2))
    return Comparison(difference, difference - reach, difference + reach, p_value, difference / pooled)


def two_proportions(control: MetricSum, version: MetricSum) -> Comparison:
    """Two means of zeros and ones."""
    shares = [sample.total / sample.count for sample in (control, version)]
    difference = shares[1] - shares[0]
    pooled = (control.total + version.total) / _both(control, version)
    error = sqrt(pooled * (1.0 - pooled) * (1.0 / control.count + 1.0 / version.count))
    p_value = 2.0 * float(special.ndtr(-abs(difference) / error)) if error > 0.0 else 1.0
    (low_0, high_0), (low_1, high_1) = _wilson(control), _wilson(version)
    return Comparison(
        difference,
        difference - sqrt((shares[1] - low_1) ** 2 + (high_0 - shares[0]) ** 2),
        difference + sqrt((high_1 - shares[1]) ** 2 + (shares[0] - low_0) ** 2),
        p_value,
        2.0 * asin(sqrt(shares[1])) - 2.0 * asin(sqrt(shares[0])),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """The values corrected for their number, in the same order."""
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def sample_ratio_p_value(requests: Mapping[str, int], shares: Mapping[str, int]) -> float:
    """The probability of numbers of requests at least as far from the shares, in percent, by chance (chi-squared)."""
    total = sum(requests[version] for version in shares)
    if not total:
        return 1.0
    expected = [total * share / 100.0 for share in shares.values()]
    distance = sum((requests[version] - wanted) ** 2 / wanted for version, wanted in zip(shares, expected, strict=True))
    return float(special.chdtrc(len(expected) - 1, distance))


def sample_ratio_evidence(requests: Mapping[str, int], shares: Mapping[str, int]) -> float:
    """The logarithm of the evidence that requests are not shared so, valid however often one looks: while they are, it
    ever reaches log(1/alpha) with a probability of at most alpha. A Dirichlet mixture: M. Lindon and A. Malek,
    "Anytime-valid inference for multinomial count data" (NeurIPS 2022)."""
    counts = np.asarray([requests[version] for version in shares], dtype=np.float64)
    wanted = np.asarray(list(shares.values()), dtype=np.float64) / 100.0
    prior = wanted * _RATIO_WEIGHT
    mixed = _log_beta(prior + counts) - _log_beta(prior)
    return float(mixed - np.sum(special.xlogy(counts, wanted))) if counts.sum() else -inf


def _wilson(sample: MetricSum) -> tuple[float, float]:
    share, count = sample.total / sample.count, sample.count
    z = float(special.ndtri((1.0 + CONFIDENCE) / 2.0))
    middle = (share + z * z / (2.0 * count)) / (1.0 + z * z / count)
    reach = z * sqrt(share * (1.0 - share) / count + z * z / (4.0 * count * count)) / (1.0 + z * z / count)
    return max(0.0, middle - reach), min(1.0, middle + reach)


def _both(control: MetricSum, version: MetricSum) -> int:
    return control.count + version.count


def _log_beta(weights: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> float:
    return float(np.sum(special.gammaln(weights)) - special.gammaln(np.sum(weights)))
