"""The router's figures for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class PrometheusBoard:
    """A `Board`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._revision = Gauge("router_table_revision", "The newest revision that was published", registry=registry)
        self._seconds = Histogram(
            "router_publication_seconds",
            "From a change to its acknowledgement by gateways, in seconds",
            buckets=_BUCKETS_S,
            registry=registry,
        )
        self._late = Counter(
            "router_late_batchers_total", "Batchers that had not taken a table in time", registry=registry
        )
        self._deployer = Gauge("router_deployer_connected", "1 while the deployer's stream is open", registry=registry)

    def published(self, revision: int, seconds: float, late: int) -> None:
        """Counts a publication."""
        self._revision.set(revision)
        self._seconds.observe(seconds)
        self._late.inc(late)

    def deployer(self, *, connected: bool) -> None:
        """Shows whether the deployer's stream is open."""
        self._deployer.set(connected)
