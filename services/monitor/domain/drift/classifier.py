"""A classifier that tells window from baseline: it sees what no feature shows alone.

The classifier two-sample test (Lopez-Paz, Oquab, ICLR 2017; compared with others by Rabanser et al., NeurIPS 2019): a
logistic regression on values, their squares, the products of their principal components and which are missing, trained
on four fifths of both samples and asked about the last fifth, five times. Where nothing changed, its area under the ROC
curve on rows that it never saw is that of guessing, whose distribution is the Mann–Whitney statistic's.
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np
import numpy.typing as npt

from services.monitor.domain.drift.sample import RowSample
from services.monitor.domain.drift.statistics import above_p, ranks_of

Floats = npt.NDArray[np.float64]

FOLDS = 5
ROWS_MIN = 100
"""Of each side."""
_STEPS_MAX = 12
_RIDGE = 10.0
"""In rows: how much is needed to move a weight by one deviation. Keeps the columns of a small sample from being learnt
by heart."""
_COMPONENTS_MAX = 8
_SPREAD_MAX = 5.0
"""Values further out count as so far out, in deviations: one outlier must not be the whole model."""


@dataclass(frozen=True)
class DomainTest:
    """What the classifier found. `auc` 0.5: guessing; 1: window and baseline share no row."""

    auc: float
    p_value: float


def domain_test(baseline: RowSample, window: RowSample, chance: np.random.Generator) -> DomainTest | None:
    """Trains and tests the classifier; None where a side has too few rows or no column of numbers."""
    names = sorted({*baseline.names} & {*window.names})
    if min(len(baseline.keys), len(window.keys)) < ROWS_MIN or not names:
        return None
    old, new = (np.asarray(sample.columns(names), dtype=np.float64) for sample in (baseline, window))
    table = _features(np.concatenate((old, new)))
    if not table.shape[1]:
        return None
    labels = np.concatenate((np.zeros(len(old)), np.ones(len(new))))
    folds = np.concatenate((chance.permutation(len(old)), chance.permutation(len(new)))) % FOLDS
    areas, variances = [], []
    for fold in range(FOLDS):
        held = folds == fold
        weights = logistic_weights(table[~held], labels[~held])
        area, variance = auc(table[held] @ weights, labels[held])
        areas.append(area)
        variances.append(variance)
    mean = float(np.mean(areas))
    deviation = sqrt(float(np.mean(variances)) / FOLDS)
    return DomainTest(max(0.5, mean), above_p((mean - 0.5) / deviation))


def auc(scores: Floats, labels: Floats) -> tuple[float, float]:
    """The area under the ROC curve (Mann–Whitney), and its variance where scores say nothing (ties taken as none, which
    makes it no smaller)."""
    positive = labels == 1
    ones, zeros = int(positive.sum()), int((~positive).sum())
    if not ones or not zeros:
        return 0.5, 0.25
    ranks = ranks_of(scores)
    area = (float(ranks[positive].sum()) - ones * (ones + 1) / 2) / (ones * zeros)
    return area, (ones + zeros + 1) / (12 * ones * zeros)


def logistic_weights(table: Floats, labels: Floats) -> Floats:
    """A ridge-penalised logistic regression by Newton's method; the last column of `table` is the constant."""
    weights = np.zeros(table.shape[1])
    penalty = np.full(table.shape[1], _RIDGE)
    penalty[-1] = 1e-3
    for _ in range(_STEPS_MAX):
        chances = 1 / (1 + np.exp(-np.clip(table @ weights, -30, 30)))
        gradient = table.T @ (labels - chances) - penalty * weights
        curvature = (table.T * np.maximum(chances * (1 - chances), 1e-9)) @ table + np.diag(penalty)
        step = np.linalg.solve(curvature, gradient)
        weights = weights + step
        if float(np.abs(step).max()) < 1e-4:
            break
    return weights


def _features(table: Floats) -> Floats:
    """Columns of mean 0 and deviation 1, their squares, products of components, which are missing, and the constant.
    Labels are not looked at, so nothing of them leaks into the rows held out."""
    missing = np.isnan(table)
    columns, values = [], []
    for at in range(table.shape[1]):
        lost, known = missing[:, at], table[~missing[:, at], at]
        if len(known) and np.ptp(known) > 0:
            middle, spread = np.median(known), np.std(known)
            scaled = np.clip((table[:, at] - middle) / spread, -_SPREAD_MAX, _SPREAD_MAX)
            scaled[lost] = 0.0
            columns += [scaled, scaled**2 - np.mean(scaled**2)]
            values.append(scaled)
        if lost.any() and not lost.all():
            columns.append(lost.astype(np.float64) - lost.mean())
    if not columns:
        return np.empty((len(table), 0))
    if len(values) > 1:
        columns += _products(np.column_stack(values))
    return np.column_stack([*columns, np.ones(len(table))])


def _products(table: Floats) -> list[Floats]:
    """The products of each two of the first principal components, each with itself too: how columns go together."""
    centred = table - table.mean(axis=0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    components = centred @ directions[:_COMPONENTS_MAX].T
    components /= np.maximum(components.std(axis=0), 1e-9)
    products = [
        np.clip(components[:, one] * components[:, other], -_SPREAD_MAX, _SPREAD_MAX)
        for one in range(components.shape[1])
        for other in range(one + 1)
    ]
    return [product - product.mean() for product in products]
