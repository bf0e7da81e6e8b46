"""WatchAccess at the real registry: whole, then what changed, whatever breaks between."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import grpc
import psycopg
import pytest
from infermesh.registry.v1 import registry_service_pb2 as rpb
from infermesh.registry.v1 import team_service_pb2 as pb
from infermesh.registry.v1 import team_service_pb2_grpc

from services.common.errors import MeshError, Reason
from services.registry.operator_key import main
from services.registry.settings import RegistrySettings
from tests.support.registry_driving import Registry, digits
from tests.support.registry_team import OPERATOR, Follower, make_team, member, models_by, teams_by
from tests.support.waiting import eventually

Models = dict[str, tuple[str, tuple[str, ...]]]


@pytest.fixture
def channel(registry: Registry) -> grpc.aio.Channel:
    assert registry.channel is not None
    return registry.channel


@asynccontextmanager
async def followers(channel: grpc.aio.Channel, number: int = 1) -> AsyncIterator[list[Follower]]:
    every = [Follower(channel) for _ in range(number)]
    tasks = [asyncio.create_task(follower.run()) for follower in every]
    try:
        await eventually(lambda: all(follower.heard for follower in every), what="the first messages")
        yield every
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def database(settings: RegistrySettings) -> psycopg.AsyncConnection:
    url = settings.database_url.get_secret_value().replace("+psycopg", "")
    return await psycopg.AsyncConnection.connect(url, autocommit=True)


def all_know(every: list[Follower], truth: Models) -> bool:
    return all(one.models == truth for one in every)


async def test_every_change_of_a_model_is_told(channel: grpc.aio.Channel) -> None:
    for team in ("vision", "fraud"):
        await make_team(channel, team)
    owner = models_by(channel, member("vision"))
    steps: tuple[tuple[Callable[[], Awaitable[object]], Models], ...] = (
        (lambda: owner.CreateModel(digits()), {"digits": ("vision", ())}),
        (
            lambda: owner.ShareModel(rpb.ShareModelRequest(model_name="digits", team="fraud")),
            {"digits": ("vision", ("fraud",))},
        ),
        (
            lambda: owner.UnshareModel(rpb.UnshareModelRequest(model_name="digits", team="fraud")),
            {"digits": ("vision", ())},
        ),
        (
            lambda: owner.TransferModel(rpb.TransferModelRequest(model_name="digits", team="fraud")),
            {"digits": ("fraud", ())},
        ),
    )
    async with followers(channel, 3) as every:
        for act, truth in steps:
            await act()
            await eventually(partial(all_know, every, truth), what=str(truth))
        # All were told by the way of changes: nobody was told everything again.
        assert [one.resets for one in every] == [1, 1, 1]


def told(follower: Follower, key_id: str) -> bool:
    return key_id in follower.last.revoked_key_ids


async def test_a_revocation_is_told_soon(channel: grpc.aio.Channel) -> None:
    await make_team(channel, "vision")
    admin = teams_by(channel, member("vision"))
    took_ms: list[float] = []
    async with followers(channel) as (follower,):
        for number in range(20):
            made = await admin.CreateApiKey(pb.CreateApiKeyRequest(team_name="vision", name=str(number), role="viewer"))
            key_id = made.api_key.key_id
            await admin.RevokeApiKey(pb.RevokeApiKeyRequest(team_name="vision", key_id=key_id))
            began_s = time.monotonic()
            await eventually(
                partial(told, follower, key_id),
                every_s=0.001,
                timeout_s=4.0,
                what="the revocation",
            )
            took_ms.append((time.monotonic() - began_s) * 1000)
    took_ms.sort()
    print(f"told of a revocation after the answer: median {took_ms[10]:.1f} ms, slowest {took_ms[-1]:.1f} ms")


async def test_what_happens_while_nobody_listens_is_told_after(
    channel: grpc.aio.Channel, settings: RegistrySettings
) -> None:
    await make_team(channel, "vision")
    async with await database(settings) as connection, followers(channel) as (follower,):
        # The connections that listen die; what is committed meanwhile has nobody who hears its word.
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'infermesh-registry-feed' AND datname = current_database()"
        )
        await make_team(channel, "fraud")
        await eventually(lambda: [team.name for team in follower.last.teams] == ["fraud", "vision"], what="the team")

        async def listening() -> bool:
            rows = await connection.execute(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE application_name = 'infermesh-registry-feed' AND datname = current_database()"
            )
            row = await rows.fetchone()
            return row is not None and row[0] > 0

        await eventually(listening, what="who listens again")


async def test_an_operator_withdraws_a_signing_key_by_hand(
    channel: grpc.aio.Channel, settings: RegistrySettings
) -> None:
    await make_team(channel, "vision")
    async with await database(settings) as connection, followers(channel) as (follower,):
        assert "kid" in follower.last.key_set
        await connection.execute("UPDATE registry.signing_keys SET distrusted_at = now()")
        await eventually(lambda: follower.last.key_set == '{"keys":[]}', what="the key set without the key")
        wish = pb.CreateApiKeyRequest(team_name="vision", name="a", role="viewer")
        with pytest.raises(MeshError) as caught:
            await teams_by(channel, OPERATOR).CreateApiKey(wish)
        assert caught.value.reason is Reason.DEPENDENCY_UNAVAILABLE
        assert "signing key" in caught.value.message


async def test_whoever_comes_through_the_gateway_does_not_watch(channel: grpc.aio.Channel) -> None:
    with pytest.raises(MeshError) as caught:
        async for _ in teams_by(channel, OPERATOR).WatchAccess(pb.WatchAccessRequest()):
            pass
    assert caught.value.reason is Reason.PERMISSION_DENIED


async def test_followers_do_not_hold_up_the_end(registry: Registry, channel: grpc.aio.Channel) -> None:
    stream = team_service_pb2_grpc.TeamServiceStub(channel).WatchAccess(pb.WatchAccessRequest(watcher_id="late"))
    responses = aiter(stream)
    assert (await anext(responses)).models_reset
    assert registry.lifecycle is not None
    ended = asyncio.create_task(registry.lifecycle.stop())
    # It ends by itself: one that had to be cut off would end with an error.
    assert [one async for one in responses] == []
    await ended


async def test_an_operators_key_is_made_on_the_command_line(
    registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["olga", "--days", "30", "--address", registry.address]
    assert await asyncio.to_thread(main, arguments) == 0
    printed = capsys.readouterr()
    assert printed.out.count(".") == 2
    assert printed.out.strip() not in printed.err
    assert await asyncio.to_thread(main, ["", "--address", registry.address]) == 1
    assert "name" in capsys.readouterr().err
    assert await asyncio.to_thread(main, ["olga", "--address", "127.0.0.1:1"]) == 1
    assert "does not answer" in capsys.readouterr().err
