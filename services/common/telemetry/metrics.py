"""Prometheus metrics: one registry a process, made in `wiring`, and one endpoint that shows it."""

from http.server import ThreadingHTTPServer
from threading import Thread

from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

_LATENCY_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


def new_registry() -> CollectorRegistry:
    """A registry with the process's own memory, CPU and garbage-collector figures."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


class RpcMetrics:
    """Counts and times of every RPC that a server answered. Labels are bounded by the methods that exist."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.handled = Counter(
            "grpc_server_handled_total", "RPCs answered, by method and code", ("method", "code"), registry=registry
        )
        self.seconds = Histogram(
            "grpc_server_handling_seconds",
            "How long RPCs took, in seconds",
            ("method",),
            buckets=_LATENCY_BUCKETS_S,
            registry=registry,
        )


class MetricsEndpoint:
    """`/metrics` over HTTP on a port of its own, so that scraping never competes with calls."""

    def __init__(self, registry: CollectorRegistry, *, host: str, port: int) -> None:
        self._registry = registry
        self._host = host
        self._port = port
        self._server: ThreadingHTTPServer | None = None
        self._thread: Thread | None = None

    @property
    def port(self) -> int:
        """The port in use; the free one that was picked where 0 was asked for."""
        return int(self._server.server_address[1]) if self._server is not None else self._port

    async def start(self) -> None:
        """Binds and serves. Raises OSError where the port is taken."""
        server, thread = start_http_server(self._port, self._host, self._registry)
        self._server, self._thread = server, thread  # type: ignore[assignment]

    async def stop(self) -> None:
        """Closes the port."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join(timeout=2)
