"""A limiter as gateways ask it, in front of a real Redis, told its limits by the registry's stream."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from infermesh.registry.v1 import team_pb2, team_service_pb2, team_service_pb2_grpc
from meshxds.envoy.extensions.common.ratelimit.v3 import ratelimit_pb2
from meshxds.envoy.service.ratelimit.v3 import rls_pb2, rls_pb2_grpc
from pydantic import SecretStr

from services.common.clock import SystemClock
from services.limiter.settings import LimiterSettings
from services.limiter.wiring import build
from services.supervisor.parts.valkey import valkey_part
from tests.support.parts import free_port, running
from tests.support.waiting import eventually

OK, OVER = rls_pb2.RateLimitResponse.OK, rls_pb2.RateLimitResponse.OVER_LIMIT
_Wire = team_service_pb2.WatchAccessResponse


@dataclass
class Registry(team_service_pb2_grpc.TeamServiceServicer):
    """Says what a test wants, again whenever that changes."""

    said: _Wire = field(default_factory=_Wire)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def WatchAccess(
        self, request: team_service_pb2.WatchAccessRequest, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> AsyncIterator[_Wire]:
        while True:
            self.changed.clear()
            yield self.said
            await self.changed.wait()

    def say(self, said: _Wire) -> None:
        """Something else from now on."""
        self.said = said
        self.changed.set()


@asynccontextmanager
async def limiter(registry_address: str, redis_port: int) -> AsyncIterator[rls_pb2_grpc.RateLimitServiceStub]:
    """A limiter that runs, as a gateway sees it."""
    settings = LimiterSettings(
        port=0,
        metrics_port=0,
        registry_address=registry_address,
        redis_url=SecretStr(f"redis://127.0.0.1:{redis_port}/0"),
    )
    made = build(settings, clock=SystemClock())
    await made.lifecycle.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{made.server.port}") as channel:
            # The stubs of services are generated without types.
            yield rls_pb2_grpc.RateLimitServiceStub(channel)  # type: ignore[no-untyped-call]
    finally:
        await made.lifecycle.stop()


async def asked(stub: rls_pb2_grpc.RateLimitServiceStub, **callers: str) -> rls_pb2.RateLimitResponse:
    """What becomes of a call by a team, a key or both."""
    descriptor = ratelimit_pb2.RateLimitDescriptor
    descriptors = [descriptor(entries=[descriptor.Entry(key=kind, value=name)]) for kind, name in callers.items()]
    request = rls_pb2.RateLimitRequest(domain="infermesh", descriptors=descriptors)
    answer: rls_pb2.RateLimitResponse = await stub.ShouldRateLimit(request, timeout=10)
    return answer


@pytest.fixture
async def registry() -> AsyncIterator[tuple[Registry, str]]:
    """A registry and its address."""
    served = Registry()  # type: ignore[abstract]
    server = grpc.aio.server()
    team_service_pb2_grpc.add_TeamServiceServicer_to_server(served, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield served, f"127.0.0.1:{port}"
    await server.stop(grace=None)


def said(**limits: tuple[float, float]) -> _Wire:
    teams = [
        team_pb2.Team(name=name, rate_limit=team_pb2.RateLimit(requests_per_sec=rate, burst=burst))
        for name, (rate, burst) in limits.items()
    ]
    key = team_service_pb2.KeyLimit(key_id="k1", rate_limit=team_pb2.RateLimit(requests_per_sec=0.01, burst=1))
    return _Wire(revision="1", teams=teams, key_limits=[key])


async def test_two_limiters_give_out_one_limit_and_changes_hold_at_once(
    registry: tuple[Registry, str], tmp_path: Path
) -> None:
    served, address = registry
    served.say(said(risk=(0.01, 10), free=(0, 0)))
    part = valkey_part(port=free_port(), data_dir=tmp_path, log_path=tmp_path / "redis.log")
    port = part.ports["redis"]
    async with running(part), limiter(address, port) as one, limiter(address, port) as two:

        async def limited(stub: rls_pb2_grpc.RateLimitServiceStub) -> bool:
            return (await asked(stub, key="k1")).statuses[0].HasField("current_limit")

        for stub in (one, two):
            await eventually(lambda stub=stub: limited(stub), what="limits are known")  # type: ignore[misc]
        codes = [(await asked(stub, team="risk")).overall_code for stub in (one, two) * 8]
        assert codes.count(OK) <= 10
        assert codes[-4:] == [OVER] * 4
        refused = (await asked(one, team="risk")).statuses[0]
        assert refused.current_limit.name == "team"
        assert 0 < refused.duration_until_reset.ToSeconds() <= 1000
        assert (await asked(one, team="free")).overall_code == OK, "a rate of 0 is no limit"
        assert (await asked(two, team="unknown")).overall_code == OK
        assert (await asked(two, team="free", key="k1")).overall_code == OVER, "each has to let it through"
        served.say(said(risk=(1000, 1000)))

        async def passes() -> bool:
            return (await asked(two, team="risk")).overall_code == OK

        await eventually(passes, what="the new limit holds")


async def test_without_redis_everybody_is_let_through_at_once(registry: tuple[Registry, str]) -> None:
    served, address = registry
    served.say(said(risk=(0.01, 1)))
    async with limiter(address, free_port()) as stub:
        for _ in range(5):
            assert (await asked(stub, team="risk")).overall_code == OK
