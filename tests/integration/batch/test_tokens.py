"""The token that a job predicts by: asked for once, in its team's name, and renewed before it ends."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import grpc
import pytest
from infermesh.registry.v1 import team_service_pb2, team_service_pb2_grpc

from services.batch.adapters.tokens import RegistryTokens
from services.common.clock import SystemClock
from services.common.errors import MeshError, Reason
from services.common.grpc.channel import open_channel
from services.common.grpc.identity import Identity, act_as
from services.common.grpc.interceptors import Context, MeshInterceptor
from services.common.telemetry.metrics import RpcMetrics, new_registry
from services.common.telemetry.tracing import Tracing
from tests.support.clock import FakeClock

ADA = Identity(user="ada", team="red", role="viewer")


class Teams(team_service_pb2_grpc.TeamServiceServicer):
    """A registry that signs tokens for a quarter of an hour."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.asked: list[team_service_pb2.CreateServiceTokenRequest] = []
        self.roles: list[object] = []
        self.trouble: MeshError | None = None

    async def CreateServiceToken(
        self, request: team_service_pb2.CreateServiceTokenRequest, context: Context
    ) -> team_service_pb2.CreateServiceTokenResponse:
        if self.trouble is not None:
            raise self.trouble
        self.asked.append(request)
        self.roles.append(dict(context.invocation_metadata() or ()).get("x-infermesh-role"))
        made = team_service_pb2.CreateServiceTokenResponse(token=f"token-{len(self.asked)}")
        made.expires_at.FromDatetime(self._clock.now() + timedelta(minutes=15))
        return made


@asynccontextmanager
async def _serving(teams: Teams) -> AsyncIterator[grpc.aio.Channel]:
    interceptor = MeshInterceptor(
        clock=SystemClock(),
        metrics=RpcMetrics(new_registry()),
        tracing=Tracing(service="test", instance="test-0", otlp_endpoint=""),
    )
    server = grpc.aio.server(interceptors=(interceptor,))
    team_service_pb2_grpc.add_TeamServiceServicer_to_server(teams, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    channel = open_channel(f"127.0.0.1:{port}")
    try:
        yield channel
    finally:
        await channel.close()
        await server.stop(grace=None)


async def test_a_token_is_asked_for_once_and_again_before_it_ends() -> None:
    clock = FakeClock()
    teams = Teams(clock)  # type: ignore[abstract]  # only what is called
    async with _serving(teams) as channel:
        tokens = RegistryTokens(channel, clock=clock)
        assert [await tokens.bearer(ADA, "iris") for _ in range(3)] == ["token-1"] * 3
        clock.advance(12 * 60)
        assert await tokens.bearer(ADA, "iris") == "token-1"
        clock.advance(90)
        assert await tokens.bearer(ADA, "iris") == "token-2"
        tokens.forget(ADA, "iris")
        assert await tokens.bearer(ADA, "iris") == "token-3"
    asked = teams.asked[0]
    assert (asked.team, asked.user, asked.role) == ("red", "ada", "viewer")
    assert (list(asked.scopes), list(asked.models)) == (["predict"], ["iris"])


async def test_teams_users_and_models_have_tokens_of_their_own() -> None:
    clock = FakeClock()
    teams = Teams(clock)  # type: ignore[abstract]
    async with _serving(teams) as channel:
        tokens = RegistryTokens(channel, clock=clock)
        blue, bob = Identity(user="ada", team="blue", role="viewer"), Identity(user="bob", team="red", role="viewer")
        made = [await tokens.bearer(caller, "iris") for caller in (ADA, blue, bob, Identity())]
        made.append(await tokens.bearer(ADA, "digits"))
    assert len(set(made)) == 5
    assert (teams.asked[3].team, teams.asked[3].role) == ("", "platform-admin")


async def test_the_service_speaks_for_itself_where_the_job_speaks_as_its_team() -> None:
    """A caller with a role is refused by methods between services, so the identity stays behind."""
    clock = FakeClock()
    teams = Teams(clock)  # type: ignore[abstract]
    async with _serving(teams) as channel:
        act_as(ADA)
        assert await RegistryTokens(channel, clock=clock).bearer(ADA, "iris") == "token-1"
    assert teams.roles == [None]


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        (MeshError(Reason.DEPENDENCY_UNAVAILABLE, "away"), Reason.DEPENDENCY_UNAVAILABLE),
        (MeshError(Reason.NOT_IMPLEMENTED, "later"), Reason.DEPENDENCY_UNAVAILABLE),
        (MeshError(Reason.TEAM_NOT_FOUND, "no team 'red'"), Reason.TEAM_NOT_FOUND),
    ],
)
async def test_what_the_registry_does_not_give_may_come_later_unless_the_team_is_gone(
    trouble: MeshError, reason: Reason
) -> None:
    clock = FakeClock()
    teams = Teams(clock)  # type: ignore[abstract]
    teams.trouble = trouble
    async with _serving(teams) as channel:
        with pytest.raises(MeshError) as caught:
            await RegistryTokens(channel, clock=clock).bearer(ADA, "iris")
    assert caught.value.reason is reason
