"""The deployer's figures for Prometheus."""

from prometheus_client import CollectorRegistry, Histogram

_BUCKETS_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0)


class PrometheusBoard:
    """A `Board`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = Histogram(
            "deployer_bring_up_seconds",
            "From the first step of bringing a version up to its first answer, in seconds, waits for others included",
            buckets=_BUCKETS_S,
            registry=registry,
        )

    def brought_up(self, seconds: float) -> None:
        """Counts a version that answers."""
        self._seconds.observe(seconds)
