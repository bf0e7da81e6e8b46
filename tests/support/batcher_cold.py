"""Deployers that load cold versions as told, in memory and over gRPC, and the serving tables of such versions."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import grpc
from infermesh.deployer.v1 import activation_service_pb2 as pb
from infermesh.deployer.v1 import activation_service_pb2_grpc

from services.batcher.domain.serving import Backend, ServedModel, ServedVersion, ServingTable
from services.common.clock import SystemClock
from services.common.errors import MeshError
from services.common.grpc.server import Service, add_grpc_server
from services.common.lifecycle import Lifecycle
from services.common.settings import ServiceSettings
from tests.support.batcher_engine_fakes import served


class FakeActivator:
    """An `Activator`. It takes `load_s`, then says `outcome`: ready, or that error."""

    def __init__(self, *, load_s: float = 0.3, outcome: Exception | None = None) -> None:
        self.load_s = load_s
        self.outcome = outcome
        self.calls: list[tuple[float, str]] = []
        """When it was asked, and for which version."""
        self.under_way: list[str] = []
        self.given_up = 0
        self.loaded: Callable[[str], None] = lambda _: None
        """Told each version that it has loaded, before it answers."""

    async def activate(self, _model_name: str, version: str) -> None:
        """As the deployer does."""
        self.calls.append((asyncio.get_running_loop().time(), version))
        assert version not in self.under_way, "asked twice at once"
        self.under_way.append(version)
        try:
            await asyncio.sleep(self.load_s)
        except asyncio.CancelledError:
            self.given_up += 1
            raise
        finally:
            self.under_way.remove(version)
        if self.outcome is not None:
            raise self.outcome
        self.loaded(version)


def cold(version: str = "v1.0.0") -> ServedVersion:
    """A version of the model "m" that is not loaded."""
    return replace(served(version=version), backends=(), cold=True)


def warm(*backends: Backend, version: str = "v1.0.0") -> ServedVersion:
    """The same, loaded."""
    return served(*backends, version=version)


def table(*versions: ServedVersion) -> ServingTable:
    """A serving table with these."""
    return ServingTable(1, {"m": ServedModel("m", "v1.0.0", {one.version: one for one in versions})})


class ScriptedDeployer(activation_service_pb2_grpc.ActivationServiceServicer):
    """The deployer's service, which says as told and notes what it heard."""

    def __init__(self) -> None:
        self.activations: list[tuple[str, str]] = []
        self.outcome: MeshError | None = None
        self.load: Callable[[], Awaitable[None]] = _at_once
        """Awaited before an activation is answered."""
        self.given_up = 0
        self.reports: list[pb.ReportDemandRequest] = []

    async def ActivateVersion(self, request: pb.ActivateVersionRequest, context: object) -> pb.ActivateVersionResponse:
        """Loads a version."""
        self.activations.append((request.model_name, request.version))
        try:
            await self.load()
        except asyncio.CancelledError:
            self.given_up += 1
            raise
        if self.outcome is not None:
            raise self.outcome
        return pb.ActivateVersionResponse(revision=1)

    async def ReportDemand(self, request: pb.ReportDemandRequest, context: object) -> pb.ReportDemandResponse:
        """Takes a report."""
        if self.outcome is not None:
            raise self.outcome
        self.reports.append(request)
        return pb.ReportDemandResponse()


async def _at_once() -> None:
    """Nothing takes any time."""


class _Settings(ServiceSettings):
    port: int = 0
    metrics_port: int = 0
    shutdown_grace_s: float = 0.2


@asynccontextmanager
async def deploying(deployer: ScriptedDeployer, *, port: int = 0) -> AsyncIterator[str]:
    """The address at which it serves, as services of the mesh do."""
    clock = SystemClock()
    lifecycle = Lifecycle(name="deployer", clock=clock, stop_timeout_s=2)

    def add(server: grpc.aio.Server) -> None:
        activation_service_pb2_grpc.add_ActivationServiceServicer_to_server(deployer, server)

    services: list[Service] = [(add, "infermesh.deployer.v1.ActivationService")]
    made = add_grpc_server(lifecycle, _Settings(port=port), services=services, clock=clock)
    await lifecycle.start()
    try:
        yield f"127.0.0.1:{made.port}"
    finally:
        await lifecycle.stop()
