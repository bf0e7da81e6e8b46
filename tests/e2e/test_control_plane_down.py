"""Router, registry, deployer, monitor and database dead, and dead for good: predictions go on, a gateway that dies
comes back from its disk, and the return of all of them is noticed by nobody.

`python -m benchmarks.control_plane_down` does the same for ten minutes, with figures.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack

import httpx
import orjson
import pytest

from tests.e2e.driving import NEW, OLD, Rest
from tests.e2e.loading import Load
from tests.support.mesh import Mesh
from tests.support.waiting import until

DEAD = ("router", "registry", "deployer", "monitor", "postgres")
BACK_WITHIN_S = 60.0


@pytest.fixture
def rest(mesh: Mesh) -> Iterator[Rest]:
    client = Rest(mesh.gateway, mesh.key)
    yield client
    client.close()


def envoy_stats(mesh: Mesh, pattern: str) -> Mapping[str, str]:
    """Envoy's own numbers and texts, by name."""
    url = f"http://127.0.0.1:{mesh.port('envoy_admin')}/stats"
    answer = httpx.get(url, params={"filter": pattern}, trust_env=False)
    pairs = (line.partition(": ") for line in answer.text.splitlines())
    return {name: value.strip('"') for name, _, value in pairs}


def configuration(mesh: Mesh) -> Mapping[str, str]:
    """The versions that the gateway goes by, how often routes that differ were taken, how often listeners were made: a
    listener is a batcher."""
    found = envoy_stats(mesh, r"[cl]ds\.version_text$|listener_manager\.listener_(added|modified|removed)$")
    reloads = envoy_stats(mesh, r"rds\..*config_reload$")
    return {**found, "routes taken": str(sum(map(int, reloads.values())))}


def texts(found: Mapping[str, str]) -> Mapping[str, str]:
    """The versions alone."""
    return {name: value for name, value in found.items() if name.endswith("version_text")}


def right(mesh: Mesh) -> bool:
    """Whether a stranger gets right answers of the version that has the traffic."""
    fresh = Rest(mesh.gateway, mesh.key)
    try:
        answer = fresh.predict({"instances": [sample["instance"] for sample in mesh.samples]})
    finally:
        fresh.close()
    expected = [sample["expected"][OLD] for sample in mesh.samples]
    return answer["model_version"] == OLD and [item["output"] for item in answer["predictions"]] == expected


def of_the_router(mesh: Mesh, rest: Rest) -> bool:
    """Whether the router and all others are back, and the gateway has said to the router that it goes by its table."""
    gateways = rest.ok("GET", "/v1/gateways")["gateways"]
    return set(DEAD) <= set(mesh.pids()) and [gateway["current"] for gateway in gateways] == [True]


def kept(mesh: Mesh, rest: Rest) -> bool:
    """Whether the table that the gateway goes by is on its disk."""
    [gateway] = rest.ok("GET", "/v1/gateways")["gateways"]
    [file] = (mesh.data_dir / "gateway").glob("*.bin")
    head = orjson.loads(file.read_bytes().split(b"\n", 1)[1][32:].split(b"\n", 1)[0])
    routes = [item["version"] for type_url, item in head["types"].items() if type_url.endswith("RouteConfiguration")]
    return any(version.startswith(f"{gateway['acknowledged_revision']:.0f}-") for version in routes)


def move_traffic(rest: Rest, version: str) -> None:
    rest.ok("PATCH", "/v1/models/digits/traffic", json={"traffic_split": {version: 100}})


def test_everything_goes_on_without_the_control_plane_and_nothing_flaps_at_its_return(mesh: Mesh, rest: Rest) -> None:
    move_traffic(rest, OLD)
    before = configuration(mesh)
    with Load(rest, mesh) as load:
        load.goes_on()
        with mesh.held_down(*DEAD):
            load.goes_on(answers=200)
        until(lambda: of_the_router(mesh, rest), within_s=BACK_WITHIN_S, what="the gateway is the router's again")
        load.goes_on(answers=200)
    assert load.failures == []
    assert set(load.versions) == {OLD}
    assert configuration(mesh) == before


def test_a_gateway_that_dies_meanwhile_comes_back_from_its_disk(mesh: Mesh, rest: Rest) -> None:
    move_traffic(rest, NEW)
    move_traffic(rest, OLD)
    until(lambda: kept(mesh, rest), what="the table is on disk")
    versions = texts(configuration(mesh))
    with ExitStack() as callers:
        with mesh.held_down(*DEAD):
            old = {part: mesh.kill(part) for part in ("keeper", "gateway")}
            for part, pid in old.items():
                until(
                    lambda part=part, pid=pid: mesh.pids().get(part, pid) != pid,  # type: ignore[misc]
                    within_s=BACK_WITHIN_S,
                    what=f"{part} is back",
                )
            until(lambda: right(mesh), within_s=BACK_WITHIN_S, what="predictions are right again")
            assert all(right(mesh) for _ in range(20))
            started = configuration(mesh)
            assert texts(started) == versions
            load = callers.enter_context(Load(rest, mesh))
            load.goes_on()
        until(lambda: of_the_router(mesh, rest), within_s=BACK_WITHIN_S, what="the gateway is the router's again")
        load.goes_on(answers=200)
        assert configuration(mesh) == started
        # And the router's word is heard.
        move_traffic(rest, NEW)
        until(lambda: load.versions[NEW] > 50, within_s=BACK_WITHIN_S, what="a change arrives")
        move_traffic(rest, OLD)
    assert load.failures == []
    assert set(load.versions) == {OLD, NEW}
