"""Bounds that hold however often one looks: known values, extremes, and what they never do."""

from math import comb, exp, inf, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate

from services.router.domain.evidence import Latencies, MetricSum
from services.router.domain.latencies import count_above, count_of, quantile_interval_ms, quantile_ms
from services.router.domain.sequential import (
    is_binary,
    log_evidence_above,
    log_evidence_below,
    log_evidence_increase,
    mean_interval,
    mean_radius,
    share_interval,
    shares_high,
    shares_low,
    variance,
)

ALPHA = 0.0025


@pytest.mark.parametrize(("hits", "count", "limit"), [(3, 40, 0.01), (0, 5, 0.2), (7, 7, 0.5), (20, 900, 0.05)])
def test_the_evidence_is_the_mixture_that_it_claims_to_be(hits: int, count: int, limit: float) -> None:
    def ratio(share: float) -> float:
        return (share / limit) ** hits * ((1 - share) / (1 - limit)) ** (count - hits)

    def above(share: float) -> float:
        return ratio(share) * 30 / (1 - limit) * ((1 - share) / (1 - limit)) ** 29

    expected, _ = integrate.quad(above, limit, 1, points=[limit + 0.01, limit + 0.05], limit=200)
    assert exp(float(log_evidence_above(hits, count, limit))) == pytest.approx(expected, rel=1e-6)
    expected, _ = integrate.quad(lambda share: ratio(share) / limit, 0, limit, limit=200)
    assert exp(float(log_evidence_below(hits, count, limit))) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("true", [0.01, 0.3])
def test_the_evidence_is_a_martingale_at_the_limit_and_less_below_it(true: float) -> None:
    count = 12
    hits = np.arange(count + 1)
    odds = np.asarray([comb(count, int(k)) * true**k * (1 - true) ** (count - k) for k in hits])
    assert float(odds @ np.exp(log_evidence_above(hits, count, true))) == pytest.approx(1.0)
    assert float(odds @ np.exp(log_evidence_above(hits, count, true + 0.05))) < 1.0
    assert float(odds @ np.exp(log_evidence_below(hits, count, true))) == pytest.approx(1.0)
    assert float(odds @ np.exp(log_evidence_below(hits, count, true / 2))) < 1.0


@given(
    count=st.integers(1, 10**9),
    part=st.floats(0, 1),
    limit=st.floats(1e-9, 1 - 1e-9),
    alpha=st.sampled_from([0.05, 0.0025, 1e-5]),
)
def test_a_bound_says_what_the_test_at_the_limit_says(count: int, part: float, limit: float, alpha: float) -> None:
    hits = round(part * count)
    bounds = share_interval(hits, count, alpha)
    share = hits / count
    assert 0.0 <= bounds.low <= share <= bounds.high <= 1.0
    slack = 1e-9 + 1e-9 * limit
    if limit < bounds.low - slack:
        assert log_evidence_above(hits, count, limit) >= -log(alpha) - 1e-4
    if bounds.low + slack < limit:
        assert log_evidence_above(hits, count, limit) < -log(alpha) + 1e-4
    if limit > bounds.high + slack:
        assert log_evidence_below(hits, count, limit) >= -log(alpha) - 1e-4
    if limit < bounds.high - slack:
        assert log_evidence_below(hits, count, limit) < -log(alpha) + 1e-4


def test_the_ends_of_the_scale_and_large_counts_are_safe() -> None:
    assert share_interval(0, 0, ALPHA).low == 0.0
    assert share_interval(0, 0, ALPHA).high == 1.0
    assert log_evidence_above(1, 1, 0.0) == inf
    assert log_evidence_above(5, 5, 1.0) == -inf
    assert log_evidence_below(4, 5, 1.0) == inf
    assert log_evidence_below(0, 5, 0.0) == -inf
    none, every = share_interval(0, 10**9, ALPHA), share_interval(10**9, 10**9, ALPHA)
    assert none.low == 0.0
    assert 0.0 < none.high < 2e-8
    assert every.high == 1.0
    assert 1.0 - 2e-7 < every.low < 1.0
    large = share_interval(10**7, 10**9, ALPHA)
    assert 0.00997 < large.low < 0.01 < large.high < 0.01003


def test_shares_are_bounded_in_arrays_as_one_by_one() -> None:
    hits, counts = [0, 3, 50, 999], [10, 100, 1000, 1000]
    low, high = shares_low(hits, counts, ALPHA), shares_high(hits, counts, ALPHA)
    for place, (k, n) in enumerate(zip(hits, counts, strict=True)):
        alone = share_interval(k, n, ALPHA)
        assert (low[place], high[place]) == (alone.low, alone.high)


