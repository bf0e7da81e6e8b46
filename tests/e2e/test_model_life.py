"""A model's life over REST: registered, deployed, its traffic moved, a version taken away."""

import json
import secrets
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e.driving import ACTIVE_WITHIN_S, DIGITS, NEW, OLD, Rest, deploy, reason, registration
from tests.support.mesh import Mesh
from tests.support.waiting import until

TRAFFIC_WITHIN_S = 30.0


@pytest.fixture(scope="module")
def rest(mesh: Mesh) -> Iterator[Rest]:
    client = Rest(mesh.gateway, mesh.key)
    yield client
    client.close()


@pytest.fixture(scope="module")
def model(rest: Rest) -> str:
    """A model of this module alone: both versions registered and deployed, all traffic on the old one."""
    name = f"life-{secrets.token_hex(4)}"
    for version, deployment in ((OLD, "old"), (NEW, "new")):
        made = rest.ok("POST", "/v1/models", json=registration(name, version))
        assert made["version"] == version
        deploy(rest, name, version, deployment, **({"traffic_split": {OLD: 100}} if version == OLD else {}))
    return name


def versions_answering(rest: Rest, mesh: Mesh, model: str, times: int) -> Counter[str]:
    body = {"instances": [mesh.samples[0]["instance"]]}

    def one(_: int) -> str:
        return str(rest.predict(body, model=model)["model_version"])

    with ThreadPoolExecutor(8) as pool:
        return Counter(pool.map(one, range(times)))


def test_the_registry_lists_what_was_registered(rest: Rest, model: str) -> None:
    listed, token = [], ""
    while True:
        page = rest.ok("GET", "/v1/models", params={"page_size": 2, "page_token": token})
        listed += [item["name"] for item in page["models"]]
        token = page["next_page_token"]
        if not token:
            break
    assert {model, "digits"} <= set(listed)
    assert len(listed) == len(set(listed))
    assert rest.ok("GET", f"/v1/models/{model}")["name"] == model
    assert {item["version"] for item in rest.ok("GET", f"/v1/models/{model}/versions")["versions"]} == {OLD, NEW}


def test_a_version_tells_its_schema_size_and_digest_out_of_the_artifact(rest: Rest, model: str) -> None:
    version = rest.ok("GET", f"/v1/models/{model}/versions/{OLD}")
    assert version["framework"] == "onnx"
    text = json.dumps(version)
    assert all(name in text for name in ("X", "label", "probabilities"))
    assert int(version["model_size_bytes"]) == (DIGITS / f"digits-{OLD}.onnx").stat().st_size


def test_a_version_never_changes(rest: Rest, model: str) -> None:
    changed = registration(model, OLD) | {"artifact_uri": (DIGITS / f"digits-{NEW}.onnx").as_uri()}
    error = rest.refused(409, "POST", "/v1/models", json=changed)
    assert reason(error) == "VERSION_EXISTS"
    assert OLD in error["message"]


@pytest.mark.parametrize(
    ("change", "field"),
    [({"version": "one"}, "version"), ({"name": "No Spaces"}, "name"), ({"artifact_uri": ""}, "artifact_uri")],
)
def test_what_is_wrong_with_a_registration_is_named(rest: Rest, model: str, change: dict[str, str], field: str) -> None:
    error = rest.refused(400, "POST", "/v1/models", json=registration(model, OLD) | {"version": "v2.0.0"} | change)
    assert field in json.dumps(error)


def test_an_artifact_that_is_not_there_is_named(rest: Rest, model: str, tmp_path: Path) -> None:
    missing = registration(model, OLD) | {"version": "v2.0.0", "artifact_uri": (tmp_path / "nothing.onnx").as_uri()}
    answer = rest.call("POST", "/v1/models", json=missing)
    assert answer.status_code in (400, 404, 412)
    assert "nothing.onnx" in answer.json()["message"]


def test_what_is_not_registered_cannot_be_deployed(rest: Rest, model: str) -> None:
    body = {"version": "v7.7.7", "deployment_name": "seven"}
    error = rest.refused(404, "POST", f"/v1/models/{model}/deployments", json=body)
    assert "v7.7.7" in error["message"]


