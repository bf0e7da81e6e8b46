"""Any one process may be killed: predictions go on, or come back within seconds, and what was stored is still there."""

from collections.abc import Iterator

import pytest

from tests.e2e.driving import OLD, Rest
from tests.e2e.loading import Load
from tests.support.mesh import Mesh
from tests.support.waiting import until

CONTROL_PLANE = ("registry", "router", "deployer", "batch", "monitor")
STORES = ("postgres", "redis", "redis-cache")
BESIDE = ("keeper",)
ON_THE_PATH = {"gateway": 30.0, "triton": 60.0}
"""Seconds after which predictions must be back, on a machine that has much else to do."""
BACK_WITHIN_S = 60.0


@pytest.fixture
def rest(mesh: Mesh) -> Iterator[Rest]:
    client = Rest(mesh.gateway, mesh.key)
    yield client
    client.close()


def wait_restarted(mesh: Mesh, part: str, old: int) -> None:
    until(lambda: mesh.pids().get(part, old) != old, within_s=BACK_WITHIN_S, what=f"{part} is started again")


def models(rest: Rest) -> set[str]:
    return {item["name"] for item in rest.ok("GET", "/v1/models", params={"page_size": 1000})["models"]}


@pytest.mark.parametrize("part", [*CONTROL_PLANE, *STORES, *BESIDE])
def test_predictions_do_not_notice_the_death_of(mesh: Mesh, rest: Rest, part: str) -> None:
    with Load(rest, mesh) as load:
        load.goes_on(answers=20)
        old = mesh.kill(part)
        wait_restarted(mesh, part, old)
        load.goes_on()
    assert load.failures == []
    until(lambda: "digits" in models(rest), within_s=BACK_WITHIN_S, what="the registry answers as before")
    until(
        lambda: rest.ok("GET", "/v1/models/digits/deployments")["deployments"],
        within_s=BACK_WITHIN_S,
        what="the deployer answers as before",
    )


def test_predictions_go_on_with_the_whole_control_plane_dead(mesh: Mesh, rest: Rest) -> None:
    with Load(rest, mesh) as load:
        load.goes_on(answers=20)
        old = {part: mesh.kill(part) for part in (*CONTROL_PLANE, "postgres")}
        for part, pid in old.items():
            wait_restarted(mesh, part, pid)
        load.goes_on()
    assert load.failures == []
    until(lambda: "digits" in models(rest), within_s=BACK_WITHIN_S, what="the registry answers as before")


@pytest.mark.parametrize("part", ON_THE_PATH)
def test_predictions_come_back_after_the_death_of(mesh: Mesh, rest: Rest, part: str) -> None:
    body = {"instances": [sample["instance"] for sample in mesh.samples]}
    expected = [sample["expected"][OLD] for sample in mesh.samples]
    old = mesh.kill(part)
    wait_restarted(mesh, part, old)

    def right() -> bool:
        fresh = Rest(mesh.gateway, mesh.key)
        try:
            return [item["output"] for item in fresh.predict(body)["predictions"]] == expected
        finally:
            fresh.close()

    until(right, within_s=ON_THE_PATH[part], what="predictions are right again")
    # And it lasts: nothing half-loaded answers in between.
    assert all(right() for _ in range(20))