def test_the_evidence_of_an_increase_is_at_most_that_of_every_share_they_may_have() -> None:
    found = float(log_evidence_increase(60, 2000, 200, 20_000, 0.005))
    shares = np.linspace(1e-6, 0.2, 20_001)
    mine = np.logaddexp(0.0, log_evidence_above(60, 2000, shares + 0.005)) - log(2)
    other = np.logaddexp(0.0, log_evidence_below(200, 20_000, shares)) - log(2)
    exact = float((mine + other).min())
    assert exact - 0.15 < found <= exact
    assert log_evidence_increase(10, 1000, 200, 20_000, 0.0) == -inf, "none was measured"
    assert log_evidence_increase(0, 0, 0, 0, 0.0) == -inf


def test_an_increase_that_is_none_is_seldom_proven_and_one_that_is_soon() -> None:
    random, runs, steps = np.random.default_rng(5), 500, 200
    limit = -log(0.01)
    for rate, more, expected in ((0.02, 0.0, False), (0.02, 0.03, True)):
        base = random.binomial(50, rate, (runs, steps)).cumsum(axis=1)
        hits = random.binomial(50, rate + more, (runs, steps)).cumsum(axis=1)
        proven = np.zeros(runs, dtype=np.bool_)
        for step in range(9, steps, 20):
            count = 50 * (step + 1)
            proven |= log_evidence_increase(hits[:, step], count, base[:, step], count, 0.0) >= limit
        assert (float(proven.mean()) > 0.99) if expected else (float(proven.mean()) <= 0.01)


def test_a_mean_of_zeros_and_ones_is_a_share_and_one_of_other_values_is_not() -> None:
    clicks = MetricSum(count=1000, total=30.0, sum_of_squares=30.0)
    assert is_binary(clicks)
    assert mean_interval(clicks, 0.01, binary=True) == share_interval(30, 1000, 0.01)
    paid = MetricSum(count=1000, total=500.0, sum_of_squares=900.0)
    assert not is_binary(paid)
    bounds = mean_interval(paid, 0.01, binary=False)
    assert bounds.low < 0.5 < bounds.high
    assert bounds.high - 0.5 == pytest.approx(mean_radius(variance(paid) / 1000, 1000, 0.02, best_at=2000))
    # Nothing bought yet: it may be anything.
    assert mean_interval(MetricSum(count=1000), 0.01, binary=False).high == inf
    assert mean_interval(MetricSum(), 0.01, binary=False).low == -inf


def test_the_sequence_of_means_is_wider_than_an_interval_for_one_look_but_not_by_much() -> None:
    fixed = 1.959964
    assert 1.3 * fixed < mean_radius(1.0, 2000, 0.05, best_at=2000) < 1.6 * fixed


BUCKETS = st.dictionaries(st.integers(0, 1500), st.integers(1, 500), min_size=1, max_size=20)


@given(counts=BUCKETS, quantile=st.sampled_from([0.5, 0.95, 0.99]))
def test_a_quantile_lies_between_its_bounds_and_the_bounds_are_those_of_the_share_above(
    counts: dict[int, int], quantile: float
) -> None:
    latencies = Latencies(counts=counts)
    bounds, count = quantile_interval_ms(latencies, quantile, ALPHA), count_of(latencies)
    assert bounds.low <= quantile_ms(latencies, quantile) <= bounds.high
    share = 1.0 - quantile
    if bounds.low > 0.0:
        assert log_evidence_above(count_above(latencies, bounds.low), count, share) >= -log(ALPHA)
    if bounds.high < inf:
        assert log_evidence_below(count_above(latencies, bounds.high), count, share) >= -log(ALPHA)


def test_quantiles_are_exact_to_the_bucket() -> None:
    random = np.random.default_rng(4)
    values_us = np.sort(random.lognormal(9.0, 0.6, 20_000))
    buckets, counts = np.unique(np.ceil(np.log(values_us) / log(1.01)).astype(int), return_counts=True)
    latencies = Latencies(1.01, dict(zip(buckets.tolist(), counts.tolist(), strict=True)))
    for quantile in (0.5, 0.95, 0.99):
        exact = float(values_us[int(quantile * len(values_us)) - 1]) / 1000
        assert quantile_ms(latencies, quantile) == pytest.approx(exact, rel=0.0051)
    assert quantile_ms(Latencies(), 0.95) == 0.0


def test_a_request_in_the_limits_own_bucket_counts_in_favour() -> None:
    # Bucket 1000 is (growth^999, growth^1000] µs.
    latencies = Latencies(counts={999: 5, 1000: 7, 1001: 11})
    lower, upper = 1.01**999 / 1000, 1.01**1000 / 1000
    assert count_above(latencies, lower) == 18
    assert count_above(latencies, (lower + upper) / 2) == 11
    assert count_above(latencies, upper) == 11
    assert count_above(Latencies(counts={0: 3, 1: 2}), 0.0005) == 2
