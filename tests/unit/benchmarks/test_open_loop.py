"""What an open-loop script came to."""

import numpy as np
import pytest

from benchmarks.open_loop import Outcome

NAN = float("nan")


def outcome(*latency_s: float) -> Outcome:
    return Outcome(2.0, np.array(latency_s), np.array([0.001] * len(latency_s)))


def test_goodput_counts_what_came_in_time() -> None:
    assert outcome(0.01, 0.1, 0.11, NAN).goodput(0.1) == 1.0


def test_what_failed_in_the_lead_in_is_an_error_too() -> None:
    assert Outcome(1.0, np.array([0.01, NAN]), np.zeros(2), 3).errors == 4


def test_what_was_not_answered_is_an_error_and_slower_than_everything() -> None:
    some = outcome(0.01, 0.02, 0.03, NAN)
    assert some.errors == 1
    assert some.percentile_ms(50) == pytest.approx(30.0)
    assert some.percentile_ms(95) == float("inf")
    assert some.lag_ms(99) == pytest.approx(1.0)
