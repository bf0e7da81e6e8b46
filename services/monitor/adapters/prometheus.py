"""What the monitor shows to Prometheus: SPEC's names for what only aggregates know, and how the log itself does."""

from collections.abc import Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, UnknownMetricFamily
from prometheus_client.registry import Collector

from services.monitor.domain.records import bounded_classes
from services.monitor.ports import LiveFigure

_FLUSH_BUCKETS_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 15.0)
_SERIES_MAX = 20_000
"""Class counters kept; beyond, new ones are not shown. PostgreSQL has them all."""


class PrometheusBoard(Collector):
    """A `Board`. Scrapes come on another thread: what they read is replaced whole, never changed."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._live: tuple[LiveFigure, ...] = ()
        self._dropped: dict[str, int] = {}
        self._by_class: dict[tuple[str, str, str], int] = {}
        self._chunks = Counter(
            "monitor_log_chunks_total",
            "Chunks of the prediction log, by what became of them",
            ("result",),
            registry=registry,
        )
        self._requests = Counter(
            "monitor_log_requests_total",
            "Requests in the prediction log, by what became of their chunk",
            ("result",),
            registry=registry,
        )
        self._flushes = Histogram(
            "monitor_flush_seconds",
            "How long storing a batch of the log took, in seconds",
            ("result",),
            buckets=_FLUSH_BUCKETS_S,
            registry=registry,
        )
        registry.register(self)

    def chunk(self, result: str, requests: int) -> None:
        """Counts a chunk."""
        self._chunks.labels(result).inc()
        self._requests.labels(result).inc(requests)

    def flushed(self, result: str, seconds: float) -> None:
        """Counts a flush."""
        self._flushes.labels(result).observe(seconds)

    def dropped(self, batcher_id: str, dropped_total: int) -> None:
        """Remembers what a batcher said."""
        if self._dropped.get(batcher_id) != dropped_total:
            self._dropped = {**self._dropped, batcher_id: dropped_total}

    def classes(self, model: str, version: str, by_class: Mapping[str, int]) -> None:
        """Adds predictions."""
        counts = self._by_class
        for name, count in bounded_classes(by_class).items():
            key = (model, version, name)
            if key in counts or len(counts) < _SERIES_MAX:
                counts[key] = counts.get(key, 0) + count

    def live(self, figures: Sequence[LiveFigure]) -> None:
        """Replaces the gauges."""
        self._live = tuple(figures)

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily | UnknownMetricFamily]:
        """The gauges and counters of this moment."""
        labels = ("model", "version")
        throughput = GaugeMetricFamily(
            "model_throughput_per_sec", "Callers' requests per second over the last one to two minutes", labels=labels
        )
        p95 = GaugeMetricFamily(
            "model_latency_p95_ms",
            "95th percentile of the latency of successful requests in ms, over the last one to two minutes",
            labels=labels,
        )
        for figure in self._live:
            throughput.add_metric((figure.model, figure.version), figure.throughput_per_sec)
            p95.add_metric((figure.model, figure.version), figure.latency_p95_ms)
        # Untyped, because a counter would be printed as …_total and the name is given.
        by_class = UnknownMetricFamily(
            "model_predictions_by_class",
            "Predictions by class since the monitor's start",
            labels=("model", "version", "class"),
        )
        for key, count in self._by_class.copy().items():
            by_class.add_metric(key, count)
        dropped = CounterMetricFamily(
            "monitor_log_dropped", "Requests that a batcher dropped from its log since its start", labels=("batcher",)
        )
        for batcher_id, count in self._dropped.items():
            dropped.add_metric((batcher_id,), count)
        yield from (throughput, p95, by_class, dropped)
