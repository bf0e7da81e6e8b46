"""The tests by which drift is told from chance.

Out of scipy.special and not scipy.stats, which takes a second or more to import at each start; tests hold the two
against each other.
"""

from collections.abc import Sequence
from math import log, sqrt

import numpy as np
import numpy.typing as npt
from scipy import special

Floats = npt.NDArray[np.float64]


def kolmogorov_p(scaled: float) -> float:
    """The probability that the two-sample Kolmogorov–Smirnov statistic, times the root of n m / (n + m), is that large
    or larger by chance; for many rows."""
    return float(special.kolmogorov(scaled))


def chi_squared_of(table: Floats) -> tuple[float, float]:
    """Pearson's statistic and its p-value of a table of counts, no row and no column of which is empty."""
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    statistic = float(((table - expected) ** 2 / expected).sum())
    freedom = (table.shape[0] - 1) * (table.shape[1] - 1)
    return statistic, float(special.chdtrc(freedom, statistic))


def jensen_shannon(first: Floats, second: Floats) -> float:
    """The distance of two distributions, to be made to sum up to 1, with base 2: 0 to 1."""
    one, other = first / first.sum(), second / second.sum()
    middle = (one + other) / 2
    divergence = float((special.rel_entr(one, middle) + special.rel_entr(other, middle)).sum()) / 2
    # Rounding may leave a little less than nothing.
    return min(1.0, sqrt(max(0.0, divergence) / log(2)))


def at_most_p(right: int, count: int, share: float) -> float:
    """The probability of at most `right` of `count` where each is right with probability `share`."""
    return float(special.bdtr(right, count, share))


def above_p(deviations: float) -> float:
    """The probability that a normal variable is above its mean by so many deviations."""
    return float(special.ndtr(-deviations))


def ranks_of(values: Floats) -> Floats:
    """Ranks from 1; equals share the mean of theirs."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Floats = (np.cumsum(counts) - (counts - 1) / 2)[places]
    return ranks


def corrected(p_values: Sequence[float]) -> Floats:
    """P-values corrected for how many they are, so that of what is below a bound no larger share is chance (Benjamini
    and Hochberg, 1995)."""
    given = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(-given, kind="stable")
    scaled = given[order] * len(given) / np.arange(len(given), 0, -1)
    found = np.empty_like(given)
    found[order] = np.minimum(1.0, np.minimum.accumulate(scaled))
    return found
