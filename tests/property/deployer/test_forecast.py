"""A forecast raises the floor ahead of what it expects, within bounds, while it is right, and never takes away."""

from datetime import datetime, timedelta
from math import ceil

from hypothesis import assume, given
from hypothesis import strategies as st

from services.deployer.domain.deployment import Autoscaling
from services.deployer.domain.forecast import (
    ERROR_MAX,
    LEAD_MAX_S,
    LEAD_MIN_S,
    OVER_MAX,
    RECENT_BUCKETS,
    Floor,
    Forecast,
    Standing,
    lead_s,
    verdict,
)
from services.deployer.domain.history import BUCKET_S, DAY
from services.deployer.domain.scaling import Load, Scaler
from tests.support.clock import NOON

rates = st.lists(st.floats(0, 1000), min_size=DAY, max_size=DAY).map(tuple)
leads = st.floats(LEAD_MIN_S, LEAD_MAX_S)
moments = st.floats(0, DAY * BUCKET_S - 1).map(lambda seconds: NOON + timedelta(seconds=seconds))


def floor_of(forecast: Forecast, now: datetime, lead: float) -> Floor:
    said = verdict(forecast, now=now, lead_s=lead, recent={})
    assert said.standing is Standing.USED
    assert said.floor is not None
    return said.floor


@given(rates, moments, leads, st.floats(0.1, 100))
def test_the_floor_is_what_the_busiest_of_the_next_minutes_takes_and_no_more(
    values: tuple[float, ...], now: datetime, lead: float, capacity: float
) -> None:
    forecast = Forecast(NOON, values, 0.1, capacity)
    floor = floor_of(forecast, now, lead)
    begin, end = (now - NOON).total_seconds(), (now - NOON).total_seconds() + lead
    ahead = [rate for place, rate in enumerate(values) if place * BUCKET_S <= end and (place + 1) * BUCKET_S > begin]
    assert floor.replicas == ceil(max(ahead) / capacity)
    assert f"{capacity:.3g} a replica" in floor.why


@given(st.floats(1, 1000), st.floats(0, 0.5), st.integers(2, DAY - 1), leads)
def test_it_rises_only_ahead_of_a_peak_and_falls_when_it_has_passed(
    peak: float, rest: float, place: int, lead: float
) -> None:
    """One busy bucket in a day of rest: the floor is up from a lead before it until its end, and at no other time."""
    forecast = Forecast(NOON, tuple(peak if one == place else rest for one in range(DAY)), 0.1, 0.5)
    begin = place * BUCKET_S
    quiet, busy = ceil(rest / 0.5), ceil(peak / 0.5)
    for second in range(0, DAY * BUCKET_S, 60):
        expected = busy if begin - lead <= second < begin + BUCKET_S else quiet
        assert floor_of(forecast, NOON + timedelta(seconds=second), lead).replicas == expected


@given(
    st.builds(
        Autoscaling,
        enabled=st.just(True),
        min_replicas=st.integers(0, 4),
        max_replicas=st.integers(4, 40),
        target_requests_per_sec=st.just(10.0),
        scale_down_stabilization_s=st.sampled_from((0, 60, 300)),
    ),
    st.lists(st.tuples(st.floats(0, 500), st.integers(0, 60) | st.none()), min_size=1, max_size=80),
    st.integers(1, 40),
)
def test_a_floor_never_takes_a_replica_away_and_keeps_the_most(
    scaling: Autoscaling, course: list[tuple[float, int | None]], first: int
) -> None:
    """From the same past, with the floor there are as many replicas as without or more, and never more than may be."""
    with_floor, without, replicas = Scaler(), Scaler(), first
    for step, (rate, floor) in enumerate(course):
        now_s = step * 2.0
        load = Load(requests_per_s=rate)
        plain = without.decide(scaling, replicas, load, now_s)
        ahead = Load(requests_per_s=rate, floor=Floor(floor, "a peak") if floor is not None else None)
        decided = with_floor.decide(scaling, replicas, ahead, now_s)
        assert decided.replicas >= plain.replicas
        assert decided.replicas >= min(floor or 0, scaling.max_replicas)
        assert decided.replicas <= max(scaling.max_replicas, replicas)
        assert decided.foreseen == (decided.replicas > plain.replicas)
        assert (decided.why == "a peak") == decided.foreseen
        for scaler in (with_floor, without):
            if decided.replicas != replicas:
                scaler.changed(replicas, now_s)
        replicas = decided.replicas


