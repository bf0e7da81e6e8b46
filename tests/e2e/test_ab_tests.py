"""A/B tests over REST, with outcomes that callers report afterwards."""

from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from examples.rehearsal.models import CLASSES, NEW, OLD, Fault
from tests.e2e.driving import Rest, reason
from tests.e2e.rehearsing import Answered, Callers, install
from tests.support.mesh import Mesh
from tests.support.waiting import until

SAMPLES_MIN = 1_000
CLICKS = {OLD: 0.3, NEW: 0.6}
"""How often callers click on what a version said."""
WITHIN_S = 150.0
BATCH = 1000
pytestmark = pytest.mark.timeout(400)


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
    rest.ok("POST", f"/v1/models/{model}/rollback", json={"to_version": OLD, "reason": "the next test begins"})
    with Callers(mesh.gateway, model, key=mesh.key) as asking:
        yield asking


def report(rest: Rest, answers: list[Answered], draw: Random) -> None:
    """The truth and a click for each answer."""
    for place in range(0, len(answers), BATCH):
        outcomes = [
            {
                "request_id": item.request_id,
                "ground_truth": CLASSES[item.value > 0.5],
                "metrics": {"ctr": float(draw.random() < CLICKS[item.version])},
            }
            for item in answers[place : place + BATCH]
        ]
        rest.ok("POST", "/v1/outcomes:batch", json={"outcomes": outcomes})


def arms(test: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {arm["version"]: arm for arm in test["results"]["arms"]}


def test_a_test_finds_the_better_version_and_gives_it_the_traffic(rest: Rest, model: str, callers: Callers) -> None:
    path = f"/v1/models/{model}/ab-tests"
    body = {
        "name": "clicks",
        "versions": {OLD: 50, NEW: 50},
        "duration_days": 7,
        "metrics": ["ctr", "latency", "accuracy"],
        "rollback_on_error_rate": 0.05,
        "auto_promote": True,
    }
    made = rest.ok("POST", path, json=body)
    assert (made["status"], made["sticky_key_header"]) == ("running", "x-user-id")
    assert rest.ok("GET", f"/v1/models/{model}/traffic")["governing_rule"] == "clicks"
    assert reason(rest.call("POST", path, json={**body, "name": "another"}).json()) == "ROLLOUT_IN_PROGRESS"
    draw = Random(7)

    def enough() -> bool:
        report(rest, [item for item in callers.taken() if item.status == 200], draw)
        counts = [arm["outcome_counts"].get("ctr", 0) for arm in arms(rest.ok("GET", f"{path}/clicks")).values()]
        return len(counts) == 2 and min(counts) >= SAMPLES_MIN

    until(enough, within_s=WITHIN_S, what="both versions have enough outcomes")
    shown = rest.ok("GET", f"{path}/clicks")["results"]
    clicks = {item["metric"]: item for item in shown["comparisons"]}["ctr"]
    assert clicks["difference_low"] < CLICKS[NEW] - CLICKS[OLD] < clicks["difference_high"]
    assert clicks["verdict"] == "better"
    assert not shown["sample_ratio_mismatch"]
    assert arms(rest.ok("GET", f"{path}/clicks"))[NEW]["outcomes"]["accuracy"] == pytest.approx(1.0)
    concluded = rest.ok("POST", f"{path}/clicks:conclude", json={"reason": "plain to see"})
    assert concluded["status"] == "completed"
    assert concluded["results"]["winner"] == NEW
    traffic = rest.ok("GET", f"/v1/models/{model}/traffic")
    assert (traffic["effective_split"], traffic["governing_rule"]) == ({NEW: 100}, "split")
    assert {item["version"] for item in rest.ok("GET", f"/v1/models/{model}/deployments")["deployments"]} == {OLD, NEW}
    assert not callers.failed()


def test_errors_end_a_test_at_once(rest: Rest, model: str, callers: Callers) -> None:
    path = f"/v1/models/{model}/ab-tests"
    body = {"name": "errors", "versions": {OLD: 80, NEW: 20}, "duration_days": 7, "rollback_on_error_rate": 0.05}
    rest.ok("POST", path, json=body)
    callers.fault, callers.share = Fault.ERROR, 0.5
    until(
        lambda: rest.ok("GET", f"{path}/errors")["status"] == "rolled_back",
        within_s=WITHIN_S,
        what="the test ends",
    )
    assert rest.ok("GET", f"/v1/models/{model}/traffic")["effective_split"] == {OLD: 100}
    until(
        lambda: any(
            "errors" in alert["summary"] and alert["severity"] == "critical"
            for alert in rest.ok("GET", "/v1/alerts", params={"model_name": model})["alerts"]
        ),
        within_s=30,
        what="an alert is raised",
    )


def test_a_test_that_is_stopped_gives_the_shares_back(rest: Rest, model: str, callers: Callers) -> None:
    path = f"/v1/models/{model}/ab-tests"
    rest.ok("POST", path, json={"name": "stopped", "versions": {OLD: 50, NEW: 50}})
    assert rest.ok("POST", f"{path}/stopped:stop", json={"reason": "changed our mind"})["status"] == "stopped"
    assert rest.ok("GET", f"/v1/models/{model}/traffic")["effective_split"] == {OLD: 100}
    assert [item["name"] for item in rest.ok("GET", path)["ab_tests"]] == ["stopped", "errors", "clicks"]
    assert reason(rest.call("POST", path, json={"name": "stopped", "versions": {OLD: 50, NEW: 50}}).json()) == (
        "AB_TEST_EXISTS"
    )
    assert not callers.failed()
