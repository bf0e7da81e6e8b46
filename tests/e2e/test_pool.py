"""A mesh with two model servers and little memory: replicas are on different servers, and versions take turns."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.e2e.driving import OLD, Rest, deploy, registration
from tests.e2e.loading import Load
from tests.e2e.test_survival import BACK_WITHIN_S, wait_restarted
from tests.support.mesh import Mesh, start_mesh, stop_mesh
from tests.support.waiting import until

SERVERS = ("triton", "triton-1")
LIMIT_BYTES = 260_000_000
"""Some four to six digits on each."""
MANY = 14
Found = dict[str, Any]


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """A mesh of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INFERMESH_TRITONS", str(len(SERVERS)))
        patch.setenv("INFERMESH_DEPLOYER_SERVER_MEMORY_LIMIT", str(LIMIT_BYTES))
        running = start_mesh(tmp_path_factory.mktemp("pool") / "data")
    yield running
    stop_mesh(running)


@pytest.fixture
def rest(pool: Mesh) -> Iterator[Rest]:
    client = Rest(pool.gateway, pool.key)
    yield client
    client.close()


def loaded(mesh: Mesh, server: str) -> set[str]:
    """The models that a server has."""
    port = mesh.port("triton_http" + server.removeprefix("triton").replace("-", "_"))
    answer = httpx.post(f"http://127.0.0.1:{port}/v2/repository/index", json={"ready": True}, trust_env=False)
    return {str(one["name"]).partition("--")[0] for one in answer.json()}


def has(mesh: Mesh, server: str, name: str) -> bool:
    try:
        return name in loaded(mesh, server)
    except httpx.HTTPError:
        return False


def made(rest: Rest, name: str, **more: Any) -> None:
    rest.ok("POST", "/v1/models", json=registration(name, OLD))
    deploy(rest, name, OLD, "main", **more)


def found(rest: Rest, name: str) -> Found:
    return rest.ok("GET", f"/v1/models/{name}/deployments/main")


def evicted(deployment: Found) -> bool:
    asleep = [one for one in deployment["conditions"] if one["type"] == "Asleep" and one["status"] == "True"]
    return [one["reason"] for one in asleep] == ["Evicted"]


def test_replicas_are_on_different_servers_and_the_death_of_one_costs_nobody_an_answer(pool: Mesh, rest: Rest) -> None:
    name = "twice"
    made(rest, name, resources={"replicas": 2})
    assert all(has(pool, server, name) for server in SERVERS)
    assert found(rest, name)["ready_replicas"] == 2
    with Load(rest, pool, model=name) as load:
        load.goes_on(answers=20)
        old = pool.kill("triton-1")
        load.goes_on()
        wait_restarted(pool, "triton-1", old)
        until(lambda: has(pool, "triton-1", name), within_s=BACK_WITHIN_S, what="the replica is back")
        load.goes_on(answers=20)
    assert load.failures == []
    until(lambda: found(rest, name)["ready_replicas"] == 2, within_s=BACK_WITHIN_S, what="both replicas are counted")


def test_what_does_not_fit_makes_room_and_answers_whoever_asks_again(pool: Mesh, rest: Rest) -> None:
    made(rest, "precious", serving={"pinned": True})
    names = [f"many-{number:02}" for number in range(MANY)]
    for name in names:
        made(rest, name)
    sleeping = [name for name in names if evicted(found(rest, name))]
    assert sleeping, "the memory is not so large"
    label = pool.samples[0]["label"]
    for name in [*sleeping, *names]:
        answer = rest.predict({"instances": [pool.samples[0]["instance"]]}, model=name)
        assert answer["predictions"][0]["output"] == label
        assert any(has(pool, server, "precious") for server in SERVERS), "what is pinned stays"
    said = found(rest, sleeping[0])
    assert said["status"] == "active"
    assert said["memory_bytes"] > 1e6


def test_what_fits_nowhere_says_so_and_what_to_do(rest: Rest) -> None:
    name = "huge"
    rest.ok("POST", "/v1/models", json=registration(name, OLD))
    body = {"version": OLD, "deployment_name": "main", "serving": {"instances": 12}}
    rest.ok("POST", f"/v1/models/{name}/deployments", json=body)
    until(lambda: found(rest, name)["status"] == "failed", within_s=30, what="it is refused")
    said = found(rest, name)
    assert said["error_reason"] == "MEMORY_EXHAUSTED"
    assert "INFERMESH_DEPLOYER_SERVER_MEMORY_LIMIT" in said["error_message"]
