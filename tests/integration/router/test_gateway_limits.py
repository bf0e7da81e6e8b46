"""How fast teams and keys may call, at a real gateway, and at two that count together through a limiter over Redis."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from infermesh.prediction.v1 import prediction_pb2, prediction_service_pb2_grpc
from infermesh.registry.v1 import team_pb2, team_service_pb2
from meshxds.envoy.service.ratelimit.v3 import rls_pb2_grpc

from services.common.clock import SystemClock
from services.common.grpc.server import add_grpc_server
from services.common.lifecycle import Lifecycle
from services.limiter.adapters.redis_buckets import RedisBuckets
from services.limiter.adapters.registry import limits_of
from services.limiter.engines.limits import Limiter
from services.limiter.servicer import SERVICE, RateLimitServicer
from services.limiter.settings import LimiterSettings
from services.supervisor.parts.valkey import valkey_part
from tests.support.envoy_gateway import running_gateway, split
from tests.support.gateway_keys import bearer
from tests.support.guarded_gateway import GuardedGateway
from tests.support.parts import free_port, running
from tests.support.waiting import until

PREDICT = "/v1/models/digits/predict"
SLOW = 0.01
"""Requests a second: nothing comes back while a test runs."""


def said(*, keys: dict[str, tuple[float, float]] | None = None, **teams: tuple[float, float]) -> bytes:
    """What the registry says of these limits: requests a second and burst."""
    message = team_service_pb2.WatchAccessResponse(revision="1")
    for name, (rate, burst) in teams.items():
        message.teams.add(name=name, rate_limit=team_pb2.RateLimit(requests_per_sec=rate, burst=burst))
    for key_id, (rate, burst) in (keys or {}).items():
        message.key_limits.add(key_id=key_id, rate_limit=team_pb2.RateLimit(requests_per_sec=rate, burst=burst))
    return message.SerializeToString()


def limit(gateway: GuardedGateway, stated: bytes) -> None:
    """Makes these the limits, and waits until Envoy knows."""
    assert gateway.callers is not None
    gateway.callers = replace(gateway.callers, stated=stated)
    gateway.do(gateway.plane.admit(gateway.callers))
    until(lambda: not gateway.do(gateway.plane.admitted()), within_s=30, what="the gateway knows the limits")


def rest(gateway: GuardedGateway, key: str, team: str, *, path: str = PREDICT) -> Any:
    return gateway.rest("POST", path, json={}, headers=bearer(gateway.signer.key(key, team=team)))


@contextmanager
def guarded(folder: Path, **options: Any) -> Iterator[GuardedGateway]:
    """A gateway that asks for keys, with options."""
    with running_gateway(folder, publish=[split("digits", {"v1.0.0": 100})], kind=_kind(options)) as gateway:
        assert isinstance(gateway, GuardedGateway)
        yield gateway


def _kind(options: dict[str, Any]) -> type[GuardedGateway]:
    class Optioned(GuardedGateway):
        def __init__(self, folder: Path, loop: asyncio.AbstractEventLoop) -> None:
            super().__init__(folder, loop)
            self.options = options

    return Optioned


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedGateway]:
    with guarded(tmp_path_factory.mktemp("gateway")) as made:
        yield made


def test_a_team_is_held_to_its_limit_and_others_are_not(gateway: GuardedGateway) -> None:
    limit(gateway, said(risk=(SLOW, 3), vision=(0, 0)))
    statuses = [rest(gateway, f"k{number}", "risk").status_code for number in range(6)]
    assert statuses == [200, 200, 200, 429, 429, 429], "whatever key of the team it is"
    assert [rest(gateway, "other", "vision").status_code for _ in range(6)] == [200] * 6
    refused = rest(gateway, "k1", "risk")
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.headers["x-ratelimit-remaining"] == "0"
    body = refused.json()
    assert body["code"] == 8
    assert "team calls faster" in body["message"]
    assert body["details"] == [
        {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "QUOTA_EXCEEDED",
            "domain": "infermesh",
            "metadata": {"limit": "team.rate_limit"},
        }
    ]


def test_a_key_with_a_limit_of_its_own_is_held_to_it(gateway: GuardedGateway) -> None:
    limit(gateway, said(keys={"slow": (SLOW, 2)}, risk=(1000, 1000)))
    assert [rest(gateway, "slow", "risk").status_code for _ in range(4)] == [200, 200, 429, 429]
    assert [rest(gateway, "quick", "risk").status_code for _ in range(4)] == [200] * 4
    assert rest(gateway, "slow", "risk").json()["details"][0]["metadata"] == {"limit": "api_key.rate_limit"}


def test_over_grpc_it_is_resource_exhausted_with_details(gateway: GuardedGateway) -> None:
    limit(gateway, said(typed=(SLOW, 1)))
    metadata = tuple(bearer(gateway.signer.key("k1", team="typed")).items())
    with gateway.channel() as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        stub.Predict(prediction_pb2.PredictRequest(model_name="digits"), metadata=metadata, timeout=30)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Predict(prediction_pb2.PredictRequest(model_name="digits"), metadata=metadata, timeout=30)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    # A refusal is an answer without a body: its trailers are all there is of it.
    trailers = {item[0]: item[1] for item in cast("grpc.Call", caught.value).trailing_metadata() or ()}
    assert trailers["retry-after"] == "1"
    status = status_pb2.Status.FromString(cast("bytes", trailers["grpc-status-details-bin"]))
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (info.reason, info.metadata["limit"]) == ("QUOTA_EXCEEDED", "team.rate_limit")


def test_a_revocation_fills_no_bucket(gateway: GuardedGateway) -> None:
    limit(gateway, said(kept=(SLOW, 2)))
    assert [rest(gateway, "k1", "kept").status_code for _ in range(3)] == [200, 200, 429]
    gateway.revoke("another")
    assert rest(gateway, "k1", "kept").status_code == 429


def test_a_limit_that_is_raised_or_taken_away_holds_at_once(gateway: GuardedGateway) -> None:
    limit(gateway, said(risk=(SLOW, 1)))
    assert [rest(gateway, "k1", "risk").status_code for _ in range(2)] == [200, 429]
    limit(gateway, said(risk=(1000, 1000)))
    assert rest(gateway, "k1", "risk").status_code == 200
    limit(gateway, said())
    assert [rest(gateway, "k1", "risk").status_code for _ in range(5)] == [200] * 5


@asynccontextmanager
async def limiter(stated: bytes, redis_port: int) -> AsyncIterator[int]:
    """A limiter that knows these limits; its port."""
    settings = LimiterSettings(port=0, metrics_port=0)
    lifecycle = Lifecycle(name="limiter", clock=SystemClock())
    store = RedisBuckets(f"redis://127.0.0.1:{redis_port}/0", clock=SystemClock(), timeout_s=5)
    judging = Limiter(store)
    judging.limits = limits_of(team_service_pb2.WatchAccessResponse.FromString(stated))
    servicer = RateLimitServicer(judging)

    def add(server: grpc.aio.Server) -> None:
        # The stubs of services are generated without types.
        rls_pb2_grpc.add_RateLimitServiceServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]

    server = add_grpc_server(lifecycle, settings, services=[(add, SERVICE)], clock=SystemClock())
    await lifecycle.start()
    yield server.port
    await lifecycle.stop()
    await store.close()


@pytest.fixture
async def counted(tmp_path: Path) -> AsyncIterator[tuple[bytes, int]]:
    """Limits, and the port of a limiter that knows them."""
    stated = said(risk=(SLOW, 6), keys={"slow": (SLOW, 2)})
    part = valkey_part(port=free_port(), data_dir=tmp_path / "redis", log_path=tmp_path / "redis.log")
    async with running(part), limiter(stated, part.ports["redis"]) as port:
        yield stated, port


@pytest.mark.parametrize("path", [PREDICT, "/v1/models"])
async def test_two_gateways_give_out_one_limit(counted: tuple[bytes, int], tmp_path: Path, path: str) -> None:
    stated, port = counted
    options = {"limiter": f"127.0.0.1:{port}"}

    def driven() -> tuple[Counter[int], Counter[int], dict[str, Any], int]:
        with guarded(tmp_path / "one", **options) as one, guarded(tmp_path / "two", **options) as two:
            for each in (one, two):
                limit(each, stated)
            # Each of the two alone would let 6 of a team and 2 of a key through.
            teams = Counter(rest(each, "k", "risk", path=path).status_code for each in (one, two) * 8)
            keys = Counter(rest(each, "slow", "free", path=path).status_code for each in (one, two) * 4)
            refused = rest(one, "k", "risk", path=path)
            free = rest(two, "k", "free", path=path).status_code
            return teams, keys, refused.json(), free

    teams, keys, refused, free = await asyncio.to_thread(driven)
    assert teams == {200: 6, 429: 10}
    assert keys == {200: 2, 429: 6}
    assert free == 200
    assert refused["details"][0]["reason"] == "QUOTA_EXCEEDED", json.dumps(refused)


async def test_without_its_limiter_a_gateway_lets_callers_through_up_to_its_own_buckets(tmp_path: Path) -> None:
    def driven() -> list[int]:
        with guarded(tmp_path / "one", limiter=f"127.0.0.1:{free_port()}") as one:
            limit(one, said(risk=(SLOW, 4)))
            return [rest(one, "k", "risk").status_code for _ in range(6)]

    assert await asyncio.to_thread(driven) == [200, 200, 200, 200, 429, 429]
