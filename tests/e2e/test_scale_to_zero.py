"""What nobody asks for is unloaded, and the first who asks again waits for one load and is answered."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import onnx
import pytest

from tests.e2e.driving import DIGITS, Rest, bearer, deploy, reason, registration
from tests.support.mesh import Mesh
from tests.support.waiting import until

VERSION = "v1.0.0"
IDLE_S = 3
ZERO = {"enabled": True, "min_replicas": 0, "max_replicas": 1, "idle_timeout_s": IDLE_S}
CALLERS = 1000


@pytest.fixture(scope="module")
def rest(mesh: Mesh) -> Iterator[Rest]:
    rest = Rest(mesh.gateway, mesh.key)
    yield rest
    rest.close()


def sleeper(rest: Rest, name: str, **more: Any) -> None:
    """A deployment of digits that may sleep, and sleeps."""
    rest.ok("POST", "/v1/models", json=registration(name, VERSION) | more)
    deploy(rest, name, VERSION, "main", autoscaling=ZERO)
    falls_asleep(rest, name)


def found(rest: Rest, name: str) -> dict[str, Any]:
    return rest.ok("GET", f"/v1/models/{name}/deployments/main")


def asleep(rest: Rest, name: str) -> bool:
    return any(one["type"] == "Asleep" and one["status"] == "True" for one in found(rest, name)["conditions"])


def loaded(mesh: Mesh, name: str) -> bool:
    index = httpx.post(f"http://127.0.0.1:{mesh.port('triton_http')}/v2/repository/index", json={}, trust_env=False)
    return any(one["name"] == f"{name}--{VERSION}" and one.get("state") == "READY" for one in index.json())


def falls_asleep(rest: Rest, name: str) -> None:
    until(lambda: asleep(rest, name), within_s=60, what=f"{name} falls asleep")


def is_unloaded(mesh: Mesh, name: str) -> None:
    until(lambda: not loaded(mesh, name), within_s=30, what=f"Triton lets go of {name}")


def loads(mesh: Mesh, name: str) -> int:
    """How often the deployer has said that it was loaded and answers."""
    log = (mesh.data_dir / "logs" / "deployer.log").read_text()
    return sum(f'"{name}--{VERSION}"' in line and '"answers"' in line for line in log.splitlines())


async def ask(mesh: Mesh, name: str, callers: int, timeout_s: float = 60.0) -> list[httpx.Response]:
    sample = mesh.samples[0]["instance"]
    limits = httpx.Limits(max_connections=callers)
    async with httpx.AsyncClient(
        base_url=f"http://{mesh.gateway}", headers=bearer(mesh.key), timeout=timeout_s, limits=limits, trust_env=False
    ) as client:
        calls = [client.post(f"/v1/models/{name}/predict", json={"instances": [sample]}) for _ in range(callers)]
        return await asyncio.gather(*calls)


def test_a_thousand_callers_at_a_sleeping_model_cause_one_load_and_get_a_thousand_answers(
    mesh: Mesh, rest: Rest
) -> None:
    name = "sleepy"
    sleeper(rest, name)
    is_unloaded(mesh, name)
    status = found(rest, name)
    assert (status["status"], status["health_status"], status["ready_replicas"]) == ("active", "healthy", 0)
    before = loads(mesh, name)
    answers = asyncio.run(ask(mesh, name, CALLERS))
    assert [answer.status_code for answer in answers] == [200] * CALLERS
    right = mesh.samples[0]["expected"][VERSION]
    assert {answer.json()["predictions"][0]["output"] for answer in answers} == {right}
    assert loads(mesh, name) == before + 1
    falls_asleep(rest, name)
    is_unloaded(mesh, name)
    began_s = time.monotonic()
    (answer,) = asyncio.run(ask(mesh, name, 1))
    print(f"cold start: {time.monotonic() - began_s:.2f} s")
    assert answer.status_code == 200


def test_a_sleeping_model_is_listed_ready_and_woken_through_the_open_inference_protocol(mesh: Mesh, rest: Rest) -> None:
    name = "sleepy-v2"
    sleeper(rest, name)
    is_unloaded(mesh, name)
    assert rest.call("GET", f"/v2/models/{name}/ready").status_code == 200
    inputs = [{"name": "X", "shape": [1, 64], "datatype": "FP32", "data": mesh.samples[0]["instance"]["X"]}]
    answer = rest.ok("POST", f"/v2/models/{name}/infer", json={"inputs": inputs})
    outputs = {one["name"]: one["data"] for one in answer["outputs"]}
    assert outputs["label"] == [mesh.samples[0]["expected"][VERSION]]


def test_while_the_deployer_is_away_callers_wait_and_are_answered_when_it_is_back(mesh: Mesh, rest: Rest) -> None:
    name = "sleepy-alone"
    sleeper(rest, name)
    is_unloaded(mesh, name)

    async def through() -> list[httpx.Response]:
        asked = asyncio.create_task(ask(mesh, name, 20), name="callers")
        with mesh.held_down("deployer"):
            await asyncio.sleep(2)
            assert not asked.done()
        return await asked

    assert [answer.status_code for answer in asyncio.run(through())] == [200] * 20


def test_a_sleeping_model_that_cannot_be_loaded_any_more_says_why(mesh: Mesh, rest: Rest, tmp_path: Path) -> None:
    name = "sleepy-broken"
    # An artifact of its own: all others of digits are the same file.
    model = onnx.load(DIGITS / "digits-v1.0.0.onnx")
    model.producer_name = name
    onnx.save(model, tmp_path / "own.onnx")
    sleeper(rest, name, artifact_uri=(tmp_path / "own.onnx").as_uri())
    is_unloaded(mesh, name)
    artifact = found(rest, name)["artifact_digest"]
    copies = [path for path in mesh.data_dir.rglob("*") if path.is_file() and artifact in path.name]
    package = mesh.data_dir / "triton" / "repository" / f"{name}--{VERSION}" / "1" / "model.onnx"
    for path in (package, *copies):
        path.chmod(0o644)
        path.write_bytes(b"rotten")
    answers = asyncio.run(ask(mesh, name, 20))
    assert {reason(answer.json()) for answer in answers} == {"ARTIFACT_CORRUPT"}
    assert "restore it from a backup" in answers[0].json()["message"]
    rest.ok("DELETE", f"/v1/models/{name}/deployments/main")
