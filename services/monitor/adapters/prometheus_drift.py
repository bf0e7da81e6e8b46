"""What drifts, for Prometheus: features by model, version and severity, never by name."""

from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from services.monitor.ports_drift import Severities


class PrometheusDriftBoard(Collector):
    """A `DriftBoard`. Scrapes come on another thread: what they read is replaced whole, never changed."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._found: tuple[Severities, ...] = ()
        registry.register(self)

    def drift(self, found: Sequence[Severities]) -> None:
        """Replaces the gauges."""
        self._found = tuple(found)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The gauges of this moment."""
        family = GaugeMetricFamily(
            "model_drift_features",
            "Features and outputs by how far they drift, in the newest report of the last three hours",
            labels=("model", "version", "severity"),
        )
        for one in self._found:
            for severity, count in one.counts.items():
                family.add_metric((one.model, one.version, severity), count)
        yield family
