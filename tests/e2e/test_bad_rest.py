"""Every operation over REST, asked by schemathesis with what fits the OpenAPI document and with what does not."""

import json
import secrets
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.e2e.driving import MODEL, TIMEOUT_S, Rest
from tests.support.fuzz_rest import Fuzzer
from tests.support.mesh import Mesh

EXAMPLES = 2
"""Requests of each kind to each operation, with each key: some 1,200 in all."""
LEFT_OUT = {
    "MonitorService_CreateSilence": "a silence over everything would hide what other tests of this mesh wait for",
}
"""Operations that are not called, and why."""
NAMES = {"model_name": MODEL, "version": "v1.0.0", "deployment_name": "v1-0-0", "name": MODEL}
READS_BY_POST = (":resolve", ":plan", ":validate", ":sample", "/predict", "/infer", "traffic:plan", ":inspect")


@pytest.fixture(scope="module")
def document(mesh: Mesh) -> dict[str, Any]:
    """What the gateway says of itself, to everybody."""
    answer = httpx.get(f"http://{mesh.gateway}/v1/openapi.json", timeout=TIMEOUT_S, trust_env=False)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    found: dict[str, Any] = json.loads(answer.text)
    return found


@pytest.fixture(scope="module")
def viewer(mesh: Mesh) -> str:
    """A key that may read."""
    operator = Rest(mesh.gateway, mesh.key)
    team = f"fuzzers-{secrets.token_hex(4)}"
    operator.ok("POST", "/v1/teams", json={"name": team})
    made = operator.ok("POST", f"/v1/teams/{team}/api-keys", json={"name": "fuzzer", "role": "viewer"})
    operator.close()
    return str(made["secret"])


@pytest.fixture(scope="module", params=["operator", "viewer"])
def fuzzer(request: pytest.FixtureRequest, mesh: Mesh, document: dict[str, Any], viewer: str) -> Iterator[Fuzzer]:
    made = Fuzzer(mesh.gateway, mesh.key if request.param == "operator" else viewer, document, NAMES)
    yield made
    made.close()


def test_whatever_is_sent_is_answered_by_a_known_refusal_in_time(mesh: Mesh, fuzzer: Fuzzer) -> None:
    found: list[str] = []
    asked, operator = 0, fuzzer.key == mesh.key
    for operation in fuzzer.operations():
        if operation.definition.raw["operationId"] in LEFT_OUT:
            continue
        asked += 1
        # A viewer is refused most of it at the first look.
        found.extend(fuzzer.faults(operation, examples=EXAMPLES if operator else 1, by_name=False))
        if operator and (operation.method == "get" or operation.path.endswith(READS_BY_POST)):
            found.extend(fuzzer.faults(operation, examples=EXAMPLES, by_name=True))
    assert found == []
    assert asked > 140
    assert {200, 400, 404} <= set(fuzzer.statuses)
    assert sum(fuzzer.statuses.values()) > 200


def test_the_mesh_is_well_afterwards(mesh: Mesh) -> None:
    assert mesh.complete()
    rest = Rest(mesh.gateway, mesh.key)
    answer = rest.predict({"instances": [mesh.samples[0]["instance"]], "version": "v1.0.0"})
    rest.close()
    assert answer["model_version"] == "v1.0.0"
