"""Deployments that fail raise alerts: the watch over real gRPC, a played deployer and both alert stores."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from infermesh.deployer.v1 import deployer_service_pb2, deployment_pb2

from services.common.clock import SystemClock
from services.common.database import create_engine, migrate
from services.common.errors import MeshError, Reason
from services.common.grpc.channel import open_channel
from services.monitor.adapters.deployer import Deployer
from services.monitor.adapters.postgres_alerts import PostgresAlertStore
from services.monitor.domain.alerts import SEVERITIES, Alert
from services.monitor.engines.alerts import Alerts
from services.monitor.engines.deployment_watch import DeploymentWatch
from services.monitor.ports import AlertQuery, AlertStore
from tests.support.clock import NOON
from tests.support.monitor_alerts import MemoryAlertStore
from tests.support.monitor_stores import SilentBoard
from tests.support.router_deployments import errors_as_services_send_them
from tests.support.waiting import eventually

Told = tuple[deployment_pb2.Deployment, bool]


def deployment(status: str, *, served: str = "", after_s: int = 0, generation: int = 1) -> deployment_pb2.Deployment:
    message = deployment_pb2.Deployment(
        deployment_id="d-1",
        model_name="digits",
        deployment_name="prod",
        version="v2.0.0",
        served_version=served,
        status=status,
        generation=generation,
        error_message="the trial prediction failed: no input x; register the right schema"
        if status == "failed"
        else "",
        error_reason="TRIAL_FAILED" if status == "failed" else "",
    )
    message.updated_at.FromDatetime(NOON + timedelta(seconds=after_s))
    return message


class PlayedDeployer:
    """A deployer that streams what there is, then what a test says."""

    def __init__(self) -> None:
        self.deployments: dict[tuple[str, str], deployment_pb2.Deployment] = {}
        self._followers: list[asyncio.Queue[Told | None]] = []

    def say(self, message: deployment_pb2.Deployment, *, removed: bool = False) -> None:
        key = (message.model_name, message.deployment_name)
        if removed:
            self.deployments.pop(key, None)
        else:
            self.deployments[key] = message
        for follower in self._followers:
            follower.put_nowait((message, removed))

    def hang_up(self) -> None:
        for follower in self._followers:
            follower.put_nowait(None)

    async def WatchDeployments(
        self, _request: deployer_service_pb2.WatchDeploymentsRequest, _context: object
    ) -> AsyncIterator[deployer_service_pb2.WatchDeploymentsResponse]:
        told: asyncio.Queue[Told | None] = asyncio.Queue()
        self._followers.append(told)
        try:
            for message in list(self.deployments.values()):
                yield deployer_service_pb2.WatchDeploymentsResponse(deployment=message)
            while (said := await told.get()) is not None:
                yield deployer_service_pb2.WatchDeploymentsResponse(deployment=said[0], removed=said[1])
        finally:
            self._followers.remove(told)

    async def GetDeployment(
        self, request: deployer_service_pb2.GetDeploymentRequest, _context: object
    ) -> deployment_pb2.Deployment:
        found = self.deployments.get((request.model_name, request.deployment_name))
        if found is None:
            raise MeshError(Reason.DEPLOYMENT_NOT_FOUND, f"no deployment is called {request.deployment_name!r}")
        return found


def _written(message: Message) -> bytes:
    return message.SerializeToString()


@pytest.fixture(params=["memory", "postgres"])
def url(request: pytest.FixtureRequest) -> str:
    """Where alerts are; "" for memory."""
    return str(request.getfixturevalue("database_url")) if request.param == "postgres" else ""


@pytest.fixture
async def store(url: str) -> AsyncIterator[AlertStore]:
    if not url:
        yield MemoryAlertStore()
        return
    await migrate(url, service="monitor")
    engine = create_engine(url, schema="monitor")
    yield PostgresAlertStore(engine)
    await engine.dispose()


@asynccontextmanager
async def following(played: PlayedDeployer, store: AlertStore) -> AsyncIterator[None]:
    server = grpc.aio.server(interceptors=[errors_as_services_send_them()])
    service = deployer_service_pb2.DESCRIPTOR.services_by_name["DeployerService"].full_name
    handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]] = {
        "WatchDeployments": grpc.unary_stream_rpc_method_handler(
            played.WatchDeployments,
            request_deserializer=deployer_service_pb2.WatchDeploymentsRequest.FromString,
            response_serializer=_written,
        ),
        "GetDeployment": grpc.unary_unary_rpc_method_handler(
            played.GetDeployment,
            request_deserializer=deployer_service_pb2.GetDeploymentRequest.FromString,
            response_serializer=_written,
        ),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, dict(handlers)),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    channel = open_channel(f"127.0.0.1:{port}")
    clock = SystemClock()
    alerts = Alerts(store=store, board=SilentBoard(), clock=clock, retention_days=90)
    watch = asyncio.create_task(
        DeploymentWatch(source=Deployer(channel), alerts=alerts, store=store, clock=clock).run(),
        name="deployment watch",
    )
    try:
        yield
    finally:
        watch.cancel()
        await asyncio.wait([watch])
        await channel.close()
        await server.stop(None)


async def all_alerts(store: AlertStore) -> list[Alert]:
    return list(await store.find(AlertQuery("", "", SEVERITIES), after=None, limit=100))


async def until(store: AlertStore, *expected: tuple[str, str]) -> list[Alert]:
    async def there() -> bool:
        return sorted((alert.severity, alert.status) for alert in await all_alerts(store)) == sorted(expected)

    await eventually(there)
    return await all_alerts(store)


async def test_a_deployment_that_fails_says_which_why_and_what_to_do(store: AlertStore) -> None:
    played = PlayedDeployer()
    played.say(deployment("deploying"))
    async with following(played, store):
        played.say(deployment("failed", after_s=5))
        [alert] = await until(store, ("critical", "firing"))
        assert (alert.rule, alert.model, alert.version) == ("deployment_failed", "digits", "v2.0.0")
        assert alert.summary == (
            "deployment prod of digits v2.0.0 failed; nothing answers: the trial prediction failed: no input x; "
            "register the right schema"
        )
        assert alert.probable_cause == (
            "2026-01-15 12:00:05 UTC: v2.0.0 was to be served (change 1 of the deployment): TRIAL_FAILED"
        )
        assert alert.undo_command == "infermesh restart digits prod"
        # Tried again it is still wrong; what answers is not.
        played.say(deployment("deploying", after_s=6))
        played.say(deployment("failed", after_s=7))
        await until(store, ("critical", "firing"))
        played.say(deployment("active", served="v2.0.0", after_s=8))
        await until(store, ("critical", "resolved"))


async def test_a_version_that_goes_on_answering_makes_it_a_warning(store: AlertStore) -> None:
    played = PlayedDeployer()
    played.say(deployment("failed", served="v1.0.0", generation=2))
    async with following(played, store):
        [alert] = await until(store, ("warning", "firing"))
        assert "; v1.0.0 still answers: " in alert.summary


async def test_what_was_seen_before_is_no_news_and_what_is_gone_ends(store: AlertStore) -> None:
    played = PlayedDeployer()
    played.say(deployment("failed"))
    async with following(played, store):
        [first] = await until(store, ("critical", "firing"))
    await store.acknowledge(first.alert_id, by="ann", note="", now=NOON)
    async with following(played, store):
        played.hang_up()
        played.say(deployment("failed"))
        [again] = await until(store, ("critical", "acknowledged"))
        assert again.alert_id == first.alert_id
    played.say(deployment("failed"), removed=True)
    async with following(played, store):
        await until(store, ("critical", "resolved"))


async def test_a_removed_one_ends_at_once_and_a_new_failure_is_a_new_alert(store: AlertStore) -> None:
    played = PlayedDeployer()
    played.say(deployment("failed"))
    async with following(played, store):
        await until(store, ("critical", "firing"))
        played.say(deployment("failed", after_s=1), removed=True)
        await until(store, ("critical", "resolved"))
        played.say(deployment("failed", after_s=2))
        await until(store, ("critical", "resolved"), ("critical", "firing"))
