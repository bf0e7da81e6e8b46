"""Prometheus metrics: one registry a process, made in `wiring`, and one endpoint that shows it."""

import json
from collections.abc import Iterable
from socketserver import ThreadingMixIn
from threading import Thread
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.exposition import make_wsgi_app
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from services.common.telemetry.pulse import Pulse

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

_POLL_S = 0.05
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
    """`/metrics`, `/health` and `/ready` over HTTP on a port and a thread of its own, so that scraping never competes
    with calls.

    Probes are answered here too because whoever probes, such as a cluster's kubelet, has no certificate of the mesh,
    without which the gRPC port takes no connection. Both say the same: `/ready` is gRPC's health service, a quarter of
    a second late at most.
    """

    def __init__(self, registry: CollectorRegistry, *, host: str, port: int, pulse: Pulse) -> None:
        self._metrics = make_wsgi_app(registry)
        self._pulse = pulse
        self._host = host
        self._port = port
        self._server: WSGIServer | None = None
        self._thread: Thread | None = None

    @property
    def port(self) -> int:
        """The port in use; the free one that was picked where 0 was asked for."""
        return int(self._server.server_port) if self._server is not None else self._port

    async def start(self) -> None:
        """Binds and serves. Raises SystemExit with one sentence where the port is taken."""
        try:
            self._server = make_server(self._host, self._port, self._answer, _Server, _QuietHandler)
        except OSError as error:
            raise SystemExit(
                f"cannot serve metrics on {self._host}:{self._port}: {error.strerror}; "
                "stop its owner or set another metrics port"
            ) from None
        self._thread = Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": _POLL_S}, name="metrics", daemon=True
        )
        self._thread.start()

    async def stop(self) -> None:
        """Closes the port."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join(timeout=2)

    def _answer(self, environ: "WSGIEnvironment", respond: "StartResponse") -> Iterable[bytes]:
        match environ.get("PATH_INFO"):
            case "/health":
                hangs = self._pulse.hangs
                return _said(respond, ok=not hangs, body={"status": "hanging" if hangs else "ok"})
            case "/ready":
                unready = ["the loop, which does not answer"] if self._pulse.hangs else list(self._pulse.unready)
                body = {"status": "unready", "waiting_for": unready} if unready else {"status": "ready"}
                return _said(respond, ok=not unready, body=body)
            case _:
                exposed: Iterable[bytes] = self._metrics(environ, respond)
                return exposed


def _said(respond: "StartResponse", *, ok: bool, body: object) -> Iterable[bytes]:
    text = json.dumps(body).encode()
    headers = [("content-type", "application/json"), ("content-length", str(len(text)))]
    respond("200 OK" if ok else "503 Service Unavailable", headers)
    return [text]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _QuietHandler(WSGIRequestHandler):
    timeout = 5

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """A scrape is no event."""
