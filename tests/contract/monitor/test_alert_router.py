"""What alerts ask of the router and the registry, played over real gRPC."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from infermesh.registry.v1 import change_pb2, registry_service_pb2
from infermesh.router.v1 import canary_pb2, router_service_pb2, traffic_pb2

from services.common.errors import MeshError, Reason
from services.common.grpc.channel import open_channel
from services.monitor.adapters.alert_router import LastChanges, RouterCanaries
from tests.contract.monitor.test_alert_couriers import ALERT
from tests.support.clock import NOON
from tests.support.router_deployments import errors_as_services_send_them


class PlayedRouter:
    """A router with one canary, and changes of traffic."""

    def __init__(self) -> None:
        self.canary: canary_pb2.Canary | None = canary_pb2.Canary(
            version="v2.0.0", baseline_version="v1.0.0", status="running", etag="7"
        )
        self.canary.created_at.FromDatetime(NOON)
        self.calls: list[tuple[str, str, str]] = []
        self.changes: list[traffic_pb2.TrafficChange] = []
        """The newest first."""
        self.lost = False
        """Whether answers to what changes something are lost."""

    async def GetCanary(self, request: router_service_pb2.GetCanaryRequest, _context: object) -> canary_pb2.Canary:
        if self.canary is None:
            raise MeshError(Reason.TRAFFIC_RULE_NOT_FOUND, f"model {request.model_name!r} never had a canary")
        return self.canary

    async def PauseCanary(self, request: router_service_pb2.PauseCanaryRequest, _context: object) -> canary_pb2.Canary:
        return self._changed("pause", "paused", request.etag, request.reason)

    async def AbortCanary(self, request: router_service_pb2.AbortCanaryRequest, _context: object) -> canary_pb2.Canary:
        return self._changed("abort", "aborted", request.etag, request.reason)

    async def ListTrafficChanges(
        self, request: router_service_pb2.ListTrafficChangesRequest, _context: object
    ) -> router_service_pb2.ListTrafficChangesResponse:
        return router_service_pb2.ListTrafficChangesResponse(changes=self.changes[: request.page_size])

    def _changed(self, call: str, status: str, etag: str, reason: str) -> canary_pb2.Canary:
        assert self.canary is not None
        if etag != self.canary.etag:
            raise MeshError(Reason.ETAG_MISMATCH, "the canary has moved on")
        self.calls.append((call, etag, reason))
        self.canary.status, self.canary.status_reason = status, f"{status} by the mesh: {reason}"
        if self.lost:
            raise MeshError(Reason.DEPENDENCY_UNAVAILABLE, "the answer was lost")
        return self.canary


class PlayedRegistry:
    """A registry with one change."""

    def __init__(self) -> None:
        self.change: change_pb2.Change | None = None

    async def ListChanges(
        self, request: registry_service_pb2.ListChangesRequest, _context: object
    ) -> registry_service_pb2.ListChangesResponse:
        assert (request.resource_type, request.resource_name) == ("model", "digits")
        return registry_service_pb2.ListChangesResponse(changes=[self.change] if self.change else [])


def _handler(call: Callable[..., object], request: type[Message]) -> "grpc.RpcMethodHandler[Any, Any]":
    return grpc.unary_unary_rpc_method_handler(
        call, request_deserializer=request.FromString, response_serializer=lambda answer: answer.SerializeToString()
    )


def _add(server: grpc.aio.Server, service: str, handlers: "Mapping[str, grpc.RpcMethodHandler[Any, Any]]") -> None:
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, dict(handlers)),))


@asynccontextmanager
async def playing(router: PlayedRouter, registry: PlayedRegistry) -> AsyncIterator[grpc.aio.Channel]:
    server = grpc.aio.server(interceptors=[errors_as_services_send_them()])
    pb = router_service_pb2
    _add(
        server,
        pb.DESCRIPTOR.services_by_name["RouterService"].full_name,
        {
            "GetCanary": _handler(router.GetCanary, pb.GetCanaryRequest),
            "PauseCanary": _handler(router.PauseCanary, pb.PauseCanaryRequest),
            "AbortCanary": _handler(router.AbortCanary, pb.AbortCanaryRequest),
            "ListTrafficChanges": _handler(router.ListTrafficChanges, pb.ListTrafficChangesRequest),
        },
    )
    _add(
        server,
        registry_service_pb2.DESCRIPTOR.services_by_name["RegistryService"].full_name,
        {"ListChanges": _handler(registry.ListChanges, registry_service_pb2.ListChangesRequest)},
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    channel = open_channel(f"127.0.0.1:{port}")
    try:
        yield channel
    finally:
        await channel.close()
        await server.stop(None)


@pytest.mark.parametrize(
    ("action", "call", "said"), [("hold", "pause", "put on hold"), ("rollback", "abort", "rolled back")]
)
async def test_a_canary_is_stopped_once_also_where_an_answer_is_lost(action: str, call: str, said: str) -> None:
    router = PlayedRouter()
    async with playing(router, PlayedRegistry()) as channel:
        canaries = RouterCanaries(channel)
        router.lost = True
        with pytest.raises(MeshError, match="answer was lost"):
            await canaries.act(ALERT, action)
        assert await canaries.act(ALERT, action) == f"the canary of digits v2.0.0 was {said}"
    assert router.calls == [(call, "7", f"alert a1: {ALERT.summary}")]


async def test_what_cannot_be_done_is_said() -> None:
    router = PlayedRouter()
    async with playing(router, PlayedRegistry()) as channel:
        canaries = RouterCanaries(channel)
        assert router.canary is not None
        earlier = replace(ALERT, fired_at=NOON - timedelta(seconds=1))
        assert "began after the alert fired" in await canaries.act(earlier, "rollback")
        router.canary.status = "promoted"
        assert await canaries.act(ALERT, "rollback") == "there was no canary of digits in progress to roll back"
        router.canary.status = "paused"
        assert await canaries.act(ALERT, "hold") == "the canary of digits v2.0.0 was on hold already"
        router.canary = None
        assert await canaries.act(ALERT, "hold") == "there was no canary of digits to hold"
    assert router.calls == []


async def test_the_last_change_is_the_newest_of_traffic_and_registry_with_what_undoes_it() -> None:
    router, registry = PlayedRouter(), PlayedRegistry()
    async with playing(router, registry) as channel:
        changes = LastChanges(router=channel, registry=channel)
        assert await changes.last("digits") is None
        change = traffic_pb2.TrafficChange(
            model_name="digits",
            action="update",
            actor="kim",
            reason="new",
            before={"v1.0.0": 100},
            after={"v2.0.0": 100},
        )
        change.time.FromDatetime(NOON)
        router.changes = [change]
        found = await changes.last("digits")
        assert found is not None
        assert found.words == (
            "2026-01-15 12:00:00 UTC: traffic went from v1.0.0 100 % to v2.0.0 100 % (update), by kim: new"
        )
        assert found.undo == "infermesh traffic undo digits"
        change.action = "canary"
        found = await changes.last("digits")
        assert found is not None
        assert found.undo == "infermesh canary abort digits"
        assert router.canary is not None
        router.canary.status = "promoted"
        found = await changes.last("digits")
        assert found is not None
        assert found.undo == "infermesh traffic undo digits"
        registry.change = change_pb2.Change(action="updated", actor="lee")
        registry.change.time.FromDatetime(NOON + timedelta(minutes=1))
        found = await changes.last("digits")
        assert found is not None
        assert (found.words, found.undo) == ("2026-01-15 12:01:00 UTC: the model was updated, by lee", "")


async def test_a_change_that_changed_nothing_caused_nothing() -> None:
    router = PlayedRouter()
    shares = {"v1.0.0": 60, "v2.0.0": 40}
    same = traffic_pb2.TrafficChange(model_name="digits", action="update", before=shares, after=shares)
    same.time.FromDatetime(NOON + timedelta(minutes=5))
    router.changes = [same]
    async with playing(router, PlayedRegistry()) as channel:
        changes = LastChanges(router=channel, registry=channel)
        assert await changes.last("digits") is None
        before = {"v1.0.0": 90, "v2.0.0": 10}
        moved = traffic_pb2.TrafficChange(model_name="digits", action="update", before=before, after=shares)
        moved.time.FromDatetime(NOON)
        router.changes = [same, same, moved]
        found = await changes.last("digits")
        assert found is not None
        assert "from v1.0.0 90 %, v2.0.0 10 % to v1.0.0 60 %, v2.0.0 40 %" in found.words
        assert found.undo == "infermesh traffic set digits v1.0.0=90 v2.0.0=10", "the newest is another"
        same.changes.append("the version is chosen by sticky instead of random")
        router.changes = [same, moved]
        found = await changes.last("digits")
        assert found is not None
        assert "of the traffic, the version is chosen by sticky instead of random (update)" in found.words
        assert found.undo == "infermesh traffic undo digits"
