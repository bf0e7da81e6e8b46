"""What probes without a certificate are told, over a real socket: the same as gRPC's health service says."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from services.common.clock import Clock, SystemClock
from services.common.grpc.server import add_grpc_server
from services.common.grpc.tls import PeerTls
from services.common.lifecycle import Lifecycle
from services.common.settings import ServiceSettings, settings_config
from services.common.telemetry.metrics import MetricsEndpoint, new_registry
from services.common.telemetry.pulse import HANGS_AFTER_S, Pulse
from services.supervisor.parts.probes import grpc_ready
from services.supervisor.ports import free_ports
from tests.support.certificates import certificates
from tests.support.clock import FakeClock
from tests.support.waiting import eventually


class Settings(ServiceSettings):
    model_config = settings_config("probes_test")
    port: int = 0
    metrics_port: int = 0
    shutdown_grace_s: float = 2.0


@asynccontextmanager
async def endpoint(pulse: Pulse) -> AsyncIterator[httpx.AsyncClient]:
    """Asks an endpoint over this pulse."""
    served = MetricsEndpoint(new_registry(), host="127.0.0.1", port=0, pulse=pulse)
    await served.start()
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{served.port}") as client:
            yield client
    finally:
        await served.stop()


async def test_ready_names_what_is_not() -> None:
    pulse = Pulse(FakeClock())
    async with endpoint(pulse) as client:
        starting = await client.get("/ready")
        assert (starting.status_code, starting.json()) == (503, {"status": "unready", "waiting_for": ["starting"]})
        pulse.beat(["the database", "what is ready is known"])
        waiting = await client.get("/ready")
        assert waiting.json()["waiting_for"] == ["the database", "what is ready is known"]
        assert (await client.get("/health")).status_code == 200
        pulse.beat([])
        ready = await client.get("/ready")
        assert (ready.status_code, ready.json()) == (200, {"status": "ready"})
        assert b"process_cpu_seconds_total" in (await client.get("/metrics")).content


async def test_a_loop_that_hangs_is_neither_ready_nor_healthy_until_it_goes_on() -> None:
    clock = FakeClock()
    pulse = Pulse(clock)
    async with endpoint(pulse) as client:
        pulse.beat([])
        clock.advance(HANGS_AFTER_S)
        assert (await client.get("/health")).status_code == 200
        clock.advance(0.5)
        hanging = await client.get("/health")
        assert (hanging.status_code, hanging.json()) == (503, {"status": "hanging"})
        assert (await client.get("/ready")).status_code == 503
        pulse.beat([])
        assert (await client.get("/health")).status_code == 200
        assert (await client.get("/ready")).status_code == 200


async def test_a_service_behind_certificates_tells_probes_what_it_tells_its_own(tmp_path: Path) -> None:
    folder = certificates(tmp_path, "service", authority=tmp_path / "ca")
    own = PeerTls(certificates(tmp_path, "caller", authority=tmp_path / "ca"))
    (metrics_port,) = free_ports(1)
    clock: Clock = SystemClock()
    lifecycle = Lifecycle(name="test", clock=clock)
    database = threading.Event()
    lifecycle.on_health("the database", database.is_set)
    server = add_grpc_server(
        lifecycle, Settings(metrics_port=metrics_port, tls_dir=str(folder)), services=[], clock=clock
    )
    await lifecycle.start()
    try:
        serving = grpc_ready("127.0.0.1", server.port, tls=own)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{metrics_port}") as probe:

            async def said() -> tuple[int, bool]:
                return (await probe.get("/ready")).status_code, await serving()

            assert await said() == (503, False)
            assert (await probe.get("/health")).status_code == 200
            database.set()

            async def both() -> bool:
                return await said() == (200, True)

            await eventually(both)
            stopping = asyncio.create_task(lifecycle.stop())

            async def left() -> bool:
                try:
                    return (await probe.get("/ready")).status_code == 503
                except httpx.TransportError:
                    return True

            await eventually(left)
            await stopping
    finally:
        await lifecycle.stop()
