"""How far two distributions of one feature are apart, and how surprising that is.

Numbers: the Kolmogorov–Smirnov statistic, with a missing value as the smallest of all, so that values that go missing
are drift too, by just their share. The error of the sketches is taken off before its p-value is looked up: what two
sketches of the same distribution may differ by is no evidence. Categories: chi-squared over bins of the baseline's
frequent categories, those that it never had, and the rest.

The population stability index and the Jensen–Shannon distance (base 2) are over the same bins for both: for numbers
those between the baseline's deciles.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import sqrt

import numpy as np
import numpy.typing as npt

from services.monitor.domain.drift.categories import CategorySketch
from services.monitor.domain.drift.numbers import RANK_ERROR, Cdf, NumberSketch
from services.monitor.domain.drift.statistics import chi_squared_of, jensen_shannon, kolmogorov_p

Floats = npt.NDArray[np.float64]

BINS = 10
CATEGORIES_SHOWN_MAX = 18
"""Bins for categories of their own: with many more, chance alone would make a large index out of a thousand rows."""
MISSING = "(missing)"
NEW = "(new)"
OTHER = "(other)"
_EXPECTED_MIN = 5.0
"""Cochran's rule: below it the statistic is not distributed as chi-squared; such bins are put together."""


@dataclass(frozen=True)
class Bin:
    """One bin of both distributions."""

    label: str
    baseline: float
    window: float
    low: float | None = None
    """Where a bin of numbers begins; of the first one the smallest value of both."""
    high: float | None = None
    """Where it ends; of the last one the largest value of both."""


@dataclass(frozen=True)
class Comparison:
    """One feature's window against its baseline."""

    effect: float
    """What thresholds are for: the Kolmogorov–Smirnov statistic of numbers, the stability index of categories."""
    p_value: float
    ks: float
    psi: float
    chi_squared: float
    jensen_shannon: float
    missing: float
    baseline_missing: float
    bins: Sequence[Bin]


def compare_numbers(baseline: NumberSketch, window: NumberSketch) -> Comparison:
    """Compares two columns of numbers, neither without rows."""
    old, new = baseline.cdf(), window.cdf()
    ks = ks_statistic(old, new)
    slack = (0.0 if old.exact else RANK_ERROR) + (0.0 if new.exact else RANK_ERROR)
    scale = sqrt(old.rows * new.rows / (old.rows + new.rows))
    p_value = kolmogorov_p(scale * max(0.0, ks - slack))
    bins = _number_bins(old, new)
    shares = _shares(bins)
    return Comparison(
        effect=ks,
        p_value=p_value,
        ks=ks,
        psi=psi(shares, old.rows, new.rows),
        chi_squared=0.0,
        jensen_shannon=js_distance(shares),
        missing=new.missing,
        baseline_missing=old.missing,
        bins=bins,
    )


def compare_categories(baseline: CategorySketch, window: CategorySketch) -> Comparison:
    """Compares two columns of categories, neither without rows."""
    counts = _category_counts(baseline, window)
    old, new = baseline.rows, window.rows
    table = np.array(list(counts.values()), dtype=np.float64).reshape(-1, 2).T
    statistic, p_value = chi_squared(table)
    bins = [Bin(name, b / old, w / new) for name, (b, w) in counts.items()]
    shares = _shares(bins)
    index = psi(shares, old, new)
    return Comparison(
        effect=index,
        p_value=p_value,
        ks=0.0,
        psi=index,
        chi_squared=statistic,
        jensen_shannon=js_distance(shares),
        missing=window.missing / new,
        baseline_missing=baseline.missing / old,
        bins=_name_new(bins, baseline, window),
    )


def ks_statistic(one: Cdf, other: Cdf) -> float:
    """The largest difference between two distributions, 0 to 1."""
    points = np.union1d(one.values, other.values)
    apart = np.abs(one.at(points) - other.at(points)) if len(points) else np.zeros(1)
    return float(min(1.0, max(apart.max(), abs(one.missing - other.missing))))


def psi(shares: Floats, baseline_rows: int, window_rows: int) -> float:
    """The population stability index over bins, 0 or more. Half a row is added to every bin: an empty one is rare, not
    impossible."""
    count = shares.shape[1]
    if count == 0:
        return 0.0
    old = (shares[0] * baseline_rows + 0.5) / (baseline_rows + 0.5 * count)
    new = (shares[1] * window_rows + 0.5) / (window_rows + 0.5 * count)
    return float(max(0.0, ((new - old) * np.log(new / old)).sum()))


