"""What a trial concludes, from intervals as they come: under even loads, in bursts, and where nothing differs."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.batcher.domain.trial import Interval, gain, verdict

_PAIRS_ENOUGH = 12


def interval(rate: float, mean_s: float) -> Interval:
    """A second in which so many came, of one row each."""
    requests = max(1, round(rate))
    return Interval(1.0, requests, requests, requests * mean_s)


def bursts(seed: int, times: float) -> list[tuple[Interval, Interval]]:
    """Calm or a burst by chance, in each interval anew: in bursts all takes five times as long. The way that is tried
    takes `times` as long as the one in force at the same load."""
    chance = random.Random(seed)

    def one(factor: float) -> Interval:
        burst = chance.random() < 0.4
        return interval(1000 if burst else 100, factor * (0.05 if burst else 0.01) * chance.lognormvariate(0, 0.03))

    return [(one(1.0), one(times)) for _ in range(_PAIRS_ENOUGH)]


def concludes(pairs: list[tuple[Interval, Interval]]) -> bool | None:
    """As a search would: after each pair."""
    for count in range(1, len(pairs) + 1):
        won = verdict(pairs[:count])
        if won is not None:
            return won
    return None


@given(scatter=st.floats(0.0, 0.02), times=st.floats(1.2, 4.0), seed=st.integers(0, 1000))
def test_what_is_clearly_better_wins_and_what_is_clearly_worse_loses(scatter: float, times: float, seed: int) -> None:
    chance = random.Random(seed)
    pairs = [
        tuple(interval(500, mean_s * chance.lognormvariate(0, scatter)) for mean_s in (0.01 * times, 0.01))
        for _ in range(_PAIRS_ENOUGH)
    ]
    assert concludes([(slow, quick) for slow, quick in pairs]) is True
    assert concludes([(quick, slow) for slow, quick in pairs]) is False


@given(seed=st.integers(0, 1000))
def test_where_nothing_differs_nothing_wins(seed: int) -> None:
    same = interval(500, 0.01)
    assert concludes([(same, same)] * _PAIRS_ENOUGH) is False
    assert concludes(bursts(seed, 1.0)) is not None


@given(seed=st.integers(0, 1000))
def test_who_met_the_bursts_does_not_lose_by_it(seed: int) -> None:
    found = gain(bursts(seed, 0.8))
    # Twelve intervals without a burst, or with nothing else, say nothing of equal load but agree among themselves.
    assert found.mean == pytest.approx(0.22, abs=0.1 + 3 * found.error)


def test_many_bursts_are_told_apart_from_a_better_way() -> None:
    wins = sum(concludes(bursts(seed, 0.8)) is True for seed in range(200))
    false = sum(concludes(bursts(seed, 1.0)) is True for seed in range(200))
    assert wins >= 150
    assert false <= 10


def test_a_closed_loop_is_judged_by_its_pace_and_not_at_equal_load() -> None:
    chance = random.Random(1)
    pairs = []
    for _ in range(_PAIRS_ENOUGH):
        pace, tried = (base * chance.lognormvariate(0, 0.02) for base in (500.0, 700.0))
        # 64 are always here, whatever the pace.
        pairs.append((interval(pace, 64 / pace), interval(tried, 64 / tried)))
    assert gain(pairs).mean > 0.5
    assert concludes(pairs) is True
