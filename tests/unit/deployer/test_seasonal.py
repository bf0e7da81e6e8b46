"""What statsmodels makes of a pattern, and that nobody else has to load it."""

import math
import subprocess
import sys

import numpy as np
import pytest

from services.deployer.domain.history import DAY
from services.deployer.domain.seasonal import outlook
from services.supervisor.settings import ROOT


def rate(place: int, weekend: float = 1.0) -> float:
    """Rest at night, a peak at nine that begins within a bucket."""
    of_day, day = place % DAY, place // DAY
    busy = 100.0 if DAY * 9 // 24 <= of_day < DAY * 10 // 24 else 10.0 + 5 * math.sin(2 * math.pi * of_day / DAY)
    return busy * (weekend if day % 7 >= 5 else 1.0)


def played(days: int, *, noise: float = 0.05, weekend: float = 1.0, seed: int = 3) -> list[float]:
    chance = np.random.default_rng(seed)
    return [rate(place, weekend) * float(factor) for place, factor in enumerate(chance.normal(1, noise, days * DAY))]


@pytest.mark.parametrize("days", [2, 3, 8])
def test_a_daily_peak_is_expected_at_its_hour(days: int) -> None:
    known = [*played(days), rate(0)]
    found = outlook(known, day=DAY)
    assert len(found.values) == DAY
    assert found.error < 0.15
    expected = [rate(place) for place in range(len(known), len(known) + DAY)]
    wrong = sum(abs(value - right) for value, right in zip(found.values, expected, strict=True))
    assert wrong < 0.1 * sum(expected)
    # Not smeared: the bucket before the peak is quiet, its first one busy.
    nine = DAY * 9 // 24 - 1
    assert found.values[nine - 1] < 30
    assert found.values[nine] > 70


def test_of_three_weeks_the_week_is_known_too() -> None:
    """After a Friday the weekend is expected; of the days alone it could not be."""
    known = played(19, weekend=0.2)
    saturday = sum(outlook(known, day=DAY).values) / DAY
    friday = sum(known[-DAY:]) / DAY
    assert saturday < 0.4 * friday


def test_the_level_is_that_of_the_last_hours() -> None:
    """Twice as many come since yesterday."""
    known = [value * (2 if place >= 6 * DAY else 1) for place, value in enumerate(played(7))]
    found = outlook(known, day=DAY)
    assert sum(found.values) > 1.5 * sum(known[:DAY])
    # Yesterday that was not foreseen.
    assert found.error > 0.4


def test_what_has_no_pattern_is_known_to_be_wrong() -> None:
    chance = np.random.default_rng(5)
    known = [float(value) for value in chance.pareto(0.8, 8 * DAY)]
    assert outlook(known, day=DAY).error > 0.5


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_what_is_always_the_same_goes_on_so(value: float) -> None:
    found = outlook([value] * (3 * DAY + 1), day=DAY)
    assert found.error < 1e-6
    assert all(abs(one - value) < 1e-6 for one in found.values)


def test_nothing_came_where_something_was_expected() -> None:
    found = outlook([*played(3), *([0.0] * DAY)], day=DAY)
    assert found.error == float("inf")
    assert min(found.values) >= 0


@pytest.mark.parametrize("length", [0, DAY, 2 * DAY])
def test_two_days_or_less_are_refused(length: int) -> None:
    with pytest.raises(ValueError, match=f"{length} values"):
        outlook([1.0] * length, day=DAY)


def test_the_deployer_does_without_the_library() -> None:
    """Its imports take seconds and its memory, so they stay in the process that makes forecasts."""
    said = "import sys, services.deployer.wiring; print(*{'statsmodels', 'pandas', 'patsy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == ""
