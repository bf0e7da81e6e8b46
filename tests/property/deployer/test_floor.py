"""A forecast's floor in an object: it holds what is foreseen, lapses with its deployer, and costs few calls."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from services.deployer.domain.cluster.floor import LIFE_S, LOWER_AFTER_S, RENEW_S, Floor, floor_to_stand, wanted_floor
from services.deployer.domain.deployment import Autoscaling
from services.deployer.domain.forecast import Floor as ForecastFloor
from services.deployer.domain.forecast import Standing, Verdict
from tests.support.clock import NOON

LOOK_S = 2.0
SCALING = Autoscaling(enabled=True, min_replicas=2, max_replicas=8, predictive=True)
wanted = st.none() | st.integers(0, 20)


def used(replicas: int) -> Verdict:
    return Verdict(Standing.USED, "used", ForecastFloor(replicas, "forecast"))


@given(st.lists(st.tuples(wanted, st.integers(1, 400)), max_size=30))
def test_what_is_wanted_holds_and_lower_floors_cost_a_call_a_minute_at_most(
    history: list[tuple[int | None, int]],
) -> None:
    now, there, lowered_at, renewed = NOON, None, NOON - timedelta(days=1), 0
    for asked, looks in history:
        for _ in range(looks):
            stands = floor_to_stand(there, asked, now)
            holds = stands.replicas if stands is not None and stands.until > now else 0
            if asked is not None:
                assert holds >= asked, "what is foreseen is never short"
            if stands != there:
                before = there.replicas if there is not None and there.until > now else 0
                after = stands.replicas if stands is not None else 0
                assert asked is not None
                if after < before:
                    assert (now - lowered_at).total_seconds() >= LOWER_AFTER_S - 1
                    lowered_at = now
                elif after == before:
                    renewed += 1
                else:
                    lowered_at = now
            there = stands
            now += timedelta(seconds=LOOK_S)
    assert renewed <= (now - NOON).total_seconds() / (LIFE_S - RENEW_S - 1)


@given(st.integers(1, 20), st.floats(0, 2 * LIFE_S))
def test_the_floor_of_a_deployer_that_died_lapses(replicas: int, later_s: float) -> None:
    made = floor_to_stand(None, replicas, NOON)
    assert made is not None
    now = NOON + timedelta(seconds=later_s)
    assert floor_to_stand(made, None, now) is made
    assert (made.until > now) == (later_s < LIFE_S)


def test_of_an_unknown_forecast_what_stands_is_kept_and_of_one_that_is_not_used_it_goes() -> None:
    there = Floor(5, NOON + timedelta(seconds=400))
    assert floor_to_stand(there, wanted_floor(None, SCALING), NOON) == there
    unavailable = Verdict(Standing.UNAVAILABLE, "not used")
    assert floor_to_stand(there, wanted_floor(unavailable, SCALING), NOON) == there
    assert floor_to_stand(there, wanted_floor(Verdict(Standing.NOT_COMING, "not used"), SCALING), NOON) is None


def test_a_floor_is_within_what_was_wished_or_none_at_all() -> None:
    assert wanted_floor(used(20), SCALING) == 8
    assert wanted_floor(used(3), SCALING) == 3
    assert wanted_floor(used(2), SCALING) == 0, "that many there are anyway"
    assert wanted_floor(used(5), None) == 0
    assert wanted_floor(used(5), Autoscaling(enabled=True, max_replicas=8)) == 0, "nobody asked for a forecast"
