"""A deployment goes over to another version and back, under callers who notice nothing."""

from collections.abc import Iterator
from typing import Any

import httpx
import onnx
import pytest
from onnx import TensorProto, helper

from tests.e2e.driving import DIGITS, NEW, OLD, Rest, deploy, reason, registration
from tests.e2e.loading import Load
from tests.support.mesh import Mesh
from tests.support.waiting import until

MODEL = "rolling"
PROD = f"/v1/models/{MODEL}/deployments/prod"


@pytest.fixture(scope="module")
def rest(mesh: Mesh) -> Iterator[Rest]:
    """A model in two versions, the older one deployed."""
    rest = Rest(mesh.gateway, mesh.key)
    for version in (OLD, NEW):
        rest.ok("POST", "/v1/models", json=registration(MODEL, version))
    deploy(rest, MODEL, OLD, "prod")
    yield rest
    rest.close()


def answers(rest: Rest, mesh: Mesh) -> str:
    """The version that answers whoever asks for none."""
    return str(rest.predict({"instances": [mesh.samples[0]["instance"]]}, model=MODEL)["model_version"])


def condition(found: dict[str, Any], kind: str) -> dict[str, Any]:
    return next((one for one in found["conditions"] if one["type"] == kind), {"status": ""})


def goes_over(rest: Rest, version: str, **serving: Any) -> None:
    """Updates, and waits until it has the traffic."""
    rest.ok("PATCH", PROD, json={"version": version, **({"serving": serving} if serving else {})})

    def done() -> bool:
        found = rest.ok("GET", PROD)
        return bool(found["served_version"] == version and condition(found, "Routed")["status"] == "True")

    until(done, within_s=60, what=f"{version} has the traffic")


def state(mesh: Mesh, version: str) -> str:
    """What the model server says of a version."""
    index = httpx.post(f"http://127.0.0.1:{mesh.port('triton_http')}/v2/repository/index", json={}, trust_env=False)
    return next((one.get("state", "") for one in index.json() if one["name"] == f"{MODEL}--{version}"), "")


def test_callers_notice_nothing_of_an_update_and_of_the_way_back(mesh: Mesh, rest: Rest) -> None:
    with Load(rest, mesh, model=MODEL) as load:
        load.goes_on()
        goes_over(rest, NEW, bake_time_s=600)
        load.goes_on()
        assert answers(rest, mesh) == NEW
        assert state(mesh, OLD) == "READY", "it is kept warm"
        generation = rest.ok("GET", PROD)["generation"]
        goes_over(rest, OLD)
        load.goes_on()
        assert answers(rest, mesh) == OLD
        assert rest.ok("GET", PROD)["generation"] == generation + 1
        goes_over(rest, NEW, bake_time_s=0)
        load.goes_on()
    assert load.failures == []
    assert set(load.versions) == {OLD, NEW}
    # Without a bake time the old one sleeps once nobody asks for it, and is still there for who does.
    until(lambda: state(mesh, OLD) != "READY", within_s=60, what="the old version is unloaded")
    body = {"instances": [mesh.samples[0]["instance"]], "version": OLD}
    assert rest.predict(body, model=MODEL)["model_version"] == OLD
    listed = rest.ok("GET", f"/v1/models/{MODEL}/deployments")["deployments"]
    assert [(one["deployment_name"], one["version"]) for one in listed] == [("prod", NEW)]
    rolled_back = rest.ok("POST", f"/v1/models/{MODEL}/rollback", json={"to_version": OLD, "reason": "look again"})
    assert rolled_back["traffic_split"] == {OLD: 100}
    assert answers(rest, mesh) == OLD


