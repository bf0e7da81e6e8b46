"""Arrivals: their number, their order, their shape, and that a seed says all."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.arrivals import Times, bursty, perfect_latency_s, poisson

PROCESSES = pytest.mark.parametrize("process", [poisson, bursty])


@PROCESSES
def test_times_ascend_within_the_run_and_repeat_with_their_seed(process: Callable[..., Times]) -> None:
    times = process(5000.0, 2.0, seed=7)
    assert np.all(np.diff(times) >= 0)
    assert times[0] >= 0
    assert times[-1] < 2.0
    assert np.array_equal(times, process(5000.0, 2.0, seed=7))
    assert not np.array_equal(times, process(5000.0, 2.0, seed=8))


@PROCESSES
def test_as_many_arrive_as_the_rate_says(process: Callable[..., Times]) -> None:
    # 20,000 are expected; four standard deviations are 566.
    assert all(abs(len(process(10_000.0, 2.0, seed=seed)) - 20_000) < 566 for seed in range(5))


def per_10_ms(times: Times) -> NDArray[np.int64]:
    return np.histogram(times, bins=np.arange(0.0, 4.001, 0.01))[0]


def test_only_bursts_leave_silences_and_exceed_the_rate() -> None:
    even, bursts = per_10_ms(poisson(10_000.0, 4.0, seed=1)), per_10_ms(bursty(10_000.0, 4.0, seed=1))
    # A Poisson count of 100 has a variance of its mean; bursts have many times that.
    assert even.min() > 50
    assert even.max() < 150
    assert (bursts == 0).mean() > 0.2
    assert np.median(bursts[bursts > 0]) > 140


@pytest.mark.parametrize("seed", range(5))
def test_a_short_run_bursts_no_higher_than_a_long_one(seed: int) -> None:
    # At twice the rate 10 ms hold 200 on average; six standard deviations are 85.
    short = np.histogram(bursty(10_000.0, 0.5, seed=seed), bins=np.arange(0.0, 0.501, 0.01))[0]
    assert short.max() < 285
    assert short.max() > 160


def test_a_perfect_server_answers_in_order_and_as_fast_as_it_can() -> None:
    times = np.array([0.0, 0.0, 0.05, 0.5])
    assert perfect_latency_s(times, 10.0) == pytest.approx([0.1, 0.2, 0.25, 0.1])


@PROCESSES
def test_at_a_perfect_server_only_bursts_make_callers_wait(process: Callable[..., Times]) -> None:
    waits_s = perfect_latency_s(process(7000.0, 20.0, seed=3), 10_000.0)
    assert waits_s.min() == pytest.approx(1e-4)
    # M/D/1 at 70 %: 95 of 100 wait for less than some six others. Bursts of 50 ms pile up far more.
    assert (np.percentile(waits_s, 95) < 0.001) == (process is poisson)
