"""The keeper between a real Envoy and the real control plane: deaths of each, in every order, and no request lost."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.gateway.domain.messages import is_complete
from services.router.domain.routing import ModelRoutes, Share
from tests.support.envoy_gateway import running_gateway, split
from tests.support.gateway_load import Load
from tests.support.kept_gateway import KeptGateway
from tests.support.waiting import until

OLD, NEW, NEWEST = "v1.0.0", "v2.0.0", "v3.0.0"
DIGITS = [split("digits", {OLD: 100})]


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[KeptGateway]:
    with running_gateway(tmp_path, publish=DIGITS, kind=KeptGateway) as running:
        yield running
    assert [line for line in running.keeper_log() if line["level"] == "error"] == []


def version_of(gateway: KeptGateway) -> str:
    answer = gateway.rest("POST", "/v1/models/digits/predict", json={})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["headers"]["x-route-version"])


def all_is_kept(gateway: KeptGateway) -> bool:
    """Whether what was published last is on disk, all of it."""
    kept = gateway.kept_versions()
    routes = kept.get("RouteConfiguration", "")
    return len(kept) == 5 and routes.startswith(f"{gateway.revision}-") and is_complete(routes)


def versions_in_force(gateway: KeptGateway) -> dict[str, str]:
    """Of all but routes, each of which has the version of the response that brought it."""
    return gateway.text_stats("(cluster_manager.cds|listener_manager.lds|cluster.batcher).version_text$")


def route_updates(gateway: KeptGateway) -> int:
    """How often Envoy has taken routes that differ from those before."""
    return sum(gateway.stats("http.gateway.rds.*config_reload$").values())


def test_a_gateway_starts_without_its_router_and_does_not_notice_its_return(
    gateway: KeptGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway.publish(split("digits", {NEW: 100}))
    until(lambda: all_is_kept(gateway), what="the table is on disk")
    before = versions_in_force(gateway)
    gateway.do(gateway.stop_router())
    gateway.do(gateway.kill_envoy())
    began_s = time.monotonic()
    gateway.do(gateway.start_envoy())
    assert version_of(gateway) == NEW
    took_s = time.monotonic() - began_s
    assert versions_in_force(gateway) == before
    listeners, updates = gateway.listeners(), route_updates(gateway)

    with Load(gateway, threads=1) as load:
        load.goes_on()
        # A router that has not restored its rules: it tells of the rest, which is the same.
        gateway.do(gateway.restart_router())
        began_s = time.monotonic()
        until(lambda: len(gateway.plane.connected()) == 1, every_s=0.005, what="the gateway is the router's again")
        back_s = time.monotonic() - began_s
        load.goes_on()
        gateway.revision -= 1
        gateway.publish(split("digits", {NEW: 100}))
        load.goes_on()
        assert gateway.plane.connected()[0].acknowledged_revision == gateway.revision
        assert versions_in_force(gateway) == before
        assert gateway.listeners() == listeners
        assert route_updates(gateway) == updates > 0
        gateway.publish(split("digits", {NEWEST: 100}))
        until(lambda: load.versions[NEWEST] > 30, what="new changes arrive")
    assert load.failures == []
    assert set(load.versions) == {NEW, NEWEST}
    assert gateway.listeners() == listeners
    with capsys.disabled():
        print(
            f"\na gateway without its router answers after {took_s:.2f} s; it dials one that is back in {back_s:.2f} s"
        )


@pytest.mark.logs_errors
def test_what_was_refused_is_not_what_a_gateway_starts_with(gateway: KeptGateway) -> None:
    gateway.publish(split("digits", {NEW: 100}))
    until(lambda: all_is_kept(gateway), what="the table is on disk")
    kept = gateway.kept_versions()
    gateway.publish(ModelRoutes("digits", (OLD, NEW), (Share(OLD, 0), Share(NEW, 0))))
    assert "weight" in gateway.plane.connected()[0].error_message
    gateway.do(gateway.stop_router())
    gateway.do(gateway.kill_envoy())
    gateway.do(gateway.start_envoy())
    assert version_of(gateway) == NEW
    assert gateway.kept_versions() == kept


def test_the_death_of_the_keeper_changes_nothing(gateway: KeptGateway) -> None:
    with Load(gateway, threads=1) as load:
        load.goes_on()
        listeners = gateway.listeners()
        gateway.do(gateway.kill_keeper())
        load.goes_on()
        # Published while nobody could hear of it, and kept nowhere.
        gateway.publish(split("digits", {NEW: 100}))
        load.goes_on()
        assert set(load.versions) == {OLD}
        gateway.do(gateway.start_keeper())
        until(lambda: load.versions[NEW] > 30, what="the change arrives")
        assert gateway.listeners() == listeners
    assert load.failures == []
    until(lambda: all_is_kept(gateway), what="the table is on disk")


def test_a_disk_that_lost_it_gets_it_from_the_router_again(gateway: KeptGateway) -> None:
    until(lambda: all_is_kept(gateway), what="everything is on disk")
    kept, listeners = gateway.kept_versions(), gateway.listeners()
    with Load(gateway, threads=1) as load:
        gateway.do(gateway.kill_keeper())
        gateway.kept_file.unlink()
        gateway.do(gateway.start_keeper())
        until(lambda: gateway.kept_versions() == kept, what="everything is on disk again")
        load.goes_on()
    assert load.failures == []
    assert set(load.versions) == {OLD}
    assert gateway.listeners() == listeners


def test_a_damaged_file_is_as_good_as_none_and_said_in_one_line(gateway: KeptGateway) -> None:
    until(lambda: all_is_kept(gateway), what="everything is on disk")
    gateway.do(gateway.stop_router())
    gateway.do(gateway.kill_envoy())
    gateway.do(gateway.kill_keeper())
    content = gateway.kept_file.read_bytes()
    gateway.kept_file.write_bytes(content[:-1] + b"?")
    gateway.do(gateway.start_keeper())
    gateway.do(gateway.start_envoy(wait=False))
    until(lambda: gateway.dialled() == 1, what="the gateway has dialled")
    # It is read when the gateway asks for it, a moment after it has dialled.
    until(lambda: _unusable(gateway), what="the keeper has looked")
    said = _unusable(gateway)
    assert len(said) == 1
    assert str(gateway.kept_file) in said[0]["error"]
    assert gateway.stats("listener_manager.listener_added")["listener_manager.listener_added"] == 0
    gateway.do(gateway.restart_router())
    gateway.revision -= 1
    gateway.publish(*DIGITS)
    until(lambda: version_of(gateway) == OLD, what="the gateway serves by the router's word")
    until(lambda: all_is_kept(gateway), what="everything is on disk again")


def test_something_that_takes_connections_and_says_nothing_is_no_router(gateway: KeptGateway) -> None:
    until(lambda: all_is_kept(gateway), what="everything is on disk")
    gateway.do(gateway.stop_router())
    gateway.do(gateway.kill_envoy())
    with socket.create_server(("127.0.0.1", gateway.ads_port)):
        gateway.do(gateway.start_envoy())
        assert version_of(gateway) == OLD
    gateway.do(gateway.restart_router())
    gateway.publish(split("digits", {NEW: 100}))
    until(lambda: version_of(gateway) == NEW, what="the router's word is heard")


def test_a_router_that_is_there_and_knows_nothing_does_not_keep_a_gateway_from_starting(gateway: KeptGateway) -> None:
    until(lambda: all_is_kept(gateway), what="everything is on disk")
    gateway.do(gateway.kill_envoy())
    gateway.do(gateway.restart_router())  # it publishes nothing
    gateway.do(gateway.start_envoy())
    assert version_of(gateway) == OLD
    gateway.publish(split("digits", {NEW: 100}))
    assert version_of(gateway) == NEW
    until(lambda: all_is_kept(gateway), what="the table is on disk")


def _unusable(gateway: KeptGateway) -> list[dict[str, Any]]:
    """What the keeper has said of files that it cannot use."""
    return [line for line in gateway.keeper_log() if "cannot be used" in line["event"]]
