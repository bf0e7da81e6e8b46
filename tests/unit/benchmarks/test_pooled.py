"""Percentiles of all turns together."""

import math

import numpy as np
import pytest

from benchmarks.open_loop import Outcome
from benchmarks.pooled import pooled_ratio


def outcome(rng: np.random.Generator, *, times: float = 1.0, shift: float = 1.0) -> Outcome:
    """1,600 latencies of some milliseconds, as of a turn; `shift` is what the whole machine is slower by."""
    latency_s = 0.003 * shift * times * rng.lognormal(0.0, 0.4, 1600)
    return Outcome(8.0, latency_s, np.zeros_like(latency_s))


@pytest.mark.parametrize("times", [1.0, 1.05, 1.3])
def test_the_ratio_is_found_although_the_machine_has_slow_times(times: float) -> None:
    rng = np.random.default_rng(3)
    shifts = rng.uniform(1.0, 1.5, 40)
    found = pooled_ratio(
        [outcome(rng, shift=shift) for shift in shifts],
        [outcome(rng, times=times, shift=shift) for shift in shifts],
        percentile=99,
    )
    assert found.low <= times <= found.high
    assert found.low < found.value < found.high
    assert found.high - found.low < 0.15


def test_one_disturbed_round_is_no_more_than_a_chance() -> None:
    rng = np.random.default_rng(4)
    without = [outcome(rng) for _ in range(5)]
    beside = [*(outcome(rng) for _ in range(4)), outcome(rng, times=3.0)]
    found = pooled_ratio(without, beside, percentile=99)
    assert found.low < 1.1 < found.value < found.high


def test_what_was_not_answered_counts_as_never() -> None:
    rng = np.random.default_rng(5)
    lost = outcome(rng)
    lost.latency_s[:50] = np.nan
    assert math.isinf(pooled_ratio([outcome(rng)], [lost], percentile=99).value)
    assert str(pooled_ratio([lost], [outcome(rng)], percentile=99)).startswith("x 0.00")
