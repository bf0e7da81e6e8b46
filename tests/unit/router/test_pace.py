"""Buckets that are filled at intervals, against the limits that they stand for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.domain.pace import Bucket, bucket_of


@given(rate=st.floats(0.01, 1e6), burst=st.floats(0, 1e6))
def test_in_the_long_run_the_rate_passes_and_never_more_than_a_burst_at_once(rate: float, burst: float) -> None:
    bucket = bucket_of(rate, burst)
    assert bucket is not None
    assert bucket.tokens / bucket.interval_s == pytest.approx(rate)
    assert bucket.interval_s >= 0.05 * (1 - 1e-9), "gateways refuse shorter ones"
    assert bucket.most >= bucket.tokens, "else fills would be lost, and the rate not reached"
    assert bucket.most <= max(burst if burst > 0 else rate, bucket.tokens, 1)


def test_examples() -> None:
    assert bucket_of(0, 50) is None
    assert bucket_of(10, 0) == Bucket(10, 1, 0.1)
    assert bucket_of(1000, 5000) == Bucket(5000, 50, 0.05)
    assert bucket_of(0.5, 0) == Bucket(1, 1, 2.0)
