"""The floor that a forecast asks for, from the status to the autoscaler: never beyond the most, and never for ever."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from services.common.body import Body, at
from services.operator.domain.foresight import Foresight, foresight
from services.operator.domain.manifests.desired import desired
from services.operator.domain.spec import read_spec
from tests.support.operator_cases import FACTS, OPTIONS, body

NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)


def told(replicas: int, until: str, **scaling: object) -> Body:
    """A model deployment whose deployer foresees something."""
    spec = {"autoscaling": {"targetConcurrency": 4, "predictive": True, **scaling}}
    return {**body(spec), "status": {"forecast": {"replicas": replicas, "until": until}}}


def scaler(found: Body, kind: str) -> Body:
    """The autoscaler that is made now."""
    wish = read_spec(found)
    made = desired(wish, FACTS, OPTIONS, replicas=1, floor=foresight(wish, found, NOW).floor)
    [one] = [one for one in made if one["kind"] == kind]
    spec = one["spec"]
    assert isinstance(spec, dict)
    return spec


@given(st.integers(1, 100), st.integers(0, 20), st.integers(1, 20), st.integers(-1000, 1000))
def test_the_fewest_are_the_wish_or_the_forecast_within_the_most(
    floor: int, least: int, more: int, left_s: int
) -> None:
    until = (NOW + timedelta(seconds=left_s)).strftime("%Y-%m-%dT%H:%M:%SZ")
    found = told(floor, until, minReplicas=least, maxReplicas=least + more)
    holds = min(floor, least + more) if left_s > 0 else 0
    if least:
        assert scaler(found, "HorizontalPodAutoscaler")["minReplicas"] == max(least, holds)
    else:
        spec = scaler(found, "ScaledObject")
        awake = max(1, holds)
        assert (spec["minReplicaCount"], spec.get("idleReplicaCount")) == ((awake, 0) if awake > 1 else (0, None))
    ahead = foresight(read_spec(found), found, NOW)
    assert ahead == (Foresight(holds, float(left_s)) if left_s > 0 else Foresight())


def test_only_what_asks_for_a_forecast_and_what_can_be_read_counts() -> None:
    ahead = "2026-01-15T12:05:00Z"
    for found in (
        told(5, ahead, predictive=False),
        told(5, ahead, enabled=False),
        told(5, "soon"),
        told(5, "2026-01-15T12:05:00"),
        {**body({}), "status": {"forecast": {"replicas": 5, "until": ahead}}},
    ):
        assert foresight(read_spec(found), found, NOW) == Foresight(), found


def test_another_restart_makes_other_pods_and_the_same_one_the_same() -> None:
    def template(**spec: object) -> object:
        made = desired(read_spec(body(spec)), FACTS, OPTIONS, replicas=1)
        [one] = [one for one in made if one["kind"] == "Deployment"]
        return at(one, "spec", "template")

    first, second = "2026-01-15T12:00:00.000001Z", "2026-01-15T12:00:00.000002Z"
    assert template(restartedAt=first) == template(restartedAt=first)
    assert len({str(template()), str(template(restartedAt=first)), str(template(restartedAt=second))}) == 3
    assert at(template(restartedAt=first), "metadata", "annotations", "infermesh.dev/restarted-at") == first
