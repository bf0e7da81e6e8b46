"""A real server and a real channel: deadlines, errors with their details, identity, health, reflection, drain."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from infermesh.deployer.v1 import backend_service_pb2, backend_service_pb2_grpc

from services.common.clock import SystemClock
from services.common.errors import FieldViolation, MeshError, Reason
from services.common.grpc.channel import open_channel
from services.common.grpc.identity import Identity, current_identity
from services.common.grpc.server import GrpcServer, add_grpc_server
from services.common.lifecycle import Lifecycle
from services.common.settings import ServiceSettings, settings_config
from tests.support.waiting import eventually

NAME = "infermesh.deployer.v1.BackendService"
METHOD = f"/{NAME}/WatchBackends"


class Settings(ServiceSettings):
    model_config = settings_config("test")
    port: int = 0
    metrics_port: int = 0
    shutdown_grace_s: float = 2.0


class Servicer(backend_service_pb2_grpc.BackendServiceServicer):
    """Streams one response made by `behaviour`."""

    def __init__(self, behaviour: Callable[[], Awaitable[int]]) -> None:
        self._behaviour = behaviour

    async def WatchBackends(
        self, request: backend_service_pb2.WatchBackendsRequest, context: Any
    ) -> AsyncIterator[backend_service_pb2.WatchBackendsResponse]:
        yield backend_service_pb2.WatchBackendsResponse(revision=await self._behaviour())


@asynccontextmanager
async def serving(behaviour: Callable[[], Awaitable[int]]) -> AsyncIterator[tuple[GrpcServer, Lifecycle]]:
    clock = SystemClock()
    lifecycle = Lifecycle(name="test", clock=clock)
    servicer = Servicer(behaviour)
    server = add_grpc_server(
        lifecycle,
        Settings(),
        services=[(lambda s: backend_service_pb2_grpc.add_BackendServiceServicer_to_server(servicer, s), NAME)],
        clock=clock,
    )
    await lifecycle.start()
    try:
        yield server, lifecycle
    finally:
        await lifecycle.stop()


async def call(server: GrpcServer, metadata: tuple[tuple[str, str], ...] = ()) -> int:
    async with open_channel(f"127.0.0.1:{server.port}") as channel:
        stub = backend_service_pb2_grpc.BackendServiceStub(channel)
        request = backend_service_pb2.WatchBackendsRequest(watcher_id="test")
        revisions = [answer.revision async for answer in stub.WatchBackends(request, metadata=metadata, timeout=5)]
    return revisions[0]


async def test_an_answer_comes_back() -> None:
    async def behaviour() -> int:
        return 7

    async with serving(behaviour) as (server, _):
        assert await call(server) == 7


async def test_an_error_keeps_its_meaning_over_the_hop() -> None:
    async def behaviour() -> int:
        raise MeshError(
            Reason.QUEUE_FULL,
            "the queue is full",
            metadata={"rows_max": "10"},
            violations=[FieldViolation("rows", "too many")],
            retry_after_s=2.0,
        )

    async with serving(behaviour) as (server, _):
        with pytest.raises(MeshError) as caught:
            await call(server)
    assert caught.value.reason is Reason.QUEUE_FULL
    assert caught.value.metadata == {"rows_max": "10"}
    assert caught.value.violations == (FieldViolation("rows", "too many"),)
    assert caught.value.retry_after_s == 2.0


@pytest.mark.logs_errors
async def test_an_unforeseen_failure_leaves_only_its_id(caplog: pytest.LogCaptureFixture) -> None:
    async def behaviour() -> int:
        raise RuntimeError("secret connection string")

    async with serving(behaviour) as (server, _):
        with pytest.raises(MeshError) as caught:
            await call(server)
    assert caught.value.reason is Reason.INTERNAL
    assert "secret" not in str(caught.value)
    [record] = [record for record in caplog.records if record.getMessage() == "unforeseen failure"]
    assert record.__dict__["fields"]["error_id"] == caught.value.metadata["error_id"]


async def test_the_caller_is_known_inside() -> None:
    seen: list[Identity] = []

    async def behaviour() -> int:
        seen.append(current_identity())
        return 1

    async with serving(behaviour) as (server, _):
        await call(server, (("x-infermesh-team", "risk"), ("x-infermesh-user", "ann"), ("x-request-id", "r1")))
    assert seen == [Identity(user="ann", team="risk", request_id="r1")]


async def test_a_dead_service_is_unavailable_with_its_address() -> None:
    async with open_channel("127.0.0.1:1") as channel:
        stub = backend_service_pb2_grpc.BackendServiceStub(channel)
        with pytest.raises(MeshError, match=r"127\.0\.0\.1:1 does not answer") as caught:
            await anext(aiter(stub.WatchBackends(backend_service_pb2.WatchBackendsRequest(), timeout=2)))
    assert caught.value.reason is Reason.DEPENDENCY_UNAVAILABLE


async def test_health_follows_the_lifecycle() -> None:
    ready = False

    async def behaviour() -> int:
        return 1

    async def status(server: GrpcServer) -> int:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            check = channel.unary_unary(
                "/grpc.health.v1.Health/Check",
                request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
                response_deserializer=health_pb2.HealthCheckResponse.FromString,
            )
            answer = await check(health_pb2.HealthCheckRequest(service=NAME), timeout=2)
        return int(answer.status)

    async with serving(behaviour) as (server, lifecycle):
        lifecycle.on_health("store", lambda: ready)
        await eventually(lambda: _equals(status(server), health_pb2.HealthCheckResponse.NOT_SERVING))
        ready = True
        await eventually(lambda: _equals(status(server), health_pb2.HealthCheckResponse.SERVING))


async def _equals(value: Awaitable[int], wanted: int) -> bool:
    return await value == wanted


async def test_a_stop_lets_calls_in_flight_finish() -> None:
    entered, release = asyncio.Event(), asyncio.Event()

    async def behaviour() -> int:
        entered.set()
        await release.wait()
        return 3

    async with serving(behaviour) as (server, lifecycle):
        in_flight = asyncio.create_task(call(server))
        await entered.wait()
        stopping = asyncio.create_task(lifecycle.stop())
        await eventually(lambda: lifecycle.unready() != [])
        release.set()
        assert await in_flight == 3
        await stopping


async def test_bytes_that_are_no_message_are_refused_without_a_word_of_the_inside() -> None:
    async def behaviour() -> int:
        return 7

    async with serving(behaviour) as (server, _), open_channel(f"127.0.0.1:{server.port}") as channel:
        calls: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(METHOD)
        with pytest.raises(MeshError) as caught:
            [answer async for answer in calls(b"\xff\xff", timeout=5)]
    assert caught.value.reason is Reason.MALFORMED_BODY
    assert "Decode" not in str(caught.value)


async def test_a_stream_that_outlasts_its_callers_deadline_is_ended_in_words() -> None:
    async def behaviour() -> int:
        await asyncio.Event().wait()
        return 7

    async with serving(behaviour) as (server, _), open_channel(f"127.0.0.1:{server.port}") as channel:
        stub = backend_service_pb2_grpc.BackendServiceStub(channel)
        with pytest.raises(MeshError) as caught:
            [one async for one in stub.WatchBackends(backend_service_pb2.WatchBackendsRequest(), timeout=0.5)]
    assert caught.value.reason is Reason.DEADLINE_TOO_SHORT
