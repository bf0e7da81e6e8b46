"""Follows a registry that answers, goes away, comes back and forgets; over real gRPC."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import grpc
import pytest
from infermesh.registry.v1 import (
    model_pb2,
    registry_service_pb2,
    registry_service_pb2_grpc,
    team_pb2,
    team_service_pb2,
    team_service_pb2_grpc,
)

from services.common.access.book import AccessBook
from services.common.access.decide import Standing
from services.common.access.follower import AccessFollower, RegistryAccessSource
from services.common.access.key_use import KeyUse, report_to_registry
from services.common.access.owners import RegistryOwners
from services.common.access.parts import new_access
from services.common.clock import SystemClock
from services.common.errors import MeshError, Reason
from services.common.grpc.channel import open_channel
from services.common.grpc.identity import Identity, act_as
from services.common.grpc.interceptors import Context, MeshInterceptor
from services.common.lifecycle import Lifecycle
from services.common.telemetry.metrics import RpcMetrics, new_registry
from services.common.telemetry.tracing import Tracing
from tests.support.clock import FakeClock
from tests.support.parts import free_port
from tests.support.waiting import eventually

ADA = Identity(user="ada", team="red", role="viewer")


class Registry(team_service_pb2_grpc.TeamServiceServicer, registry_service_pb2_grpc.RegistryServiceServicer):
    """A registry on a port of its own, which tests may stop and start; it says what `said` holds, and then `more`."""

    def __init__(self) -> None:
        self.port = free_port()
        self.said = team_service_pb2.WatchAccessResponse(revision="1", models_reset=True)
        self.more: asyncio.Queue[team_service_pb2.WatchAccessResponse] = asyncio.Queue()
        self.used: list[team_service_pb2.ReportKeyUseRequest] = []
        self.roles: list[str] = []
        self.trouble: MeshError | None = None
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        interceptor = MeshInterceptor(
            clock=SystemClock(),
            metrics=RpcMetrics(new_registry()),
            tracing=Tracing(service="test", instance="test-0", otlp_endpoint=""),
        )
        self._server = grpc.aio.server(interceptors=(interceptor,))
        team_service_pb2_grpc.add_TeamServiceServicer_to_server(self, self._server)
        registry_service_pb2_grpc.add_RegistryServiceServicer_to_server(self, self._server)
        self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(grace=None)
            self._server = None

    async def WatchAccess(
        self, _request: team_service_pb2.WatchAccessRequest, _context: Context
    ) -> AsyncIterator[team_service_pb2.WatchAccessResponse]:
        yield self.said
        while True:
            yield await self.more.get()

    async def ReportKeyUse(
        self, request: team_service_pb2.ReportKeyUseRequest, _context: Context
    ) -> team_service_pb2.ReportKeyUseResponse:
        if self.trouble is not None:
            raise self.trouble
        self.used.append(request)
        return team_service_pb2.ReportKeyUseResponse()

    async def GetModel(self, request: registry_service_pb2.GetModelRequest, context: Context) -> model_pb2.Model:
        self.roles.append(str(dict(context.invocation_metadata() or ()).get("x-infermesh-role", "")))
        if self.trouble is not None:
            raise self.trouble
        if request.model_name != "fresh":
            raise MeshError(Reason.MODEL_NOT_FOUND, f"no model {request.model_name!r}")
        return model_pb2.Model(name="fresh", team="red", shared_with=["blue"])


def models(**owners: str) -> list[team_service_pb2.ModelAccess]:
    return [team_service_pb2.ModelAccess(model_name=name, team=team) for name, team in owners.items()]


@asynccontextmanager
async def registry() -> AsyncIterator[Registry]:
    made = Registry()  # type: ignore[abstract]  # only what is called
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


@asynccontextmanager
async def following(at: Registry, path: Path | None = None) -> AsyncIterator[AccessBook]:
    book, channel = AccessBook(), open_channel(f"127.0.0.1:{at.port}")
    source = RegistryAccessSource(channel, watcher_id="test")
    follower = AccessFollower(source=source, book=book, clock=SystemClock(), path=path)
    await follower.load()
    tasks = [asyncio.create_task(run(), name="follower") for run in (follower.run, follower.save)]
    try:
        yield book
    finally:
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await channel.close()


async def test_what_the_registry_says_is_known_and_so_is_each_change() -> None:
    async with registry() as at:
        team = team_pb2.Team(name="red", require_signature=True)
        team.resource_quota.cpu, team.resource_quota.batch_concurrency = "4", 2
        at.said.teams.append(team)
        at.said.models.extend(models(iris="red", digits="blue"))
        async with following(at) as book:
            await eventually(lambda: book.known, what="the first word")
            terms = book.terms("red")
            assert (terms.cpu, terms.gpu, terms.batch_concurrency, terms.require_signature) == ("4", None, 2, True)
            assert book.sight(ADA).names == {"iris"}
            change = team_service_pb2.WatchAccessResponse(revision="2", removed_models=["iris"], revoked_key_ids=["k"])
            change.models.extend(models(digits="red"))
            at.more.put_nowait(change)
            await eventually(lambda: book.revision == "2", what="the change")
            assert book.sight(ADA).names == {"digits"}
            assert book.revoked("k")


async def test_a_registry_that_is_away_takes_nothing_away_and_is_heard_when_it_is_back() -> None:
    async with registry() as at:
        at.said.models.extend(models(iris="red"))
        async with following(at) as book:
            await eventually(lambda: book.known, what="the first word")
            await at.stop()
            assert book.sight(ADA).names == {"iris"}
            at.said = team_service_pb2.WatchAccessResponse(revision="9", models_reset=True, models=models(digits="red"))
            await at.start()
            await eventually(lambda: book.revision == "9", what="it is heard again")
            assert book.sight(ADA).names == {"digits"}


async def test_who_starts_while_the_registry_is_dead_goes_on_by_what_was_kept(tmp_path: Path) -> None:
    path = tmp_path / "kept" / "access.pb"
    async with registry() as at:
        at.said.models.extend(models(iris="red"))
        at.said.teams.append(team_pb2.Team(name="red"))
        at.said.teams[0].resource_quota.gpu = 0
        async with following(at, path) as book:
            await eventually(path.exists, what="it is kept")
        await at.stop()
        async with following(at, path) as book:
            assert book.known
            assert book.sight(ADA).names == {"iris"}
            assert book.terms("red").gpu == 0


async def test_what_cannot_be_read_is_asked_for_anew(tmp_path: Path) -> None:
    path = tmp_path / "access.pb"
    path.write_bytes(b"\xff\xff torn")
    async with registry() as at:
        at.said.models.extend(models(iris="red"))
        async with following(at, path) as book:
            await eventually(lambda: book.known, what="the first word")
            assert book.sight(ADA).names == {"iris"}


async def test_the_registry_is_asked_in_the_callers_name() -> None:
    async with registry() as at, open_channel(f"127.0.0.1:{at.port}") as channel:
        owners = RegistryOwners(channel)
        assert await owners.standing("fresh", ADA) == Standing("red", frozenset({"blue"}))
        assert await owners.standing("absent", ADA) is None
        assert at.roles == ["viewer", "viewer"]
        for trouble in (MeshError(Reason.INTERNAL, "it broke"), MeshError(Reason.NOT_IMPLEMENTED, "later")):
            at.trouble = trouble
            with pytest.raises(MeshError) as caught:
                await owners.standing("fresh", ADA)
            assert caught.value.reason is Reason.DEPENDENCY_UNAVAILABLE
            assert "fresh" not in caught.value.message


async def test_a_registry_that_is_back_is_asked_though_the_channel_has_not_found_it_yet() -> None:
    async with registry() as at, open_channel(f"127.0.0.1:{at.port}") as channel:
        await at.stop()

        def lost() -> bool:
            return channel.get_state(try_to_connect=True) is grpc.ChannelConnectivity.TRANSIENT_FAILURE

        await eventually(lost, what="the channel waits before it looks again")
        await at.start()
        assert await RegistryOwners(channel).standing("fresh", ADA) == Standing("red", frozenset({"blue"}))


async def test_keys_are_reported_once_a_minute_and_at_the_end_and_what_fails_is_given_up() -> None:
    clock = FakeClock()
    async with registry() as at, open_channel(f"127.0.0.1:{at.port}") as channel:
        act_as(ADA)  # the service reports for itself, whoever calls
        keys = KeyUse(report_to_registry(channel), clock=clock)
        task = asyncio.create_task(keys.run(), name="keys")
        for name in ("a", "b", "a"):
            keys.note(name)
            clock.advance(1)
        await asyncio.sleep(0)
        clock.advance(60)
        await eventually(lambda: at.used, what="the report")
        assert sorted(use.key_id for use in at.used[0].uses) == ["a", "b"]
        at.trouble = MeshError(Reason.DEPENDENCY_UNAVAILABLE, "away")
        keys.note("c")
        await keys.flush()
        at.trouble = None
        keys.note("d")
        await keys.flush()
        assert [use.key_id for use in at.used[1].uses] == ["d"]
        await keys.flush()
        assert len(at.used) == 2
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_a_service_hears_the_registry_and_reports_its_keys_as_it_stops(tmp_path: Path) -> None:
    async with registry() as at:
        at.said.models.extend(models(iris="red"))
        lifecycle, channel = Lifecycle(name="test", clock=SystemClock()), open_channel(f"127.0.0.1:{at.port}")
        lifecycle.add("channel", stop=channel.close)
        access = new_access(
            lifecycle, registry=channel, watcher_id="test", path=tmp_path / "access.pb", clock=SystemClock()
        )
        await lifecycle.start()
        await eventually(lambda: access.book.known, what="the first word")
        access.guard.admit(
            "/infermesh.deployer.v1.DeployerService/GetDeployment", Identity(team="red", role="viewer", key_id="k1")
        )
        await lifecycle.stop()
        assert [use.key_id for report in at.used for use in report.uses] == ["k1"]
