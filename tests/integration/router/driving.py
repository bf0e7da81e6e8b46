"""A real router over a real PostgreSQL, between a deployer and batchers that tests play."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from infermesh.common.v1 import serving_pb2
from infermesh.deployer.v1 import backend_service_pb2, backend_service_pb2_grpc
from infermesh.router.v1 import router_service_pb2, router_service_pb2_grpc, serving_table_pb2, serving_table_pb2_grpc

from services.common.clock import SystemClock
from services.common.errors import MeshError
from services.common.grpc.channel import open_channel
from services.common.lifecycle import Lifecycle
from services.router.convert import serving_to_proto
from services.router.domain.merge import ServingModel
from services.router.settings import RouterSettings
from services.router.wiring import assemble
from tests.support.parts import free_port
from tests.support.router_deployments import FakeDeployments, add_deployments, errors_as_services_send_them
from tests.support.router_fakes import FakeDeployer, FakeGateways
from tests.support.waiting import eventually

_Context = grpc.aio.ServicerContext[Any, Any]
Watch = serving_table_pb2.WatchServingTableRequest


class DeployerServicer(backend_service_pb2_grpc.BackendServiceServicer):
    """What the deployer streams, out of a `FakeDeployer`."""

    def __init__(self, deployer: FakeDeployer) -> None:
        self._deployer = deployer

    async def WatchBackends(
        self, request: backend_service_pb2.WatchBackendsRequest, _context: _Context
    ) -> AsyncIterator[backend_service_pb2.WatchBackendsResponse]:
        """All there is, then changes."""
        assert request.watcher_id == "router-0"
        async for update in self._deployer.watch():
            models = [serving_to_proto(ServingModel(model, "")) for model in update.models]
            yield backend_service_pb2.WatchBackendsResponse(
                revision=update.revision, full=update.full, models=models, removed_models=update.removed
            )


class PlayedDeployer:
    """A deployer on a port of its own, which tests may stop and start."""

    def __init__(self) -> None:
        self.state = FakeDeployer()
        self.deployments = FakeDeployments()
        self.port = free_port()
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """It answers."""
        self._server = grpc.aio.server(interceptors=(errors_as_services_send_them(),))
        add_deployments(self.deployments, self._server)
        backend_service_pb2_grpc.add_BackendServiceServicer_to_server(DeployerServicer(self.state), self._server)
        self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()

    async def stop(self) -> None:
        """It is gone, and its streams with it."""
        if self._server is not None:
            await self._server.stop(grace=None)
            self._server = None


@dataclass
class Router:
    """A running router."""

    port: int
    gateways: FakeGateways
    channel: grpc.aio.Channel
    api: "router_service_pb2_grpc.RouterServiceAsyncStub"


@dataclass
class Surroundings:
    """What a router needs, and outlives it."""

    database_url: str
    deployer: PlayedDeployer
    batcher_port: int = field(default_factory=free_port)
    others_port: int = field(default_factory=free_port)

    @asynccontextmanager
    async def router(self) -> AsyncIterator[Router]:
        """A router, ready."""
        settings = RouterSettings.model_validate(
            {
                "port": free_port(),
                "metrics_port": 0,
                "database_url": self.database_url,
                "deployer_address": f"127.0.0.1:{self.deployer.port}",
                "registry_address": f"127.0.0.1:{self.others_port}",
                "batch_address": f"127.0.0.1:{self.others_port}",
                "monitor_address": f"127.0.0.1:{self.others_port}",
                "batcher_address": f"127.0.0.1:{self.batcher_port}",
                "first_batcher_s": 0.05,
                "ready_patience_s": 0.2,
                "rules_period_s": 1.0,
                "authentication": False,
            }
        )
        clock, gateways = SystemClock(), FakeGateways()
        lifecycle = Lifecycle(name="router", clock=clock)
        router = assemble(settings, clock=clock, lifecycle=lifecycle, gateways=gateways)
        await lifecycle.start()
        try:
            async with open_channel(f"127.0.0.1:{router.server.port}") as channel:
                await eventually(lambda: not lifecycle.unready(), what="the router is ready")
                api: Any = router_service_pb2_grpc.RouterServiceStub(channel)
                yield Router(router.server.port, gateways, channel, api)
        finally:
            await lifecycle.stop()


class PlayedBatcher:
    """A batcher that takes what it is sent, unless `silent`."""

    def __init__(self, channel: grpc.aio.Channel, name: str = "batcher-0") -> None:
        stub: Any = serving_table_pb2_grpc.ServingTableServiceStub(channel)
        self._requests: asyncio.Queue[Watch | None] = asyncio.Queue()
        """None: the end, without which what sends would wait for good once the stream is gone."""
        self._requests.put_nowait(Watch(batcher_id=name, address=f"{name}:1"))
        self._call = stub.WatchServingTable(self._sent())
        self.silent = False
        self.steps: list[serving_table_pb2.WatchServingTableResponse] = []
        self.models: dict[str, list[str]] = {}
        self.defaults: dict[str, str] = {}
        self.served: dict[str, serving_pb2.ServedModel] = {}
        self.task = asyncio.create_task(self._run())

    @property
    def revision(self) -> int:
        """Of the newest table that it was sent."""
        return self.steps[-1].revision if self.steps else 0

    async def leave(self) -> None:
        """It goes."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def _sent(self) -> AsyncIterator[Watch]:
        while (request := await self._requests.get()) is not None:
            yield request

    async def _run(self) -> None:
        try:
            await self._take_steps()
        finally:
            self._requests.put_nowait(None)

    async def _take_steps(self) -> None:
        async for step in self._call:
            self.steps.append(step)
            if step.full:
                self.models, self.defaults = {}, {}
            for model in step.models:
                self.models[model.model_name] = [version.version for version in model.versions]
                self.defaults[model.model_name] = model.default_version
                self.served[model.model_name] = model
            for name in step.removed_models:
                del self.models[name]
            if not self.silent:
                await self._requests.put(Watch(acknowledged_revision=step.revision))


async def served(router: Router, versions: list[str], *, model: str = "digits") -> None:
    """Returns once gateways route to these versions of the model."""

    def there() -> bool:
        routes = router.gateways.table.models.get(model)
        return routes is not None and list(routes.versions) == versions

    await eventually(there, what=f"gateways route to {versions}")


def move(split: dict[str, int], **more: Any) -> router_service_pb2.UpdateTrafficRequest:
    """A change of the traffic of digits."""
    return router_service_pb2.UpdateTrafficRequest(model_name="digits", traffic_split=split, **more)


async def refusal(call: Any) -> MeshError:
    """What the call is refused with."""
    with pytest.raises(MeshError) as raised:
        await call
    return raised.value
