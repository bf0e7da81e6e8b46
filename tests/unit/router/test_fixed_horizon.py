"""Tests for one look: against scipy on the samples themselves, and known values."""

from math import asin, exp, log, sqrt

import numpy as np
import pytest
from scipy import stats

from services.router.domain.evidence import MetricSum
from services.router.domain.fixed_horizon import (
    holm,
    sample_ratio_evidence,
    sample_ratio_p_value,
    two_proportions,
    welch,
)


def sums(values: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> MetricSum:
    return MetricSum(len(values), float(values.sum()), float((values**2).sum()))


def shares(hits: int, count: int) -> MetricSum:
    return MetricSum(count, float(hits), float(hits))


def test_welch_is_what_scipy_makes_of_the_samples() -> None:
    random = np.random.default_rng(21)
    control, version = random.lognormal(3.0, 0.5, 1200), random.lognormal(3.03, 0.7, 3000)
    found = welch(sums(control), sums(version))
    expected = stats.ttest_ind(version, control, equal_var=False)
    interval = expected.confidence_interval(0.95)
    assert found.p_value == pytest.approx(float(expected.pvalue), rel=1e-6)
    assert (found.low, found.high) == pytest.approx((float(interval.low), float(interval.high)), rel=1e-6)
    assert found.difference == pytest.approx(float(version.mean() - control.mean()))
    pooled = sqrt((1199 * control.var(ddof=1) + 2999 * version.var(ddof=1)) / 4198)
    assert found.effect_size == pytest.approx((version.mean() - control.mean()) / pooled)


def test_welch_on_values_that_never_differ() -> None:
    same = MetricSum(1000, 5000.0, 25_000.0)
    assert welch(same, same).p_value == 1.0
    other = MetricSum(1000, 6000.0, 36_000.0)
    assert (welch(same, other).p_value, welch(same, other).low) == (0.0, 1.0)


def test_welch_says_the_same_of_tiny_values() -> None:
    random = np.random.default_rng(21)
    control, version = random.lognormal(3.0, 0.5, 1200), random.lognormal(3.03, 0.7, 3000)
    found, tiny = welch(sums(control), sums(version)), welch(sums(control * 1e-90), sums(version * 1e-90))
    assert (tiny.p_value, tiny.effect_size) == pytest.approx((found.p_value, found.effect_size), rel=1e-6)


def test_two_proportions_of_a_textbook() -> None:
    # 15 % of 1000 against 12 % of 1000: z = 0.03 / sqrt(0.135 * 0.865 * 0.002) = 1.96305.
    found = two_proportions(shares(120, 1000), shares(150, 1000))
    assert found.p_value == pytest.approx(2 * float(stats.norm.sf(1.96305)), rel=1e-4)
    assert found.effect_size == pytest.approx(2 * asin(sqrt(0.15)) - 2 * asin(sqrt(0.12)))
    # The square of z is the statistic of the chi-squared test without correction.
    chi = stats.chi2_contingency([[120, 880], [150, 850]], correction=False)
    assert found.p_value == pytest.approx(float(chi.pvalue), rel=1e-9)


def test_the_interval_of_newcombes_example() -> None:
    # R. G. Newcombe 1998, table II, method 10: 56/70 less 48/80 gives 0.0524 to 0.3339.
    found = two_proportions(shares(48, 80), shares(56, 70))
    assert (found.low, found.high) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    # And where nothing ever failed it has a width all the same: 0/20 less 0/10 gives -0.1611 to 0.2775 mirrored.
    none = two_proportions(shares(0, 20), shares(0, 10))
    assert none.p_value == 1.0
    assert (none.low, none.high) == pytest.approx((-0.1611, 0.2775), abs=5e-5)


def test_holm_multiplies_from_the_smallest_on_and_never_falls() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.04]) == [0.04]
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_ratio_of_samples_that_chance_does_not_make() -> None:
    requested = {"v1.0.0": 90, "v2.0.0": 10}
    assert sample_ratio_p_value({"v1.0.0": 9000, "v2.0.0": 1000}, requested) == pytest.approx(1.0)
    assert sample_ratio_p_value({"v1.0.0": 0, "v2.0.0": 0}, requested) == 1.0
    off = {"v1.0.0": 9000, "v2.0.0": 1150}
    expected = stats.chisquare([9000, 1150], [9135, 1015]).pvalue
    assert sample_ratio_p_value(off, requested) == pytest.approx(float(expected))
    assert sample_ratio_evidence(off, requested) > log(100)
    assert sample_ratio_evidence({"v1.0.0": 9000, "v2.0.0": 1000}, requested) < 0.0


def test_the_evidence_of_a_ratio_is_a_martingale_while_the_ratio_holds() -> None:
    count, share = 8, 30
    hits = np.arange(count + 1)
    odds = stats.binom.pmf(hits, count, share / 100)
    evidence = [
        exp(sample_ratio_evidence({"a": int(k), "b": count - int(k)}, {"a": share, "b": 100 - share})) for k in hits
    ]
    assert float(odds @ np.asarray(evidence)) == pytest.approx(1.0)
