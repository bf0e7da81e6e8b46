"""Replicas follow the load: more while many ask at once, the first number again when they have left, nobody refused."""

import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.e2e.driving import Rest, bearer, deploy, registration
from tests.support.mesh import Mesh
from tests.support.waiting import until

NAME, VERSION = "busy", "v1.0.0"
CALLERS = 8
SCALING = {
    "enabled": True,
    "min_replicas": 1,
    "max_replicas": 3,
    "target_concurrency": 2,
    "scale_down_stabilization_s": 6,
}


@pytest.fixture
def rest(mesh: Mesh) -> Iterator[Rest]:
    rest = Rest(mesh.gateway, mesh.key)
    yield rest
    rest.close()


class Callers:
    """Threads that ask without a pause."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, name=f"caller {number}") for number in range(CALLERS)]
        self.wrong: list[str] = []
        self.answered = 0

    def __enter__(self) -> "Callers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        body = {"instances": [sample["instance"] for sample in self._mesh.samples] * 20}
        right = [sample["expected"][VERSION] for sample in self._mesh.samples] * 20
        with httpx.Client(
            base_url=f"http://{self._mesh.gateway}", headers=bearer(self._mesh.key), timeout=30, trust_env=False
        ) as client:
            while not self._stop.is_set():
                answer = client.post(f"/v1/models/{NAME}/predict", json=body)
                if answer.status_code != 200:
                    self.wrong.append(answer.text)
                elif [one["output"] for one in answer.json()["predictions"]] != right:
                    self.wrong.append("another answer")
                self.answered += 1


def found(rest: Rest) -> dict[str, Any]:
    return rest.ok("GET", f"/v1/models/{NAME}/deployments/main")


def test_replicas_follow_the_load_and_no_request_fails(mesh: Mesh, rest: Rest) -> None:
    rest.ok("POST", "/v1/models", json=registration(NAME, VERSION))
    deploy(rest, NAME, VERSION, "main", autoscaling=SCALING)
    assert found(rest)["replicas"] == 1
    with Callers(mesh) as callers:
        until(lambda: found(rest)["ready_replicas"] >= 2, within_s=60, what="there are more replicas")
        said = next(one for one in found(rest)["conditions"] if one["type"] == "Autoscaled")
        assert said["status"] == "True"
        assert "requests at once a replica of 2" in said["message"]
    until(lambda: found(rest)["ready_replicas"] == 1, within_s=120, what="there is one replica again")
    assert found(rest)["status"] == "active"
    assert callers.wrong == []
    assert callers.answered > CALLERS
    rest.ok("DELETE", f"/v1/models/{NAME}/deployments/main")


def test_more_replicas_than_the_machine_may_have_are_refused(rest: Rest) -> None:
    scaling = SCALING | {"max_replicas": 1000}
    body = {"version": VERSION, "deployment_name": "too-many", "autoscaling": scaling}
    error = rest.refused(400, "POST", f"/v1/models/{NAME}/deployments", json=body)
    assert "autoscaling.max_replicas" in error["message"]