def js_distance(shares: Floats) -> float:
    """The Jensen–Shannon distance with base 2, 0 to 1."""
    if shares.shape[1] == 0 or not shares.any(axis=1).all():
        return 0.0
    return jensen_shannon(shares[0], shares[1])


def chi_squared(table: Floats) -> tuple[float, float]:
    """The statistic and the p-value of a table of counts with two rows; bins that are too rare are put together."""
    table = table[:, table.sum(axis=0) > 0]
    if table.shape[1] < 2 or not table.sum(axis=1).all():
        return 0.0, 1.0
    expected = table.sum(axis=0) * (table.sum(axis=1).min() / table.sum())
    rare = expected < _EXPECTED_MIN
    if rare.any():
        table = np.column_stack((table[:, ~rare], table[:, rare].sum(axis=1)))
        if table.shape[1] < 2:
            return 0.0, 1.0
    return chi_squared_of(table)


def _shares(bins: Sequence[Bin]) -> Floats:
    return np.array([[one.baseline for one in bins], [one.window for one in bins]])


def _number_bins(old: Cdf, new: Cdf) -> list[Bin]:
    """Bins between the baseline's deciles, those of missing values first."""
    edges = _edges(old if len(old.values) else new)
    bins = [Bin(MISSING, old.missing, new.missing)] if old.missing or new.missing else []
    if not len(edges):
        return bins
    labels = [f"< {edges[0]:.4g}"]
    labels += [f"[{low:.4g}, {high:.4g})" for low, high in pairwise(edges)]
    labels.append(f"≥ {edges[-1]:.4g}")
    cuts = [np.concatenate(([cdf.missing], cdf.below(edges), [1.0])) for cdf in (old, new)]
    shares = [np.maximum(0.0, np.diff(cut)).tolist() for cut in cuts]
    return bins + [
        Bin(label, baseline, window, low, high)
        for label, baseline, window, (low, high) in zip(
            labels, *shares, pairwise(_bounds(edges, old, new)), strict=True
        )
    ]


def _bounds(edges: Floats, *cdfs: Cdf) -> list[float]:
    """Where bins begin and end: the edges, and beyond them the smallest and the largest value that there is."""
    known = np.concatenate([edges, *(cdf.values for cdf in cdfs)])
    return [float(known.min()), *edges.tolist(), float(known.max())]


def _edges(cdf: Cdf) -> Floats:
    """The inner deciles of the values that are there, no value twice."""
    if not len(cdf.values):
        return np.empty(0)
    wanted = cdf.missing + (1 - cdf.missing) * np.arange(1, BINS) / BINS
    places = np.minimum(np.searchsorted(cdf.shares, wanted - 1e-12), len(cdf.values) - 1)
    return np.unique(cdf.values[places])


def _category_counts(baseline: CategorySketch, window: CategorySketch) -> Mapping[str, tuple[float, float]]:
    """Counts of both by bin: the baseline's frequent categories, the new, the missing, all others."""
    old, new = baseline.kept(), window.kept()
    ordered = sorted(old, key=lambda name: (-old[name], name))[:CATEGORIES_SHOWN_MAX]
    counts: dict[str, tuple[float, float]] = {name: (old[name], new.get(name, 0)) for name in ordered}
    # Where the baseline had to forget rare categories, what it does not know may be one of them.
    fresh = sum(count for name, count in new.items() if name not in old) if baseline.exact else 0
    told_old = sum(b for b, _ in counts.values()) + baseline.missing
    told_new = sum(w for _, w in counts.values()) + window.missing + fresh
    rest = {
        NEW: (0, fresh),
        OTHER: (max(0, baseline.rows - told_old), max(0, window.rows - told_new)),
        MISSING: (baseline.missing, window.missing),
    }
    counts.update({name: both for name, both in rest.items() if any(both)})
    return counts


def _name_new(bins: Sequence[Bin], baseline: CategorySketch, window: CategorySketch) -> Sequence[Bin]:
    """The bins to draw: the most frequent new categories by name."""
    place = next((at for at, one in enumerate(bins) if one.label == NEW), None)
    if place is None:
        return bins
    old = baseline.kept()
    fresh = sorted(((count, name) for name, count in window.kept().items() if name not in old), reverse=True)[:3]
    named = [Bin(name, 0.0, count / window.rows) for count, name in fresh]
    rest = bins[place].window - sum(one.window for one in named)
    named += [Bin(NEW, 0.0, rest)] if rest > 1e-12 else []
    return [*bins[:place], *named, *bins[place + 1 :]]