@given(rates, moments, st.floats(0, 10) | st.just(float("inf")))
def test_one_that_was_wrong_the_last_day_is_not_used(values: tuple[float, ...], now: datetime, error: float) -> None:
    said = verdict(Forecast(NOON, values, error, 1.0), now=now, lead_s=300, recent={})
    assert (said.standing is Standing.INACCURATE) == (error > ERROR_MAX)
    assert (said.floor is None) == (error > ERROR_MAX)


@given(st.floats(10, 1000), st.floats(0, 4), st.integers(0, RECENT_BUCKETS))
def test_one_whose_requests_do_not_come_is_not_used(rate: float, share: float, seen: int) -> None:
    """A holiday: what was forecast is compared with what came in the buckets that have passed."""
    assume(abs(OVER_MAX * share - 1) > 0.01)
    now = NOON + timedelta(hours=1)
    recent = {now - timedelta(seconds=BUCKET_S * (one + 1)): rate * share for one in range(seen)}
    said = verdict(Forecast(NOON, (rate,) * DAY, 0.1, 1.0), now=now, lead_s=300, recent=recent)
    missing = seen >= 3 and OVER_MAX * share < 1
    assert (said.standing is Standing.NOT_COMING) == missing
    assert (said.floor is None) == missing


def test_what_would_not_be_raised_need_not_come() -> None:
    """Of a few requests chance makes half; where one replica does for both, nothing is said of it."""
    now = NOON + timedelta(hours=1)
    recent = {now - timedelta(seconds=BUCKET_S * (one + 1)): 0.0 for one in range(RECENT_BUCKETS)}
    said = verdict(Forecast(NOON, (0.5,) * DAY, 0.1, 1.0), now=now, lead_s=300, recent=recent)
    assert said.standing is Standing.USED


def test_without_a_capacity_or_past_its_day_it_is_not_used() -> None:
    forecast = Forecast(NOON, (5.0,) * DAY, 0.1, None)
    assert verdict(forecast, now=NOON, lead_s=300, recent={}).standing is Standing.CAPACITY_UNKNOWN
    forecast = Forecast(NOON, (5.0,) * DAY, 0.1, 1.0)
    for hours in (-1, 24, 100):
        said = verdict(forecast, now=NOON + timedelta(hours=hours), lead_s=300, recent={})
        assert (said.standing, said.floor) == (Standing.UNAVAILABLE, None)
    # In its last minutes it tells of those that are left.
    assert floor_of(forecast, NOON + timedelta(hours=24, seconds=-1), LEAD_MAX_S).replicas == 5


@given(st.floats(0, 1e7))
def test_the_lead_grows_with_the_load_time_within_bounds(load_time_ms: float) -> None:
    assert lead_s(0.0) == LEAD_MIN_S <= lead_s(load_time_ms) <= LEAD_MAX_S
    assert lead_s(load_time_ms) >= min(LEAD_MAX_S, 2 * load_time_ms / 1000)


def test_it_says_what_it_expects_and_when() -> None:
    at_nine = Forecast(NOON.replace(hour=0), tuple(240.0 if one == 9 * 12 else 10.0 for one in range(DAY)), 0.18, 40.0)
    now = NOON.replace(hour=8, minute=57)
    said = verdict(at_nine, now=now, lead_s=200, recent={})
    assert said.floor == Floor(6, "forecast: 240 requests/s at 09:00 UTC, 40 a replica")
    assert said.words == "used: of the last day it was wrong by 18% of the requests that came"
    assert verdict(at_nine, now=now, lead_s=100, recent={}).floor == Floor(
        1, "forecast: 10 requests/s at 08:57 UTC, 40 a replica"
    )
