"""Buckets against what they stand for: tokens that drip into a bucket and are taken out by calls."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.limiter.domain.buckets import Limit, decide, limit_of

CALLS = st.lists(st.tuples(st.floats(0, 5), st.integers(1, 4)), max_size=60)


@given(rate=st.floats(0.1, 1000), burst=st.floats(1, 50), calls=CALLS)
def test_it_lets_through_what_a_bucket_of_tokens_lets_through(
    rate: float, burst: float, calls: list[tuple[float, int]]
) -> None:
    limit, now_s, full_at_s = Limit(rate, burst), 0.0, None
    tokens = burst
    for pause_s, hits in calls:
        now_s += pause_s
        tokens = min(burst, tokens + pause_s * rate)
        wanted = min(hits, burst)
        decision = decide(limit, full_at_s, now_s, hits)
        if abs(tokens - wanted) > 1e-5 * burst:  # where it is close, rounding decides
            assert decision.allowed == (tokens >= wanted)
        if decision.allowed:
            tokens -= wanted
            assert decision.retry_after_s == 0
        else:
            assert decision.retry_after_s == pytest.approx((wanted - tokens) / rate, rel=1e-3, abs=1e-5)
        full_at_s = decision.full_at_s


@given(rate=st.floats(1, 100), burst=st.floats(2, 20), seconds=st.integers(1, 20))
def test_over_any_time_no_more_passes_than_the_rate_and_one_burst(rate: float, burst: float, seconds: int) -> None:
    limit, full_at_s, passed = Limit(rate, burst), None, 0
    for step in range(seconds * 50):
        decision = decide(limit, full_at_s, step / 50)
        full_at_s, passed = decision.full_at_s, passed + decision.allowed
    assert passed <= rate * seconds + burst + 1
    assert passed >= min(rate * seconds, 50 * seconds) - 1


@given(rate=st.floats(0.1, 100), burst=st.floats(1, 20))
def test_after_the_time_that_it_says_the_same_call_passes(rate: float, burst: float) -> None:
    limit, full_at_s, now_s = Limit(rate, burst), None, 100.0
    while (decision := decide(limit, full_at_s, now_s)).allowed:
        full_at_s = decision.full_at_s
    assert decide(limit, decision.full_at_s, now_s + decision.retry_after_s + 1e-6).allowed


def test_who_has_no_rate_has_no_limit_and_a_burst_is_a_second_at_least_one() -> None:
    assert limit_of(0, 100) is None
    assert limit_of(50, 0) == Limit(50, 50)
    assert limit_of(0.1, 0) == Limit(0.1, 1)
    assert limit_of(10, 200) == Limit(10, 200)
