"""One function that gives a process its gRPC server: health, reflection, interceptor, probes, metrics, drain."""

import asyncio
from collections.abc import Callable, Sequence

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection
from prometheus_client import CollectorRegistry

from services.common.access.guard import Guard
from services.common.clock import Clock
from services.common.grpc.interceptors import MeshInterceptor
from services.common.grpc.tls import peer_tls
from services.common.lifecycle import Lifecycle
from services.common.settings import ServiceSettings
from services.common.telemetry.logging import get_logger
from services.common.telemetry.metrics import MetricsEndpoint, RpcMetrics, new_registry
from services.common.telemetry.pulse import Pulse
from services.common.telemetry.tracing import Tracing

log = get_logger(__name__)

MESSAGE_MAX_BYTES = 12 * 1024 * 1024
"""10 MB requests are part of the contract; the rest is room for framing."""
SENT_MAX_BYTES = 64 * 1024 * 1024
"""Above what anybody is sent: answers are bounded where they are made, and clients bound what they take. The routes of
models with many conditions are the largest."""
_HEALTH_PERIOD_S = 0.25
_OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_MAX_BYTES),
    ("grpc.max_send_message_length", SENT_MAX_BYTES),
    ("grpc.max_concurrent_streams", 1000),
    # A port that is taken is an error to say, not to share.
    ("grpc.so_reuseport", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
)

Service = tuple[Callable[[grpc.aio.Server], None], str]
"""How to add a servicer to a server, and the full name of its service."""


class GrpcServer:
    """A server as a part of a lifecycle. `port` is real once started, also where settings asked for a free one."""

    def __init__(
        self,
        *,
        lifecycle: Lifecycle,
        settings: ServiceSettings,
        services: Sequence[Service],
        clock: Clock,
        registry: CollectorRegistry,
        tracing: Tracing,
        reflected: Sequence[str],
        pulse: Pulse,
        guard: Guard | None = None,
        health: HealthServicer | None = None,
    ) -> None:
        self._lifecycle = lifecycle
        self._pulse = pulse
        self._settings = settings
        self._tls = peer_tls(settings)
        interceptor = MeshInterceptor(clock=clock, metrics=RpcMetrics(registry), tracing=tracing, guard=guard)
        self._server = grpc.aio.server(interceptors=(interceptor,), options=_OPTIONS)
        self._health = health or HealthServicer()
        self._names = ["", *(name for _, name in services)]
        for add, _ in services:
            add(self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        own = [name for _, name in services]
        reflection.enable_server_reflection(
            [*dict.fromkeys([*own, *reflected]), "grpc.health.v1.Health", reflection.SERVICE_NAME], self._server
        )
        self.port = settings.port

    async def start(self) -> None:
        """Binds and serves, not yet healthy. Raises SystemExit with one sentence where the port is taken."""
        address = f"{self._settings.host}:{self._settings.port}"
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        try:
            if self._tls is None:
                self.port = self._server.add_insecure_port(address)
            else:
                self.port = self._server.add_secure_port(address, self._tls.for_servers())
        except RuntimeError:
            raise SystemExit(
                f"cannot listen on {address}: the port is taken; stop its owner or set another port"
            ) from None
        await self._server.start()
        log.info("listening", address=f"{self._settings.host}:{self.port}")

    async def stop(self) -> None:
        """Tells watchers, takes no new calls, lets those in flight finish within the grace period."""
        self._pulse.beat(["stopping"])
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace=self._settings.shutdown_grace_s / 2)

    async def report_health(self) -> None:
        """Keeps the health service and the pulse equal to the lifecycle's readiness."""
        shown: list[str] | None = None
        while True:
            unready = self._lifecycle.unready()
            self._pulse.beat(unready)
            if unready != shown:
                serving = health_pb2.HealthCheckResponse.SERVING
                await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING if unready else serving)
                log.info("health", serving=not unready, unready=unready)
                shown = unready
            await asyncio.sleep(_HEALTH_PERIOD_S)

    async def _set_health(self, status: int) -> None:
        for name in self._names:
            await self._health.set(name, status)


def add_grpc_server(
    lifecycle: Lifecycle,
    settings: ServiceSettings,
    *,
    services: Sequence[Service],
    clock: Clock,
    registry: CollectorRegistry | None = None,
    tracing: Tracing | None = None,
    reflected: Sequence[str] = (),
    health: HealthServicer | None = None,
    guard: Guard | None = None,
) -> GrpcServer:
    """Adds a gRPC server and the metrics endpoint to `lifecycle`; call it last, so that it stops first.

    `registry` holds the process's own metrics (a new one by default); `reflected` names further services whose
    descriptors are loaded and which reflection should list; `health` replaces the usual health service. Callers are
    always held to the role and scope that the table of rules asks for; `guard` also knows which models they see.
    Without it the service's own engines look after models, as the registry's do.
    """
    registry = registry if registry is not None else new_registry()
    name = type(settings).model_config.get("env_prefix", "INFERMESH_").removeprefix("INFERMESH_").strip("_").lower()
    tracing = tracing or Tracing(
        service=name, instance=settings.instance or f"{name}-0", otlp_endpoint=settings.otlp_endpoint
    )
    pulse = Pulse(clock)
    endpoint = MetricsEndpoint(registry, host=settings.host, port=settings.metrics_port, pulse=pulse)
    server = GrpcServer(
        lifecycle=lifecycle,
        settings=settings,
        services=services,
        clock=clock,
        registry=registry,
        tracing=tracing,
        reflected=reflected,
        pulse=pulse,
        guard=guard,
        health=health,
    )
    lifecycle.add("traces", stop=tracing.stop)
    lifecycle.add("metrics endpoint", start=endpoint.start, stop=endpoint.stop)
    lifecycle.add("grpc server", start=server.start, stop=server.stop, stop_timeout_s=settings.shutdown_grace_s)
    lifecycle.add_task("health", server.report_health)
    return server