def test_both_versions_answer_when_named_and_the_rules_choose_otherwise(mesh: Mesh, rest: Rest, model: str) -> None:
    for version in (OLD, NEW):
        answer = rest.predict(
            {"version": version, "instances": [item["instance"] for item in mesh.samples]}, model=model
        )
        assert answer["model_version"] == version
        assert [item["output"] for item in answer["predictions"]] == [
            item["expected"][version] for item in mesh.samples
        ]
    assert versions_answering(rest, mesh, model, 40) == {OLD: 40}


def test_traffic_follows_its_weights(mesh: Mesh, rest: Rest, model: str) -> None:
    path = f"/v1/models/{model}/deployments/new/traffic"
    rest.ok("PATCH", path, json={"traffic_split": {OLD: 50, NEW: 50}})
    until(
        lambda: set(versions_answering(rest, mesh, model, 40)) == {OLD, NEW},
        within_s=TRAFFIC_WITHIN_S,
        what="both versions get traffic",
    )
    seen = versions_answering(rest, mesh, model, 400)
    # A fair coin leaves 400 throws outside of 140..260 once in a billion times.
    assert 140 < seen[NEW] < 260, seen
    rest.ok("PATCH", path, json={"traffic_split": {NEW: 100}})
    until(
        lambda: versions_answering(rest, mesh, model, 40) == {NEW: 40},
        within_s=TRAFFIC_WITHIN_S,
        what="the new version gets all traffic",
    )
    rest.ok("PATCH", path, json={"traffic_split": {OLD: 100, NEW: 0}})
    until(
        lambda: versions_answering(rest, mesh, model, 40) == {OLD: 40},
        within_s=TRAFFIC_WITHIN_S,
        what="the old version gets all traffic back",
    )


@pytest.mark.parametrize(
    "split", [{OLD: 50}, {OLD: 60, NEW: 60}, {OLD: 50, "v7.7.7": 50}, {}], ids=["half", "too much", "unknown", "empty"]
)
def test_a_split_that_cannot_be_is_refused_and_changes_nothing(
    mesh: Mesh, rest: Rest, model: str, split: dict[str, int]
) -> None:
    answer = rest.call("PATCH", f"/v1/models/{model}/deployments/new/traffic", json={"traffic_split": split})
    assert answer.status_code in (400, 404, 409, 412), answer.text
    assert answer.json()["message"]
    assert versions_answering(rest, mesh, model, 10) == {OLD: 10}


def test_changing_traffic_never_fails_a_request(mesh: Mesh, rest: Rest, model: str) -> None:
    path = f"/v1/models/{model}/deployments/new/traffic"
    with ThreadPoolExecutor(1) as pool:
        load = pool.submit(versions_answering, rest, mesh, model, 600)
        for split in ({NEW: 100}, {OLD: 50, NEW: 50}, {OLD: 100}) * 3:
            rest.ok("PATCH", path, json={"traffic_split": split})
        assert load.result().total() == 600


def test_a_deployment_that_is_deleted_stops_answering(mesh: Mesh, rest: Rest, model: str) -> None:
    rest.ok("PATCH", f"/v1/models/{model}/deployments/old/traffic", json={"traffic_split": {OLD: 100}})
    answer = rest.call("DELETE", f"/v1/models/{model}/deployments/new")
    assert answer.status_code == 200, answer.text
    body = {"version": NEW, "instances": [mesh.samples[0]["instance"]]}
    until(
        lambda: rest.call("POST", f"/v1/models/{model}/predict", json=body).status_code == 404,
        within_s=ACTIVE_WITHIN_S,
        what="the deleted version is not served any more",
    )
    assert versions_answering(rest, mesh, model, 10) == {OLD: 10}
    # It is still registered, and can come back.
    deploy(rest, model, NEW, "new")
    until(
        lambda: rest.predict(body, model=model)["model_version"] == NEW,
        within_s=TRAFFIC_WITHIN_S,
        what="the version answers again",
    )