def test_a_version_that_cannot_answer_takes_nothing_over(mesh: Mesh, rest: Rest) -> None:
    goes_over(rest, NEW)
    broken = DIGITS.parent / "broken-for-rolling.onnx"
    wrong = helper.make_tensor_value_info("X", TensorProto.FLOAT, [1, 64])
    out = helper.make_tensor_value_info("label", TensorProto.FLOAT, [1, 64])
    graph = helper.make_graph([helper.make_node("Identity", ["X"], ["label"])], "fixed", [wrong], [out])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), broken)
    try:
        rest.ok(
            "POST",
            "/v1/models",
            json={
                "name": MODEL,
                "version": "v2.0.0",
                "artifact_uri": broken.as_uri(),
                "schema": {
                    "inputs": [{"name": "X", "data_type": "DATA_TYPE_FP32", "shape": [64]}],
                    "outputs": [{"name": "label", "data_type": "DATA_TYPE_FP32", "shape": [64]}],
                },
            },
        )
        with Load(rest, mesh, model=MODEL) as load:
            load.goes_on()
            rest.ok("PATCH", PROD, json={"version": "v2.0.0"})
            until(lambda: rest.ok("GET", PROD)["status"] == "failed", within_s=60, what="it fails")
            load.goes_on()
        assert load.failures == []
        found = rest.ok("GET", PROD)
        assert (found["version"], found["served_version"], found["health_status"]) == ("v2.0.0", NEW, "degraded")
        assert found["error_reason"] == "WARMUP_FAILED"
        assert "register a version" in found["error_message"]
        goes_over(rest, NEW)
        until(lambda: rest.ok("GET", PROD)["health_status"] == "healthy", within_s=30, what="all is well again")
    finally:
        broken.unlink()


def test_what_happened_can_be_read_with_who_and_why(rest: Rest) -> None:
    events = rest.ok("GET", f"{PROD}/events", params={"page_size": 200})["events"]
    kinds = [one["type"] for one in reversed(events)]
    assert kinds[:4] == ["Created", "Active", "Routed", "VersionChanged"]
    assert {"Superseded", "Asleep", "Awake", "Failed"} <= set(kinds)
    changed = [one for one in events if one["type"] == "VersionChanged"]
    assert all(one["actor"].startswith("key:") for one in changed)
    assert changed[-1]["message"] == f"{NEW} shall take over from {OLD}"
    page = rest.ok("GET", f"{PROD}/events", params={"page_size": 2})
    again = rest.ok("GET", f"{PROD}/events", params={"page_size": 2, "page_token": page["next_page_token"]})
    assert page["events"] + again["events"] == events[:4]


def test_a_deployment_can_be_checked_before_it_is_made(rest: Rest) -> None:
    path = f"/v1/models/{MODEL}/deployments:validate"
    taken = rest.ok("POST", path, json={"deployment": {"version": NEW, "deployment_name": "prod"}})
    assert taken["valid"] is False
    failed = [one for one in taken["checks"] if one["status"] != "True"]
    assert [(one["type"], one["reason"]) for one in failed] == [("Name", "DEPLOYMENT_EXISTS")]
    unknown = rest.ok("POST", path, json={"deployment": {"version": "v9.9.9", "deployment_name": "next"}})
    assert [one["reason"] for one in unknown["checks"] if one["status"] != "True"] == ["VERSION_NOT_FOUND"]
    assert [one["deployment_name"] for one in rest.ok("GET", f"/v1/models/{MODEL}/deployments")["deployments"]] == [
        "prod"
    ]


def test_without_replicas_nothing_is_loaded_until_it_is_scaled_up(mesh: Mesh, rest: Rest) -> None:
    rest.ok("POST", f"{PROD}:scale", json={"replicas": 0})
    until(lambda: state(mesh, NEW) != "READY", within_s=30, what="it is unloaded")
    until(lambda: condition(rest.ok("GET", PROD), "Stopped")["status"] == "True", within_s=30, what="it is stopped")
    found = rest.ok("GET", PROD)
    assert (found["status"], found["replicas"], found["ready_replicas"]) == ("active", 0, 0)
    body = {"instances": [mesh.samples[0]["instance"]]}
    refused = rest.refused(404, "POST", f"/v1/models/{MODEL}/predict", json=body)
    assert reason(refused) in {"MODEL_NOT_SERVED", "MODEL_NOT_FOUND"}
    rest.ok("POST", f"{PROD}:scale", json={"replicas": 1})
    until(lambda: rest.ok("GET", PROD)["ready_replicas"] == 1, within_s=60, what="it is loaded again")
    until(
        lambda: rest.call("POST", f"/v1/models/{MODEL}/predict", json=body).status_code == 200, within_s=30, what="it"
    )


def test_with_the_deployment_its_older_versions_go(mesh: Mesh, rest: Rest) -> None:
    rest.ok("DELETE", PROD)
    until(lambda: rest.call("GET", PROD).status_code == 404, within_s=60, what="it is removed")
    until(lambda: not any(state(mesh, one) == "READY" for one in (OLD, NEW)), within_s=60, what="all is unloaded")
    until(lambda: not list((mesh.data_dir / "triton" / "repository").glob(f"{MODEL}--*")), within_s=30, what="packages")
