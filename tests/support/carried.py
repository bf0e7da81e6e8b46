"""A gateway that carries a batcher over an engine that echoes, told by a real control plane in the test's process."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from services.common.clock import SystemClock
from services.common.grpc.server import add_grpc_server
from services.common.lifecycle import Lifecycle
from services.common.settings import ServiceSettings, settings_config
from services.router.adapters.envoy.control_plane import EnvoyControlPlane
from services.router.adapters.envoy.options import EnvoyOptions
from services.router.domain.access import Callers
from services.router.domain.routing import RoutingTable
from services.supervisor.parts.envoy import carrying_gateway, gateway_ready
from services.supervisor.ports import free_ports
from services.supervisor.process import Process
from tests.support.batcher_faces_process import FakeMonitor, FakeRouter, batcher_part, full_table, served_model, serving
from tests.support.envoy_gateway import split
from tests.support.waiting import eventually

APPLICATION = "tests.support.batcher_faces_app:app"
"""What the control plane must name for this gateway; tests put it where `services.batcher.app:app` is named."""

NOBODY = "127.0.0.1:1"
"""Where nothing listens."""


class _Settings(ServiceSettings):
    model_config = settings_config("carried_test")
    port: int = 0
    metrics_port: int = 0
    shutdown_grace_s: float = 1.0


@dataclass
class Carrying:
    """A gateway that is ready, and who tells it what."""

    address: str
    monitor: FakeMonitor
    process: Process
    options: EnvoyOptions
    plane: EnvoyControlPlane
    server: Lifecycle
    ads_port: int
    router: FakeRouter
    revision: int = 0

    async def publish(self, shares: Mapping[str, int]) -> None:
        """Splits the traffic of digits so, and waits until the gateway does."""
        self.revision += 1
        await self.plane.publish(RoutingTable(self.revision, {"digits": split("digits", shares)}))

    async def restart_plane(self) -> None:
        """As when a router of another release takes over: it may say the listener otherwise."""
        await self.plane.close()
        await self.server.stop()
        self.plane, self.server, _ = await _serve(self.options, self.ads_port)


@asynccontextmanager
async def carrying(folder: Path, *, callers: Callers | None = None) -> AsyncIterator[Carrying]:
    """Starts one that serves digits in two versions, all traffic to the second. `callers`: it asks for their keys."""
    gateway_port, admin_port, ads_port = free_ports(3)
    options = EnvoyOptions(
        batchers=(),
        registry_address=NOBODY,
        deployer_address=NOBODY,
        router_address=NOBODY,
        batch_address=NOBODY,
        monitor_address=NOBODY,
        gateway_port=gateway_port,
        authentication=callers is not None,
    )
    router, monitor = FakeRouter(full_table(served_model("v1.0.0", "v1.1.0"), revision=7)), FakeMonitor()
    plane, server, _ = await _serve(options, ads_port)
    if callers is not None:
        await plane.admit(callers)
    async with serving(router=router, monitor=monitor) as neighbours:
        part = carrying_gateway(
            batcher_part(folder, router=neighbours, monitor=neighbours, application=APPLICATION),
            gateway_port=gateway_port,
            admin_port=admin_port,
            ads_address=f"127.0.0.1:{ads_port}",
            work_dir=folder / "gateway",
            threads=1,
        )
        process = await Process.start(replace(part, ready=gateway_ready(admin_port, gateway_port)), clock=SystemClock())
        here = Carrying(f"127.0.0.1:{gateway_port}", monitor, process, options, plane, server, ads_port, router)
        try:
            await here.publish({"v1.1.0": 100})
            await process.wait_ready()
            await eventually(lambda: len(router.heard) == 2, what="the batcher acknowledged its table")
            yield here
        finally:
            await process.stop()
            await here.plane.close()
            await here.server.stop()


async def _serve(options: EnvoyOptions, port: int) -> tuple[EnvoyControlPlane, Lifecycle, int]:
    clock = SystemClock()
    plane, lifecycle = EnvoyControlPlane(options), Lifecycle(name="carried-test", clock=clock)
    server = add_grpc_server(lifecycle, _Settings(port=port), services=[plane.service], clock=clock)
    await lifecycle.start()
    return plane, lifecycle, server.port
