"""What the monitor shows to Prometheus: what only aggregates and hosts know, under the contract's names, and how the
log itself does.
"""

from collections.abc import Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from services.monitor.adapters.prometheus_gpus import gpu_families
from services.monitor.adapters.prometheus_teams import PrometheusTeamBoard
from services.monitor.domain.alerts import SEVERITIES
from services.monitor.domain.gpus import GpuUse
from services.monitor.domain.team_tallies import TeamTally
from services.monitor.domain.usage_cost import PriceTable
from services.monitor.ports import LiveFigure, ModelUse

_FLUSH_BUCKETS_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 15.0)
_VERSION = ("model", "version")
_PLACE = ("model", "version", "deployment", "pod")


class PrometheusBoard(Collector):
    """A `Board`. Scrapes come on another thread: what they read is replaced whole, never changed."""

    def __init__(self, registry: CollectorRegistry, *, host: str) -> None:
        self._host = host
        self._live: tuple[LiveFigure, ...] = ()
        self._models: tuple[ModelUse, ...] = ()
        self._gpus: tuple[GpuUse, ...] = ()
        self._deployments: dict[tuple[str, str], str] = {}
        self._dropped: dict[str, int] = {}
        self._firing: Mapping[str, int] = {}
        self._team_board = PrometheusTeamBoard(registry)
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
        self._unkept = Counter(
            "monitor_log_unkept_total",
            "Requests that were to be logged one by one and found no room; they are counted all the same",
            registry=registry,
        )
        self._flushes = Histogram(
            "monitor_flush_seconds",
            "How long storing a batch of the log took, in seconds",
            ("result",),
            buckets=_FLUSH_BUCKETS_S,
            registry=registry,
        )
        self._told = Counter(
            "monitor_notifications_total", "Tries to tell somebody of an alert", ("means", "outcome"), registry=registry
        )
        self._letters = Gauge(
            "monitor_notifications_waiting", "Notifications that are not sent and not given up", registry=registry
        )
        registry.register(self)

    def told(self, means: str, outcome: str) -> None:
        """Counts a try to tell somebody."""
        self._told.labels(means, outcome).inc()

    def letters_waiting(self, count: int) -> None:
        """Replaces how many notifications wait."""
        self._letters.set(count)

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

    def teams(self, tallies: Sequence[TeamTally]) -> None:
        """Counts what teams asked."""
        self._team_board.teams(tallies)

    def prices(self, table: PriceTable) -> None:
        """Replaces the prices."""
        self._team_board.prices(table)

    def unkept(self, rows: int) -> None:
        """Counts what was not kept."""
        self._unkept.inc(rows)

    def live(self, figures: Sequence[LiveFigure]) -> None:
        """Replaces the gauges, and learns which deployment serves what."""
        self._live = tuple(figures)
        served = {(use.model, use.version) for use in self._models}
        known = {version: name for version, name in self._deployments.items() if version in served}
        self._deployments = {**known, **{(figure.model, figure.version): figure.deployment for figure in figures}}

    def models(self, uses: Sequence[ModelUse]) -> None:
        """Replaces what models use."""
        self._models = tuple(uses)

    def gpus(self, uses: Sequence[GpuUse]) -> None:
        """Replaces what GPUs do."""
        self._gpus = tuple(uses)

    def alerts(self, firing: Mapping[str, int]) -> None:
        """Replaces how many alerts fire."""
        self._firing = dict(firing)

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        """The gauges and counters of this moment."""
        yield from self._collect_live()
        yield from self._collect_models()
        yield from gpu_families(self._gpus, host=self._host)
        dropped = CounterMetricFamily(
            "monitor_log_dropped", "Requests that a batcher dropped from its log since its start", labels=("batcher",)
        )
        for batcher_id, count in self._dropped.items():
            dropped.add_metric((batcher_id,), count)
        yield dropped
        alerts = GaugeMetricFamily(
            "monitor_alerts_firing", "Alerts that fire and that nobody looks after yet", labels=("severity",)
        )
        for severity in SEVERITIES:
            alerts.add_metric((severity,), self._firing.get(severity, 0))
        yield alerts

    def _collect_live(self) -> Iterator[GaugeMetricFamily]:
        throughput = GaugeMetricFamily(
            "model_throughput_per_sec",
            "Callers' requests per second over the last one to two minutes",
            labels=(*_VERSION, "deployment"),
        )
        p95 = GaugeMetricFamily(
            "model_latency_p95_ms",
            "95th percentile of the latency of successful requests in ms, over the last one to two minutes",
            labels=(*_VERSION, "deployment"),
        )
        for figure in self._live:
            labels = (figure.model, figure.version, figure.deployment)
            throughput.add_metric(labels, figure.throughput_per_sec)
            p95.add_metric(labels, figure.latency_p95_ms)
        yield from (throughput, p95)

    def _collect_models(self) -> Iterator[GaugeMetricFamily]:
        cpu = GaugeMetricFamily("model_cpu_usage", "CPU in use by a version on this host, in cores", labels=_PLACE)
        memory = GaugeMetricFamily(
            "model_memory_usage_bytes", "Resident memory of a version's processes on this host", labels=_PLACE
        )
        # Of versions on no GPU there is no sample: 0 would claim an idle one.
        gpu = GaugeMetricFamily(
            "model_gpu_utilization", "Share of the time in which a version's GPUs computed, in percent", labels=_PLACE
        )
        for use in self._models:
            labels = (use.model, use.version, self._deployments.get((use.model, use.version), ""), self._host)
            cpu.add_metric(labels, use.cpu_cores)
            memory.add_metric(labels, use.memory_bytes)
            if use.gpu_utilization is not None:
                gpu.add_metric(labels, use.gpu_utilization)
        yield from (cpu, memory, gpu)
