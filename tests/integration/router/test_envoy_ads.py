"""The control plane and a real Envoy: first configuration, changes, refusals, restarts of either, no request lost."""

import asyncio
import time
from collections.abc import Iterator

import httpx
import pytest

from services.common.clock import SystemClock
from services.router.adapters.envoy.control_plane import ACKNOWLEDGED_WITHIN_S
from services.router.domain.routing import GatewayState, ModelRoutes, Share
from services.router.domain.table import ServingTable
from services.router.engines.batchers import Batchers, Session
from services.router.engines.fleet import FleetKeeper
from tests.support.envoy_gateway import Gateway, running_gateway, split, table
from tests.support.gateway_load import Load
from tests.support.waiting import until

OLD, NEW = "v1.0.0", "v2.0.0"


@pytest.fixture
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running_gateway(tmp_path_factory.mktemp("gateway"), publish=[split("digits", {OLD: 100})]) as running:
        yield running


def version_of(gateway: Gateway, model: str = "digits") -> str | None:
    answer = gateway.rest("POST", f"/v1/models/{model}/predict", json={})
    assert answer.status_code == 200, answer.text
    version = answer.json()["headers"].get("x-route-version")
    assert version is None or isinstance(version, str)
    return version


def updates(gateway: Gateway) -> dict[str, int]:
    """How often Envoy took each type of resource; of routes how many configurations."""
    found = {
        "cluster": "cluster_manager.cds.update_success",
        "listener": "listener_manager.lds.update_success",
        "endpoints": "cluster.batcher.update_success",
    }
    routes = [count for name, count in gateway.stats("http.gateway.rds.").items() if name.endswith("config_reload")]
    return {**{kind: gateway.stats(name)[name] for kind, name in found.items()}, "routes": sum(routes)}


def test_a_publication_returns_when_envoy_routes_by_it(gateway: Gateway) -> None:
    for place in range(20):
        version = f"v1.0.{place}"
        gateway.publish(split("digits", {version: 100}))
        assert version_of(gateway) == version
        assert gateway.plane.connected() == [GatewayState("gateway-0", gateway.revision)]


def test_only_what_changed_is_sent(gateway: Gateway) -> None:
    before = updates(gateway)
    gateway.publish(split("digits", {NEW: 100}))
    assert updates(gateway) == {**before, "routes": before["routes"] + 1}


def test_models_come_and_go(gateway: Gateway) -> None:
    gateway.publish(split("digits", {OLD: 100}), split("iris", {OLD: 100}))
    assert version_of(gateway, "iris") == OLD
    gateway.publish(split("digits", {OLD: 100}))
    assert version_of(gateway, "iris") is None
    assert version_of(gateway) == OLD


def test_no_request_fails_across_fifty_changes(gateway: Gateway) -> None:
    with Load(gateway) as load:
        until(lambda: load.versions[OLD] > 20, what="the load runs")
        before = updates(gateway)["routes"]
        for percent in range(2, 101, 2):
            gateway.publish(split("digits", {NEW: percent, OLD: 100 - percent}))
        done = load.versions.total()
        until(lambda: load.versions.total() > done + 20, what="the load goes on")
    assert load.failures == []
    assert set(load.versions) == {OLD, NEW}
    # Each change costs the model's bucket and no other.
    assert updates(gateway)["routes"] == before + 50


