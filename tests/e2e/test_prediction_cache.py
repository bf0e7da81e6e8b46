"""A version whose answers may be kept: asked again, it is not asked."""

import secrets
from collections.abc import Iterator

import httpx
import pytest
import redis

from tests.e2e.driving import OLD, Rest, deploy, registration
from tests.support.mesh import Mesh
from tests.support.waiting import until

WRITTEN_WITHIN_S = 10.0


@pytest.fixture
def rest(mesh: Mesh) -> Iterator[Rest]:
    client = Rest(mesh.gateway, mesh.key)
    yield client
    client.close()


def test_a_deterministic_version_answers_the_same_row_once(mesh: Mesh, rest: Rest) -> None:
    model = f"kept-{secrets.token_hex(4)}"
    rest.ok("POST", "/v1/models", json=registration(model, OLD))
    deploy(rest, model, OLD, "kept", traffic_split={OLD: 100}, serving={"deterministic": True})
    first, second = mesh.samples[0]["instance"], mesh.samples[1]["instance"]

    def ask(*instances: object) -> tuple[str, list[object]]:
        answer: httpx.Response = rest.call("POST", f"/v1/models/{model}/predict", json={"instances": list(instances)})
        assert answer.status_code == 200, answer.text
        return answer.headers["x-infermesh-cache"], answer.json()["predictions"]

    computed = ask(first)
    assert computed[0] == "miss"
    assert ask(first) == ("hit", computed[1])
    both = ask(second, first)
    assert both[0] == "partial"
    assert both[1][1] == computed[1][0]
    with redis.Redis(port=mesh.port("redis_cache")) as client:
        until(
            lambda: len(client.keys(f"pred:{model}:{OLD}:*")) == 2, within_s=WRITTEN_WITHIN_S, what="both rows in Redis"
        )


def test_other_versions_say_nothing_of_a_cache(mesh: Mesh, rest: Rest) -> None:
    answer = rest.call("POST", "/v1/models/digits/predict", json={"instances": [mesh.samples[0]["instance"]]})
    assert "x-infermesh-cache" not in answer.headers
