"""What Prometheus reads of requests, rendered out of the counts of all versions."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    UnknownMetricFamily,
)
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from services.batcher.domain.outputs import OutputPlan
from services.batcher.telemetry.buckets import LATENCY_BOUNDS_MS, cumulative, percentile_ms
from services.batcher.telemetry.labels import OTHERS, LabelSets
from services.batcher.telemetry.version_stats import TracedLatency, VersionStats
from services.batcher.telemetry.window import Window
from services.common.clock import Clock

_LABELS = ("model", "version")
Labelled = tuple[VersionStats, OutputPlan | None]


class BatcherCollector(Collector):
    """The families of requests, and those of `others`. Only versions that got requests have samples.

    Large families come in several pieces one after another: `exposition` joins them.

    `timed` False: times were not measured, so their families are left out rather than shown as zeros. `settle` has
    counted whatever was only noted so far.
    """

    def __init__(
        self,
        *,
        stats: Callable[[], Iterable[Labelled]],
        active: Callable[[], int],
        labels: LabelSets,
        clock: Clock,
        timed: bool = True,
        settle: Callable[[], None] = lambda: None,
        others: Sequence[Callable[[], Iterable[Metric]]] = (),
    ) -> None:
        self._stats = stats
        self._active = active
        self._labels = labels
        self._clock = clock
        self._timed = timed
        self._settle = settle
        self._others = others
        self._began_s = clock.monotonic()
        self._windows: dict[tuple[str, str], Window] = {}

    def collect(self) -> Iterator[Metric]:
        """Every family, as of now."""
        self._settle()
        labelled = list(self._labelled())
        yield from _counts(labelled)
        yield from _confidences(labelled)
        if self._timed:
            yield from _times(labelled)
        yield from self._lately(labelled)
        yield GaugeMetricFamily("model_active_requests", "Requests being worked on.", value=self._active())
        for other in self._others:
            yield from other()

    def _labelled(self) -> Iterator[Labelled]:
        rest = VersionStats(*OTHERS)
        for stats, outputs in self._stats():
            if not stats.requests:
                continue
            # Requests for models that nobody serves have no name of their own, and so no place among the bounded ones.
            if not stats.model_name or self._labels.of(stats.model_name, stats.version) != OTHERS:
                yield stats, outputs
            else:
                rest.absorb(stats)
        if rest.requests:
            yield rest, None

    def _lately(self, labelled: Sequence[Labelled]) -> Iterator[Metric]:
        now_s = self._clock.monotonic()
        p95s: list[tuple[tuple[str, str], float]] = []
        for some in _slices(labelled, 50):
            throughput = GaugeMetricFamily(
                "model_throughput_per_sec",
                "Requests answered per second, errors included, since the last scrape that is 10 s old or older.",
                labels=_LABELS,
            )
            for stats, _ in some:
                labels = (stats.model_name, stats.version)
                counts = [stats.requests, *stats.latency]
                window = self._windows.get(labels)
                if window is None:
                    window = self._windows[labels] = Window(len(counts), now_s=self._began_s)
                seconds, grown = window.since(counts, now_s=now_s)
                throughput.add_metric(labels, grown[0] / seconds if seconds else 0.0)
                p95s.append((labels, percentile_ms(grown[1:], 0.95)))
            yield throughput
        if self._timed:
            p95 = GaugeMetricFamily(
                "model_latency_p95_ms",
                "95th percentile of model_latency_ms over the same time; 0 where nothing was answered in it.",
                labels=_LABELS,
            )
            for labels, value in p95s:
                p95.add_metric(labels, value)
            yield p95


def _counts(labelled: Sequence[Labelled]) -> Iterator[Metric]:
    for some in _slices(labelled, 20):
        requests = CounterMetricFamily(
            "model_requests_total", "Requests answered, by status code.", labels=(*_LABELS, "status")
        )
        for stats, _ in some:
            for code, count in stats.by_code().items():
                requests.add_metric((stats.model_name, stats.version, code.name), count)
        yield requests
    for some in _slices(labelled, 20):
        errors = CounterMetricFamily(
            "model_errors_total", "Requests that failed, by reason.", labels=(*_LABELS, "error_type")
        )
        for stats, _ in some:
            for reason, count in stats.errors.items():
                errors.add_metric((stats.model_name, stats.version, reason.value), count)
        yield errors
    for one in _slices(labelled, 1):
        # Not of type counter, whose samples would have to be called …_total.
        classes = UnknownMetricFamily("model_predictions_by_class", "Predictions by class.", labels=(*_LABELS, "class"))
        for stats, outputs in one:
            for name, count in stats.classes(outputs).items():
                classes.add_metric((stats.model_name, stats.version, name), count)
        yield classes


def _confidences(labelled: Sequence[Labelled]) -> Iterator[Metric]:
    for some in _slices(labelled, 20):
        confidence = CounterMetricFamily(
            "model_predictions_by_confidence",
            "Predictions by confidence: high from 0.8, medium from 0.5, low below.",
            labels=(*_LABELS, "level"),
        )
        for stats, _ in some:
            for level, count in stats.by_confidence().items():
                confidence.add_metric((stats.model_name, stats.version, level), count)
        yield confidence


def _times(labelled: Sequence[Labelled]) -> Iterator[Metric]:
    for some in _slices(labelled, 8):
        latency = HistogramMetricFamily(
            "model_latency_ms", "From arrival to answer inside the batcher, in milliseconds.", labels=_LABELS
        )
        for stats, _ in some:
            labels = (stats.model_name, stats.version)
            latency.add_metric(labels, _with_exemplars(stats), stats.latency_s * 1000)
        yield latency
    for some in _slices(labelled, 2):
        stages = HistogramMetricFamily(
            "model_stage_ms",
            "Where the time of answered requests went, in milliseconds: decode, queue, backend, encode.",
            labels=(*_LABELS, "stage"),
        )
        for stats, _ in some:
            for stage, counts, seconds in stats.stages():
                if any(counts):
                    buckets = cumulative(counts, LATENCY_BOUNDS_MS)
                    stages.add_metric((stats.model_name, stats.version, stage), buckets, seconds * 1000)
        yield stages


def _with_exemplars(stats: VersionStats) -> Sequence[tuple[str, float] | tuple[str, float, Exemplar]]:
    """The latency's buckets, each with the newest traced request that it counts, where there is one."""
    newest = stats.exemplars
    return [
        (bound, total, _exemplar(newest[place])) if place in newest else (bound, total)
        for place, (bound, total) in enumerate(cumulative(stats.latency, LATENCY_BOUNDS_MS))
    ]


def _exemplar(traced: TracedLatency) -> Exemplar:
    # With its own time, which stays: Prometheus takes the same exemplar once, however often it is read.
    return Exemplar({"trace_id": traced.trace_id.hex()}, traced.seconds * 1000, traced.ended_at_s)


def _slices(labelled: Sequence[Labelled], size: int) -> Iterator[Sequence[Labelled]]:
    """A family comes in pieces, so that whoever writes it may do other things in between; always one, for its name."""
    for at in range(0, max(1, len(labelled)), size):
        yield labelled[at : at + size]