def test_a_dead_router_is_not_noticed_and_a_new_one_disturbs_nothing(gateway: Gateway) -> None:
    gateway.publish(split("digits", {NEW: 100}))
    with Load(gateway) as load:
        until(lambda: load.versions[NEW] > 20, what="the load runs")
        gateway.do(gateway.stop_router())
        done = load.versions.total()
        until(lambda: load.versions.total() > done + 50, what="predictions go on")
        before = updates(gateway)
        gateway.do(gateway.restart_router())
        until(lambda: len(gateway.plane.connected()) == 1, what="Envoy dials the new router")
        # It has not published: it restores its rules first, and nobody's routes are taken away meanwhile.
        assert gateway.plane.connected()[0].gateway_id == "gateway-0"
        done = load.versions.total()
        until(lambda: load.versions.total() > done + 50, what="predictions go on")
        # The same table again, as a router publishes it that has restored it: Envoy has it and is not sent it.
        gateway.do(gateway.plane.publish(table(gateway.revision, split("digits", {NEW: 100}))))
        assert gateway.plane.connected() == [GatewayState("gateway-0", gateway.revision)]
        assert updates(gateway) == before
        gateway.publish(split("digits", {OLD: 100}))
        assert version_of(gateway) == OLD
    assert load.failures == []
    assert updates(gateway) == {**before, "routes": before["routes"] + 1}


def test_an_envoy_that_comes_back_gets_everything(gateway: Gateway) -> None:
    gateway.publish(split("digits", {NEW: 100}))
    gateway.do(gateway.envoy.stop())
    until(lambda: not gateway.plane.connected(), what="it is noticed")
    gateway.publish(split("digits", {OLD: 100}))
    gateway.envoy = gateway.do(gateway.start_part(gateway.envoy_part()))
    assert version_of(gateway) == OLD
    until(lambda: gateway.plane.connected() == [GatewayState("gateway-0", gateway.revision)], what="it is acknowledged")


