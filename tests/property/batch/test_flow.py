"""How many requests are in flight: enough for the server whatever it is, and few that only wait."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.batch.domain.flow import Flow

_ANSWERS = 3000


def played(flow: Flow, *, at_once: int, service_s: float, rng: random.Random, answers: int = _ANSWERS) -> float:
    """Answers as a server gives them that does `at_once` requests side by side. The mean limit of the second half."""
    limits, in_flight = [], [flow.limit] * flow.limit
    for number in range(answers):
        # Each met what was in flight when it was sent.
        met = in_flight.pop(0)
        flow.answered(service_s * max(1.0, met / at_once) * rng.uniform(0.95, 1.05))
        while len(in_flight) < flow.limit:
            in_flight.append(len(in_flight) + 1)
        if number > answers / 2:
            limits.append(flow.limit)
    return sum(limits) / len(limits)


@given(
    at_once=st.integers(1, 16),
    service_s=st.floats(1e-6, 1.0),
    seed=st.integers(0, 10**6),
)
def test_a_server_has_work_for_all_that_it_does_at_once_and_few_more(at_once: int, service_s: float, seed: int) -> None:
    limit = played(Flow(64), at_once=at_once, service_s=service_s, rng=random.Random(seed))
    assert at_once * 0.8 <= limit <= at_once + 4


@given(ceiling=st.integers(1, 256), later=st.integers(1, 256), seed=st.integers(0, 10**6))
def test_it_stays_within_its_bounds_also_when_they_change(ceiling: int, later: int, seed: int) -> None:
    rng = random.Random(seed)
    flow = Flow(ceiling)
    for most in (ceiling, later):
        flow.resize(most)
        for _ in range(300):
            assert 1 <= flow.limit <= most
            flow.answered(rng.expovariate(1.0) + 1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_a_server_that_callers_keep_busy_gets_less_and_more_again_when_they_have_gone(seed: int) -> None:
    rng, flow = random.Random(seed), Flow(64)
    before = played(flow, at_once=8, service_s=0.01, rng=rng, answers=600)
    beside = played(flow, at_once=2, service_s=0.01, rng=rng, answers=1200)
    after = played(flow, at_once=8, service_s=0.01, rng=rng, answers=1200)
    assert beside < before - 2
    assert after > beside + 2
