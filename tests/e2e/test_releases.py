"""Releases over REST, with a version that errs, slows down or answers differently on demand.

Canaries that are promoted, held and rolled back; shadows; conditions; sticky users; roll-backs.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from examples.rehearsal.models import NEW, OLD, Fault
from tests.e2e.driving import Rest, reason
from tests.e2e.rehearsing import Callers, install, minutes, wall
from tests.support.mesh import Mesh
from tests.support.waiting import until

DECIDED_WITHIN_S = 90.0
pytestmark = pytest.mark.timeout(300)


@dataclass(frozen=True)
class Breach:
    """A fault, how many requests have it, and what it must break."""

    fault: Fault
    share: float
    criterion: str
    limit: float


BREACHES = {
    "errors": Breach(Fault.ERROR, 0.3, "error_rate_max", 0.02),
    "more errors than the old one": Breach(Fault.ERROR, 0.3, "error_rate_increase_max", 0.02),
    "slower than the old one": Breach(Fault.SLOW, 0.5, "latency_p95_ratio_max", 1.5),
    "other answers": Breach(Fault.WRONG, 0.7, "prediction_shift_max", 0.1),
}


@pytest.fixture(scope="module")
def rest(mesh: Mesh) -> Iterator[Rest]:
    client = Rest(mesh.gateway, mesh.key)
    yield client
    client.close()


@pytest.fixture(scope="module")
def model(rest: Rest, tmp_path_factory: pytest.TempPathFactory) -> str:
    return install(rest, tmp_path_factory.mktemp("rehearsal"))


@pytest.fixture
def callers(mesh: Mesh, rest: Rest, model: str) -> Iterator[Callers]:
    """Callers of the model, which has all its traffic on the old version and no rollout when they begin."""
    rest.ok("POST", f"/v1/models/{model}/rollback", json={"to_version": OLD, "reason": "the next test begins"})
    with Callers(mesh.gateway, model, key=mesh.key) as asking:
        until(lambda: asking.answered()[OLD] > 20, within_s=30, what="the old version answers")
        asking.taken()
        yield asking


def start(rest: Rest, model: str, criteria: dict[str, Any], *, stages: list[tuple[int, float]] | None = None) -> None:
    """A canary of the new version; stages in percent and seconds."""
    chosen = stages or [(20, 5.0), (60, 5.0), (100, 0.0)]
    rest.ok(
        "PATCH",
        f"/v1/models/{model}/deployments/new/traffic",
        json={
            # Says who takes part; the stages say how much each gets.
            "traffic_split": {OLD: 50, NEW: 50},
            "canary_config": {
                "enabled": True,
                "stages": [{"percent": percent, "duration_minutes": minutes(seconds)} for percent, seconds in chosen],
                "success_criteria": criteria,
            },
            "reason": "a rehearsal",
        },
    )


def canary(rest: Rest, model: str) -> dict[str, Any]:
    return rest.ok("GET", f"/v1/models/{model}/canary")


def split(rest: Rest, model: str) -> dict[str, int]:
    found: dict[str, int] = rest.ok("GET", f"/v1/models/{model}/traffic")["effective_split"]
    return found


def ended(rest: Rest, model: str) -> dict[str, Any]:
    """The canary, once it has ended."""
    until(
        lambda: canary(rest, model)["status"] not in ("running", "paused"),
        within_s=DECIDED_WITHIN_S,
        what=f"the canary ends; it is {canary(rest, model)}",
    )
    return canary(rest, model)


def test_a_canary_that_keeps_its_limits_takes_over_stage_by_stage(rest: Rest, model: str, callers: Callers) -> None:
    start(rest, model, {"error_rate_max": 0.05, "latency_p95_max_ms": 5000, "requests_min": 50})
    assert split(rest, model) == {NEW: 20, OLD: 80}
    final = ended(rest, model)
    assert final["status"] == "promoted", final
    assert [stage["percent"] for stage in final["history"]] == [20, 60, 100]
    assert [stage["outcome"] for stage in final["history"]][:2] == ["passed", "passed"]
    assert split(rest, model) == {NEW: 100}
    assert not callers.failed()
    kinds = [change["action"] for change in rest.ok("GET", f"/v1/models/{model}/traffic/changes")["changes"]]
    assert kinds[:3] == ["canary"] * 3


@pytest.mark.parametrize("breach", BREACHES.values(), ids=BREACHES.keys())
def test_a_canary_that_breaks_a_limit_is_rolled_back(rest: Rest, model: str, callers: Callers, breach: Breach) -> None:
    criterion = breach.criterion
    start(rest, model, {criterion: breach.limit, "requests_min": 50}, stages=[(50, 600.0), (100, 0.0)])
    until(lambda: callers.answered()[NEW] > 20, within_s=30, what="the new version gets its share")
    began = wall()
    callers.fault, callers.share = breach.fault, breach.share
    final = ended(rest, model)
    print(f"{criterion}: rolled back {wall() - began:.1f} s after the fault began")
    assert final["status"] == "rolled_back", final
    assert criterion in final["status_reason"]
    result = {item["criterion"]: item for item in final["results"]}[criterion]
    assert result["verdict"] == "breached"
    assert split(rest, model) == {OLD: 100}
    callers.settle()
    until(lambda: callers.answered()[OLD] > 50, within_s=30, what="the old version answers again")
    assert not callers.failed(), "the old version does not care about the fault"
    assert not callers.answered()[NEW]
    assert rest.ok("GET", f"/v1/models/{model}/deployments/new")["status"] == "active", "kept for inspection"
    until(
        lambda: any(
            alert["model_name"] == model and criterion in alert["summary"]
            for alert in rest.ok("GET", "/v1/alerts", params={"model_name": model})["alerts"]
        ),
        within_s=30,
        what="an alert is raised",
    )
    assert (
        rest.predict({"version": NEW, "instances": [{"value": 0.9, "fault": 0}]}, model=model)["model_version"] == NEW
    )


def test_without_enough_requests_a_stage_is_held_and_not_passed(rest: Rest, model: str, callers: Callers) -> None:
    start(rest, model, {"error_rate_max": 0.01, "requests_min": 1_000_000}, stages=[(10, 1.0), (100, 0.0)])
    until(lambda: bool(canary(rest, model).get("held_since")), within_s=60, what="the stage is held")
    held = canary(rest, model)
    assert held["status"] == "running"
    assert held["hold_ends_at"]
    assert split(rest, model) == {NEW: 10, OLD: 90}
    until(
        lambda: any(
            "held" in alert["summary"]
            for alert in rest.ok("GET", "/v1/alerts", params={"model_name": model, "status": "firing"})["alerts"]
        ),
        within_s=30,
        what="an alert is raised",
    )
    assert rest.ok("POST", f"/v1/models/{model}/canary:abort", json={"reason": "seen enough"})["status"] == "aborted"
    assert split(rest, model) == {OLD: 100}
    assert not callers.failed()


def test_a_canary_is_led_by_hand(rest: Rest, model: str, callers: Callers) -> None:
    start(rest, model, {"requests_min": 10}, stages=[(10, 600.0), (100, 0.0)])
    moved = rest.call("PATCH", f"/v1/models/{model}/traffic", json={"traffic_split": {OLD: 50, NEW: 50}})
    assert reason(moved.json()) == "ROLLOUT_IN_PROGRESS"
    assert rest.ok("POST", f"/v1/models/{model}/canary:pause", json={})["status"] == "paused"
    assert split(rest, model) == {NEW: 10, OLD: 90}
    assert rest.ok("POST", f"/v1/models/{model}/canary:resume", json={})["status"] == "running"
    assert rest.ok("POST", f"/v1/models/{model}/canary:promote", json={"reason": "good"})["status"] == "promoted"
    assert split(rest, model) == {NEW: 100}
    again = rest.call("POST", f"/v1/models/{model}/canary:pause", json={})
    assert reason(again.json()) == "ROLLOUT_STATE_INVALID"
    assert not callers.failed()


def test_copies_go_to_a_shadow_and_nobody_notices(rest: Rest, model: str, callers: Callers) -> None:
    callers.fault, callers.share = Fault.WRONG, 0.2
    path = f"/v1/models/{model}/traffic"
    told = rest.ok("PATCH", path, json={"shadows": [{"version": NEW, "percent": 100}]})
    assert [item["version"] for item in told["shadows"]] == [NEW]
    reports = f"/v1/models/{model}/shadow-reports"

    def compared() -> float:
        found = rest.ok("GET", reports)["shadow_reports"]
        return float(found[0]["compared_count"]) if found else 0.0

    until(lambda: compared() >= 200, within_s=60, what="copies are compared")
    report = rest.ok("GET", reports)["shadow_reports"][0]
    assert (report["primary_version"], report["shadow_version"]) == (OLD, NEW)
    assert 0.1 < report["disagreement_rate"] < 0.3, report
    assert report["examples"]
    # Errors, slowness: of the copies alone.
    for fault in (Fault.ERROR, Fault.SLOW):
        callers.fault, callers.share = fault, 1.0
        callers.taken()
        until(lambda: callers.answered()[OLD] > 200, within_s=60, what="callers are answered")
    assert not callers.failed()
    assert not callers.answered()[NEW]
    rest.ok("PATCH", path, json={"clear": ["shadows"]})


def test_a_condition_sends_some_to_a_version_of_their_own(rest: Rest, model: str, callers: Callers) -> None:
    path = f"/v1/models/{model}/traffic"
    rest.ok("PATCH", path, json={"conditions": [{"attribute": "region", "values": ["eu", "us"], "version": NEW}]})
    body = {"instances": [{"value": 0.7, "fault": 0}]}
    for region, version in (("eu", NEW), ("us", NEW), ("asia", OLD), ("e", OLD)):
        headers = {"x-region": region}
        assert rest.predict(body, model=model, headers=headers)["model_version"] == version
        resolved = rest.ok("POST", f"/v1/models/{model}/traffic:resolve", json={"headers": headers})
        assert resolved["version"] == version, resolved
    rest.ok("PATCH", path, json={"clear": ["conditions"]})
    assert rest.predict(body, model=model, headers={"x-region": "eu"})["model_version"] == OLD
    assert not callers.failed()


def test_a_sticky_user_goes_where_the_router_says_and_stays_when_the_share_grows(
    rest: Rest, model: str, callers: Callers
) -> None:
    path = f"/v1/models/{model}/traffic"
    body = {"instances": [{"value": 0.7, "fault": 0}]}
    had: set[str] = set()
    for percent in (10, 30, 60):
        rest.ok("PATCH", path, json={"traffic_split": {OLD: 100 - percent, NEW: percent}, "routing_strategy": "sticky"})
        has = set()
        for number in range(120):
            headers = {"x-user-id": f"user {number}"}
            answer = rest.predict(body, model=model, headers=headers)["model_version"]
            assert rest.ok("POST", f"{path}:resolve", json={"headers": headers})["version"] == answer
            if answer == NEW:
                has.add(f"user {number}")
        assert had <= has
        had = has
    assert not callers.failed()


def test_a_roll_back_is_quick_whatever_the_new_version_does(rest: Rest, model: str, callers: Callers) -> None:
    callers.fault, callers.share = Fault.ERROR, 1.0
    rest.ok("PATCH", f"/v1/models/{model}/traffic", json={"traffic_split": {NEW: 100}})
    until(lambda: callers.failed()[NEW] > 5, within_s=30, what="the new version fails")
    began = wall()
    rest.ok("POST", f"/v1/models/{model}/rollback", json={"to_version": OLD, "reason": "it fails"})
    print(f"rolled back in {wall() - began:.3f} s")
    callers.settle()
    until(lambda: callers.answered()[OLD] > 50, within_s=30, what="the old version answers")
    assert not callers.failed()


def test_a_roll_back_deploys_what_is_gone(rest: Rest, model: str, callers: Callers) -> None:
    rest.ok("PATCH", f"/v1/models/{model}/traffic", json={"traffic_split": {NEW: 100}})
    rest.ok("DELETE", f"/v1/models/{model}/deployments/old")
    until(
        lambda: rest.ok("GET", f"/v1/models/{model}/traffic")["ready_versions"] == [NEW],
        within_s=60,
        what="the old version is gone",
    )
    callers.taken()
    began = wall()
    rest.ok("POST", f"/v1/models/{model}/rollback", json={"to_version": OLD}, timeout=120)
    print(f"deployed and rolled back in {wall() - began:.1f} s")
    until(lambda: callers.answered()[OLD] > 20, within_s=30, what="the old version answers")
    assert not callers.failed()
