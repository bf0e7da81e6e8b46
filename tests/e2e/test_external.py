"""A model that MLServer runs, deployed beside one of ours: predicted by every protocol, split, killed, taken away."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from infermesh.prediction.v1 import instance_pb2, prediction_pb2, prediction_service_pb2_grpc

from tests.e2e.driving import OLD, Rest, bearer, deploy, reason, registration
from tests.e2e.test_cli import run
from tests.support.mesh import Mesh
from tests.support.model_servers import ServerProcess, mlserver
from tests.support.waiting import until

NAME, OUTSIDE = "stripes", "v2.0.0"
PATH = f"/v1/models/{NAME}/deployments"


def stripe(pixels: list[float]) -> int:
    """What the external model answers."""
    return int(np.array(pixels[:60]).reshape(10, 6).sum(axis=1).argmax())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    made = mlserver(tmp_path_factory.mktemp("mlserver"))
    made.start()
    yield made
    made.kill()


@pytest.fixture(scope="module")
def rest(mesh: Mesh, server: ServerProcess) -> Iterator[Rest]:
    """One version of ours, which has all the traffic, and one that MLServer runs and that is registered nowhere."""
    rest = Rest(mesh.gateway, mesh.key)
    rest.ok("POST", "/v1/models", json=registration(NAME, OLD))
    deploy(rest, NAME, OLD, "inside")
    deploy(rest, NAME, OUTSIDE, "outside", external_backend=backend(server))
    yield rest
    rest.close()


def backend(server: ServerProcess) -> dict[str, Any]:
    return {
        "protocol": "oip-grpc",
        "addresses": [f"127.0.0.1:{server.grpc_port}"],
        "server_model_name": "pixels",
    }


def images(mesh: Mesh) -> list[list[float]]:
    return [sample["instance"]["X"] for sample in mesh.samples]


def test_it_is_shown_with_its_servers_and_what_was_checked(mesh: Mesh, rest: Rest, server: ServerProcess) -> None:
    shown = rest.ok("GET", f"{PATH}/outside")
    assert (shown["status"], shown["health_status"], shown["replicas"], shown["ready_replicas"]) == (
        "active",
        "healthy",
        1,
        1,
    )
    assert {key: shown["external_backend"][key] for key in backend(server)} == backend(server)
    assert shown["endpoint_url"] == f"127.0.0.1:{server.grpc_port}"
    assert shown.get("artifact_digest", "") == ""
    passed = {one["type"] for one in shown["conditions"] if one["status"] == "True"}
    assert passed >= {"Validated", "Loaded", "WarmedUp"}


def test_it_is_predicted_by_rest_and_grpc_and_the_open_inference_protocol(mesh: Mesh, rest: Rest) -> None:
    rows = images(mesh)
    expected = [stripe(row) for row in rows]
    answer = rest.predict({"version": OUTSIDE, "instances": [{"X": row} for row in rows]}, model=NAME)
    assert answer["model_version"] == OUTSIDE
    assert [one["output"] for one in answer["predictions"]] == expected

    body = {"inputs": [{"name": "X", "datatype": "FP32", "shape": [len(rows), 64], "data": rows}]}
    tensors = rest.ok("POST", f"/v2/models/{NAME}/versions/{OUTSIDE}/infer", json=body)
    found = {one["name"]: one["data"] for one in tensors["outputs"]}
    assert found["label"] == expected
    assert len(found["probabilities"]) == 10 * len(rows)

    with grpc.insecure_channel(mesh.gateway) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        request = prediction_pb2.PredictRequest(model_name=NAME, version=OUTSIDE)
        for row in rows:
            request.instances.add().features["X"].CopyFrom(
                instance_pb2.Feature(float_list=instance_pb2.FloatList(values=row))
            )
        told = stub.Predict(request, timeout=30, metadata=tuple(bearer(mesh.key).items()))
    assert told.model_version == OUTSIDE
    assert [one.output.int64_value for one in told.predictions] == expected


def test_a_bad_request_is_refused_before_it_is_sent(rest: Rest) -> None:
    error = rest.refused(
        400, "POST", f"/v1/models/{NAME}/predict", json={"version": OUTSIDE, "instances": [{"X": [1]}]}
    )
    assert reason(error) == "SCHEMA_VIOLATION"


def test_the_traffic_is_split_between_it_and_ours(mesh: Mesh, rest: Rest) -> None:
    rest.ok("PATCH", f"{PATH}/outside/traffic", json={"traffic_split": {OLD: 50, OUTSIDE: 50}})
    row = images(mesh)[0]

    def asked() -> Counter[str]:
        answers = (rest.predict({"instances": [{"X": row}]}, model=NAME) for _ in range(40))
        return Counter(answer["model_version"] for answer in answers)

    until(lambda: set(asked()) == {OLD, OUTSIDE}, what="both versions answer")
    # What each answered is counted by version, like everything else.
    until(
        lambda: rest.ok("GET", f"/v1/models/{NAME}/metrics?version={OUTSIDE}")["metrics"]["request_count"] > 0,
        what="its requests are counted",
    )


def test_while_it_is_away_callers_are_told_to_try_again_and_then_it_is_back(
    mesh: Mesh, rest: Rest, server: ServerProcess
) -> None:
    asked: list[tuple[float, int]] = []
    done = threading.Event()

    def ask() -> None:
        body = {"version": OUTSIDE, "instances": [{"X": images(mesh)[0]}], "timeout_ms": 1000}
        with httpx.Client(base_url=f"http://{mesh.gateway}", headers=bearer(mesh.key), trust_env=False) as client:
            while not done.is_set():
                answer = client.post(f"/v1/models/{NAME}/predict", json=body, timeout=30)
                asked.append((time.monotonic(), answer.status_code))

    caller = threading.Thread(target=ask)
    caller.start()
    try:
        until(lambda: asked, what="it is asked")
        server.kill()
        until(lambda: asked[-1][1] != 200, what="callers notice")
        until(lambda: rest.ok("GET", f"{PATH}/outside")["health_status"] == "unhealthy", what="the deployment says so")
        server.start()
        until(lambda: asked[-1][1] == 200, what="it answers again")
        until(lambda: rest.ok("GET", f"{PATH}/outside")["health_status"] == "healthy", what="and is healthy")
    finally:
        done.set()
        caller.join()
    statuses = Counter(status for _, status in asked)
    assert set(statuses) <= {200, 503, 504}, statuses
    assert rest.ok("GET", f"{PATH}/outside")["status"] == "active"


def test_another_model_of_the_server_is_not_taken_for_the_version(rest: Rest, server: ServerProcess) -> None:
    """A registered version's schema is the truth, and the server is held to it."""
    rest.ok("POST", "/v1/models", json=registration(NAME, "v1.1.0"))
    wrong = {**backend(server), "server_model_name": "mix"}
    created = rest.ok("POST", PATH, json={"version": "v1.1.0", "deployment_name": "wrong", "external_backend": wrong})
    assert created["status"] == "pending"
    until(lambda: rest.ok("GET", f"{PATH}/wrong")["status"] == "failed", what="it fails")
    failed = rest.ok("GET", f"{PATH}/wrong")
    assert failed["error_reason"] == "SCHEMA_MISMATCH"
    assert "it has no input 'X', but numbers, word" in failed["error_message"]
    rest.ok("DELETE", f"{PATH}/wrong")


def test_the_command_deploys_one_and_takes_it_away(mesh: Mesh, rest: Rest, server: ServerProcess) -> None:
    rest.ok("PATCH", f"{PATH}/inside/traffic", json={"traffic_split": {OLD: 100}})
    servers = f"oip-rest=127.0.0.1:{server.rest_port}"
    told = run(mesh, "deploy", NAME, "v3.0.0", "--external", servers, "--server-model", "pixels", "--json")
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["status"] == "active"
    row = images(mesh)[1]
    answer = rest.predict({"version": "v3.0.0", "instances": [{"X": row}]}, model=NAME)
    assert answer["predictions"][0]["output"] == stripe(row)
    assert run(mesh, "undeploy", NAME, "v3.0.0").returncode == 0
    rest.ok("DELETE", f"{PATH}/outside")
    until(lambda: rest.call("GET", f"{PATH}/outside").status_code == 404, what="it is gone")
    error = rest.refused(
        404, "POST", f"/v1/models/{NAME}/predict", json={"version": OUTSIDE, "instances": [{"X": row}]}
    )
    assert reason(error) == "VERSION_NOT_SERVED"
    assert rest.predict({"instances": [{"X": row}]}, model=NAME)["model_version"] == OLD