def test_before_the_first_publication_an_envoy_waits_and_listens_nowhere(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with running_gateway(tmp_path_factory.mktemp("gateway"), publish=None) as gateway:
        until(lambda: len(gateway.plane.connected()) == 1, what="Envoy has dialled")
        assert gateway.plane.connected() == [GatewayState("gateway-0", 0)]
        with pytest.raises(httpx.ConnectError):
            gateway.rest("GET", "/health")
        gateway.publish(split("digits", {OLD: 100}))
        gateway.do(gateway.envoy.wait_ready())
        assert version_of(gateway) == OLD


@pytest.mark.logs_errors
def test_a_refusal_is_logged_in_envoys_words_and_shown_and_the_next_version_is_taken(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    acknowledged = gateway.revision
    wrong = ModelRoutes("digits", (OLD, NEW), (Share(OLD, 0), Share(NEW, 0)))
    began_s = time.monotonic()
    gateway.publish(wrong)
    assert time.monotonic() - began_s < ACKNOWLEDGED_WITHIN_S
    state = gateway.plane.connected()[0]
    assert state.acknowledged_revision == acknowledged
    assert "weight" in state.error_message
    logged = [record for record in caplog.records if "refused" in record.getMessage()]
    assert len(logged) == 1
    assert logged[0].__dict__["fields"]["reason"] == state.error_message
    assert logged[0].__dict__["fields"]["gateway"] == "gateway-0"
    # It goes on with what it had.
    assert version_of(gateway) == OLD
    gateway.publish(split("digits", {NEW: 100}))
    assert gateway.plane.connected() == [GatewayState("gateway-0", gateway.revision)]
    assert version_of(gateway) == NEW


@pytest.mark.logs_errors
def test_a_model_that_envoy_refuses_keeps_no_other_from_it(gateway: Gateway) -> None:
    wrong = ModelRoutes("wrong", (OLD, NEW), (Share(OLD, 0), Share(NEW, 0)))
    others = [f"model-{number}" for number in range(15)]
    gateway.publish(wrong, *(split(name, {OLD: 100}) for name in others))
    assert {version_of(gateway, name) for name in others} == {OLD}
    gateway.publish(wrong, *(split(name, {NEW: 100}) for name in others))
    assert {version_of(gateway, name) for name in others} == {NEW}
    assert "weight" in gateway.plane.connected()[0].error_message
    gateway.do(gateway.envoy.stop())
    gateway.envoy = gateway.do(gateway.start_part(gateway.envoy_part()))
    until(lambda: version_of(gateway, others[0]) == NEW, what="the gateway that started anew has its routes")
    until(lambda: {version_of(gateway, name) for name in others} == {NEW}, what="all of them")
    gateway.publish(*(split(name, {OLD: 100}) for name in ("wrong", *others)))
    assert gateway.plane.connected() == [GatewayState("gateway-0", gateway.revision)]
    assert {version_of(gateway, name) for name in ("wrong", *others)} == {OLD}


def test_batchers_are_exchanged_without_a_failure(gateway: Gateway) -> None:
    with Load(gateway) as load:
        until(lambda: load.versions[OLD] > 20, what="the load runs")
        other = gateway.do(gateway.start_other_batcher())
        gateway.do(gateway.replace_batchers([gateway.batcher_port, other]))
        name = "cluster.batcher.membership_healthy"
        until(lambda: gateway.stats(name)[name] == 2, what="both are healthy")
        gateway.do(gateway.replace_batchers([other]))
        until(lambda: gateway.stats(name)[name] == 1, what="the first is gone")
        gateway.do(gateway.batcher.stop())
        done = load.versions.total()
        until(lambda: load.versions.total() > done + 50, what="predictions go on")
    assert load.failures == []


def test_a_batcher_that_adds_itself_gets_a_share_until_it_has_left(gateway: Gateway) -> None:
    batchers = Batchers(clock=SystemClock())
    batchers.tell(ServingTable(1))
    keeper = FleetKeeper(
        configured=[f"127.0.0.1:{gateway.batcher_port}"],
        batchers=batchers,
        gateways=gateway.plane,
        clock=SystemClock(),
        grace_s=0.5,
    )

    async def connect(port: int) -> Session:
        session = batchers.connect(f"batcher-{port}", f"127.0.0.1:{port}")
        await anext(batchers.steps(session))
        batchers.answer(session, acknowledged_revision=1, error_message="")
        return session

    async def leave(session: Session) -> None:
        batchers.disconnect(session)

    keeping = gateway.do(started(keeper))
    name = "cluster.batcher.membership_healthy"
    with Load(gateway) as load:
        until(lambda: load.versions[OLD] > 20, what="the load runs")
        gateway.do(connect(gateway.batcher_port))
        other = gateway.do(connect(gateway.do(gateway.start_other_batcher())))
        until(lambda: gateway.stats(name)[name] == 2, what="both are healthy")
        gateway.do(leave(other))
        until(lambda: gateway.stats(name)[name] == 1, what="the other is gone")
        done = load.versions.total()
        until(lambda: load.versions.total() > done + 50, what="predictions go on")
    gateway.do(ended(keeping))
    assert load.failures == []


async def started(keeper: FleetKeeper) -> "asyncio.Task[None]":
    return asyncio.create_task(keeper.run(), name="fleet")


async def ended(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_a_router_that_stops_does_not_wait_for_its_envoys(gateway: Gateway) -> None:
    until(lambda: len(gateway.plane.connected()) == 1, what="Envoy is connected")
    gateway.do(gateway.plane.close())
    until(lambda: not gateway.plane.connected(), what="the streams have ended", within_s=5.0)


def test_a_listener_or_cluster_that_changes_is_taken_without_a_failure(gateway: Gateway) -> None:
    """A new release of the router may say things differently: what it changes warms up while the old one serves."""
    with Load(gateway) as load:
        until(lambda: load.versions[OLD] > 20, what="the load runs")
        before = updates(gateway)
        gateway.do(gateway.restart_router(deployer_address=f"127.0.0.1:{gateway.ads_port}"))
        gateway.do(gateway.plane.publish(table(gateway.revision, split("digits", {OLD: 100}))))
        until(lambda: updates(gateway)["cluster"] == before["cluster"] + 1, what="the cluster is taken")
        gateway.publish(split("digits", {NEW: 100}))
        assert version_of(gateway) == NEW
    assert load.failures == []
