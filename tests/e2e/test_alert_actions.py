"""Alerts that act, on a running mesh: a rule holds a canary, another rolls one back, and the command that the alert
prints undoes what caused it. A deployment that fails is told of."""

import os
import secrets
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from examples.rehearsal.models import NEW, OLD, Fault
from tests.e2e.driving import Rest
from tests.e2e.rehearsing import Callers, install, minutes, wall
from tests.support.dense_models import sample, save_dense
from tests.support.mesh import Mesh
from tests.support.waiting import until

WITHIN_S = 90.0
pytestmark = pytest.mark.timeout(300)


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
        until(lambda: asking.answered()[OLD] > 20, within_s=30, what="the old version answers")
        yield asking


def start_canary(rest: Rest, model: str) -> None:
    """Half of the traffic for ten minutes, under limits that the fault does not reach: only the rule acts."""
    config = {
        "enabled": True,
        "stages": [{"percent": 50, "duration_minutes": minutes(600)}, {"percent": 100, "duration_minutes": 0}],
        "success_criteria": {"error_rate_max": 0.99, "requests_min": 1_000_000},
    }
    rest.ok("PATCH", f"/v1/models/{model}/deployments/new/traffic", json={"canary_config": config, "reason": "try it"})


def make_rule(rest: Rest, model: str, action: str) -> str:
    name = f"{model}-{action}"
    condition = {"metric": "error_rate", "comparison": ">", "threshold": 0.1, "window_s": 60, "min_requests": 20}
    body = {"name": name, "model_name": model, "version": NEW, "threshold": condition, "severity": "critical"}
    rest.ok("POST", "/v1/alert-rules", json={**body, "rollout_action": action, "enabled": True})
    return name


def alert_of(rest: Rest, model: str, rule: str) -> dict[str, Any]:
    found = [
        alert
        for alert in rest.ok("GET", "/v1/alerts", params={"model_name": model})["alerts"]
        if alert["rule_name"] == rule and alert["status"] != "resolved"
    ]
    return found[0] if found else {}


def canary(rest: Rest, model: str) -> dict[str, Any]:
    return rest.ok("GET", f"/v1/models/{model}/canary")


def split(rest: Rest, model: str) -> dict[str, int]:
    shares = rest.ok("GET", f"/v1/models/{model}/traffic")["effective_split"]
    return {version: percent for version, percent in shares.items() if percent}


def type_in(mesh: Mesh, command: str) -> None:
    """Runs a printed command as a person would."""
    program, *arguments = shlex.split(command)
    assert program == "infermesh"
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "INFERMESH_GATEWAY": mesh.gateway,
        "INFERMESH_API_KEY": mesh.key,
    }
    done = subprocess.run(
        [Path(sys.executable).with_name(program), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"


@pytest.mark.parametrize(
    ("action", "status", "word", "left"),
    [("hold", "paused", "was put on hold", {OLD: 50, NEW: 50}), ("rollback", "aborted", "was rolled back", {OLD: 100})],
)
def test_a_rule_that_fires_on_a_canary_stops_it_and_says_so(
    mesh: Mesh, rest: Rest, model: str, callers: Callers, *, action: str, status: str, word: str, left: dict[str, int]
) -> None:
    start_canary(rest, model)
    rule = make_rule(rest, model, action)
    try:
        until(lambda: callers.answered()[NEW] > 20, within_s=30, what="the new version gets its share")
        began = wall()
        callers.fault, callers.share = Fault.ERROR, 0.5
        until(lambda: canary(rest, model)["status"] == status, within_s=WITHIN_S, what=f"the canary is {status}")
        print(f"{action}: {wall() - began:.1f} s after the fault began")
        until(lambda: word in alert_of(rest, model, rule)["summary"], within_s=30, what="the alert says what was done")
        alert, stopped = alert_of(rest, model, rule), canary(rest, model)
        assert alert["version"] == NEW
        assert alert["alert_id"] in stopped["status_reason"]
        assert alert["value"] > 0.1
        # What caused it was the canary's beginning.
        assert "(canary)" in alert["probable_cause"]
        assert split(rest, model) == left
        if action == "hold":
            # It is still in progress, so that is what there is to undo.
            assert alert["undo_command"] == f"infermesh canary abort {model}"
            type_in(mesh, alert["undo_command"])
            assert canary(rest, model)["status"] == "aborted"
        assert split(rest, model) == {OLD: 100}
        callers.settle()
        until(lambda: callers.answered()[OLD] > 20, within_s=30, what="the old version answers again")
        assert not callers.failed()
    finally:
        rest.ok("DELETE", f"/v1/alert-rules/{rule}")


def test_a_deployment_that_fails_is_told_of_and_its_end_too(mesh: Mesh, rest: Rest, tmp_path: Path) -> None:
    model = f"broken-{secrets.token_hex(4)}"
    # Eight bits are too few for its weights, which the deployer finds when it tries them on the sample.
    save_dense(tmp_path / "worse.onnx", outlier=1000.0)
    body = {"name": model, "version": OLD, "artifact_uri": (tmp_path / "worse.onnx").as_uri()}
    rest.ok("POST", "/v1/models", json={**body, "reference_sample": {"instances": sample(200)}})
    wish = {"version": OLD, "deployment_name": "only", "serving": {"precision": "int8"}}
    rest.ok("POST", f"/v1/models/{model}/deployments", json=wish)
    until(lambda: bool(alert_of(rest, model, "deployment_failed")), within_s=WITHIN_S, what="the failure is told of")
    alert = alert_of(rest, model, "deployment_failed")
    shown = rest.ok("GET", f"/v1/models/{model}/deployments/only")
    assert shown["status"] == "failed"
    assert alert["summary"] == f"deployment only of {model} {OLD} failed; nothing answers: {shown['error_message']}"
    assert (alert["severity"], alert["undo_command"]) == ("critical", f"infermesh restart {model} only")
    rest.call("DELETE", f"/v1/models/{model}/deployments/only")
    until(
        lambda: not alert_of(rest, model, "deployment_failed"), within_s=WITHIN_S, what="it is over once it is removed"
    )
