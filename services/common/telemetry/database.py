"""What a service's database does, for Prometheus: its connections, how long statements take, how many fail.

The pool is small and waits are bounded, so a slow database shows here first: all connections are in use, then callers
are told that it does not answer. No statement has a label of its own: their texts are many, and say little at night.
"""

from collections.abc import Iterator
from time import perf_counter

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import Connection, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import QueuePool

_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 15.0)
_BEGAN = "infermesh_began_s"


class DatabaseMetrics(Collector):
    """Watches one engine for as long as the process lives. A statement costs it two microseconds."""

    def __init__(self, registry: CollectorRegistry, engine: AsyncEngine) -> None:
        self._pool = engine.sync_engine.pool
        self._seconds = Histogram(
            "database_statement_seconds",
            "How long statements of this process took at the database, in seconds",
            buckets=_BUCKETS_S,
            registry=registry,
        )
        self._failures = Counter(
            "database_failures_total",
            "Statements that failed and connections that were not made, those that are tried again too",
            registry=registry,
        )
        event.listen(engine.sync_engine, "before_cursor_execute", self._begun)
        event.listen(engine.sync_engine, "after_cursor_execute", self._ended)
        event.listen(engine.sync_engine, "handle_error", self._failed)
        registry.register(self)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The connections of this moment. Scrapes come on another thread; what they read are plain numbers."""
        connections = GaugeMetricFamily(
            "database_connections", "Connections to the database, by what they are at", labels=("state",)
        )
        most = GaugeMetricFamily("database_connections_max", "The most connections that this process may have")
        if isinstance(self._pool, QueuePool):
            connections.add_metric(("in_use",), self._pool.checkedout())
            connections.add_metric(("idle",), self._pool.checkedin())
            most.add_metric((), self._pool.size())
        yield from (connections, most)

    def _begun(self, connection: Connection, *_: object) -> None:
        connection.info[_BEGAN] = perf_counter()

    def _ended(self, connection: Connection, *_: object) -> None:
        began_s = connection.info.pop(_BEGAN, None)
        if began_s is not None:
            self._seconds.observe(perf_counter() - began_s)

    def _failed(self, _context: ExceptionContext) -> None:
        self._failures.inc()
