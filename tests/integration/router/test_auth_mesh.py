"""From a real registry to a real gateway: keys made and revoked, owners and teams, and the registry dead."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest
from infermesh.registry.v1 import registry_service_pb2
from infermesh.router.v1 import router_service_pb2, traffic_rule_pb2

from services.common.grpc.channel import open_channel
from services.common.grpc.identity import identity_of
from tests.integration.router.driving import PlayedBatcher, Surroundings
from tests.support.guarded_mesh import GuardedMesh, guarded_mesh
from tests.support.registry_driving import NEW, OLD, digits
from tests.support.registry_team import make_team, member, models_by
from tests.support.router_fakes import ready
from tests.support.waiting import eventually


@pytest.fixture
async def mesh(around: Surroundings, tmp_path: Path) -> AsyncIterator[GuardedMesh]:
    around.deployer.state.put(ready("digits", OLD, NEW))
    async with guarded_mesh(around, tmp_path) as running:
        assert running.registry.channel is not None
        for team in ("vision", "audio"):
            await make_team(running.registry.channel, team)
        yield running


async def test_a_key_works_until_it_is_revoked_and_not_a_second_longer(
    mesh: GuardedMesh, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = [await mesh.key("vision", role="viewer") for _ in range(6)]
    stays = keys.pop()
    answer = await mesh.predict(stays.secret)
    found = identity_of(answer.json()["headers"])
    assert (found.team, found.role, found.key_id) == ("vision", "viewer", stays.api_key.key_id)
    loop, took_s = asyncio.get_running_loop(), []
    for key in keys:
        assert await mesh.status(key.secret) == 200
        await mesh.revoke("vision", key.api_key.key_id)
        began_s = loop.time()

        async def is_refused(secret: str = key.secret) -> bool:
            return await mesh.status(secret) == 401

        await eventually(is_refused, what="it is refused", every_s=0.002)
        took_s.append(loop.time() - began_s)
        assert "revoked" in (await mesh.predict(key.secret)).json()["message"]
        assert await mesh.status(stays.secret) == 200
    with capsys.disabled():
        longest_ms = max(took_s) * 1000
        print(f"\na key is refused {longest_ms:.0f} ms after RevokeApiKey has returned, the longest of {len(keys)}")


async def test_a_condition_by_team_holds_for_the_keys_of_that_team(mesh: GuardedMesh) -> None:
    vision, audio = [await mesh.key(team) for team in ("vision", "audio")]
    request = router_service_pb2.UpdateTrafficRequest(
        model_name="digits",
        traffic_split={OLD: 100},
        conditions=[traffic_rule_pb2.RouteCondition(attribute="team", values=["vision"], version=NEW)],
    )
    async with mesh.routing() as router:
        await router.UpdateTraffic(request)
    assert (await mesh.predict(vision.secret)).json()["headers"]["x-route-version"] == NEW
    assert (await mesh.predict(audio.secret)).json()["headers"]["x-route-version"] == OLD


async def test_batchers_are_told_whose_a_model_is_and_with_whom_it_is_shared(mesh: GuardedMesh) -> None:
    assert mesh.registry.channel is not None
    by_owner = models_by(mesh.registry.channel, member("vision"))
    async with open_channel(f"127.0.0.1:{mesh.router_port}") as channel:
        batcher = PlayedBatcher(channel)

        def told() -> tuple[str, list[str]] | None:
            model = batcher.served.get("digits")
            return (model.team, list(model.shared_with)) if model is not None else None

        await eventually(lambda: told() == ("", []), what="the model is nobody's")
        await by_owner.CreateModel(digits(OLD))
        await eventually(lambda: told() == ("vision", []), what="it is vision's")
        share = registry_service_pb2.ShareModelRequest(model_name="digits", team="audio")
        await by_owner.ShareModel(share)
        await eventually(lambda: told() == ("vision", ["audio"]), what="it is shared")
        await mesh.registry.stop()
        await mesh.stop_router()
        batcher.served.clear()
        await batcher.leave()
    await mesh.start_router()
    async with open_channel(f"127.0.0.1:{mesh.router_port}") as channel:
        batcher = PlayedBatcher(channel)
        await eventually(lambda: told() == ("vision", ["audio"]), what="a router that starts without a registry knows")
        await batcher.leave()


async def test_with_the_registry_dead_a_router_and_a_gateway_that_start_refuse_what_was_revoked(
    mesh: GuardedMesh, around: Surroundings
) -> None:
    stays, leaves = [await mesh.key("vision") for _ in range(2)]
    await mesh.revoke("vision", leaves.api_key.key_id)

    async def told_apart() -> bool:
        return [await mesh.status(secret) for secret in (stays.secret, leaves.secret, None)] == [200, 401, 401]

    await eventually(told_apart, what="the key is refused")
    await eventually(lambda: leaves.api_key.key_id.encode() in kept(around), what="it is kept")
    await mesh.registry.stop()
    await mesh.stop_router()
    assert await told_apart()
    await mesh.start_router()
    assert await told_apart()
    await mesh.lose_gateway()
    await mesh.start_gateway()
    await eventually(mesh.serves, what="a gateway without anything kept is told by the router")
    assert await told_apart()


def kept(around: Surroundings) -> bytes:
    """What the router has kept of callers."""
    with psycopg.connect(around.database_url.replace("+psycopg", "")) as connection:
        row = connection.execute("SELECT stated FROM router.access WHERE part = 'callers'").fetchone()
    return bytes(row[0]) if row is not None else b""
