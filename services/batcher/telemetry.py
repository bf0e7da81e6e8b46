"""What is counted of every request: plain integers on the hot path, Prometheus families only when somebody scrapes."""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    UnknownMetricFamily,
)
from prometheus_client.registry import Collector

from services.batcher.domain.outputs import OutputPlan, Scores
from services.common.errors import CATALOGUE, Code, Reason

LATENCY_BOUNDS_MS = (1, 2, 3, 5, 7.5, 10, 15, 20, 30, 50, 75, 100, 150, 200, 300, 500, 1000, 2000, 5000, 10000)
BATCH_BOUNDS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
CONFIDENCE_HIGH = 0.8
CONFIDENCE_MEDIUM = 0.5
CLASSES_MAX = 1000
"""The most class names that are told apart; the rest is counted under "__other__"."""
_OTHER = "__other__"
_LABELS = ("model", "version")


class VersionStats:
    """The counts of one version since the process started. All only grow."""

    __slots__ = (
        "by_class",
        "confidence_high",
        "confidence_low",
        "confidence_medium",
        "errors",
        "latency_buckets",
        "latency_sum_ms",
        "model_name",
        "ok",
        "version",
    )

    def __init__(self, model_name: str, version: str) -> None:
        self.model_name = model_name
        self.version = version
        self.ok = 0
        self.errors: dict[Reason, int] = {}
        self.latency_buckets = [0] * (len(LATENCY_BOUNDS_MS) + 1)
        self.latency_sum_ms = 0.0
        self.by_class: dict[int, int] = {}
        self.confidence_high = 0
        self.confidence_medium = 0
        self.confidence_low = 0

    def count(self, *, latency_ms: float, reason: Reason | None, scores: Scores | None) -> None:
        """Counts one finished request; `reason` None: it succeeded."""
        self.latency_buckets[bisect_left(LATENCY_BOUNDS_MS, latency_ms)] += 1
        self.latency_sum_ms += latency_ms
        if reason is not None:
            self.errors[reason] = self.errors.get(reason, 0) + 1
            return
        self.ok += 1
        if scores is not None:
            by_class = self.by_class
            for index in scores.classes:
                by_class[index] = by_class.get(index, 0) + 1
            for confidence in scores.confidences:
                if confidence >= CONFIDENCE_HIGH:
                    self.confidence_high += 1
                elif confidence >= CONFIDENCE_MEDIUM:
                    self.confidence_medium += 1
                else:
                    self.confidence_low += 1

    def classes(self, outputs: OutputPlan | None) -> dict[str, int]:
        """Predictions by class name."""
        named: dict[str, int] = {}
        for index, count in self.by_class.items():
            name = _OTHER if index >= CLASSES_MAX else outputs.class_name(index) if outputs is not None else str(index)
            named[name] = named.get(name, 0) + count
        return named


class BatcherCollector(Collector):
    """Renders the counts of all versions as SPEC names them."""

    def __init__(
        self,
        *,
        stats: Callable[[], Iterable[tuple[VersionStats, OutputPlan | None]]],
        active: Callable[[], int],
        others: Sequence[Callable[[], Iterable[Metric]]] = (),
    ) -> None:
        self._stats = stats
        self._active = active
        self._others = others

    def collect(self) -> Iterator[Metric]:
        """Every family, as of now."""
        requests = CounterMetricFamily(
            "model_requests_total", "Requests answered, by status code.", labels=(*_LABELS, "status")
        )
        errors = CounterMetricFamily(
            "model_errors_total", "Requests that failed, by reason.", labels=(*_LABELS, "error_type")
        )
        latency = HistogramMetricFamily(
            "model_latency_ms", "From arrival to answer inside the batcher, in milliseconds.", labels=_LABELS
        )
        # Not of type counter, whose samples would have to be called …_total.
        classes = UnknownMetricFamily("model_predictions_by_class", "Predictions by class.", labels=(*_LABELS, "class"))
        p95 = GaugeMetricFamily(
            "model_latency_p95_ms", "95th percentile of the latency since the start, in milliseconds.", labels=_LABELS
        )
        for stats, outputs in self._stats():
            labels = (stats.model_name, stats.version)
            for code, count in _by_code(stats):
                requests.add_metric((*labels, code.name), count)
            for reason, count in stats.errors.items():
                errors.add_metric((*labels, reason.value), count)
            latency.add_metric(labels, _buckets(stats.latency_buckets, LATENCY_BOUNDS_MS), stats.latency_sum_ms)
            for name, count in stats.classes(outputs).items():
                classes.add_metric((*labels, name), count)
            p95.add_metric(labels, percentile_ms(stats.latency_buckets, 0.95))
        active = GaugeMetricFamily("model_active_requests", "Requests being worked on.", value=self._active())
        yield from (requests, errors, latency, classes, p95, active)
        for other in self._others:
            yield from other()


def percentile_ms(buckets: Sequence[int], share: float) -> float:
    """The latency below which `share` of the requests lie, by linear interpolation inside its bucket."""
    wanted = share * sum(buckets)
    if not wanted:
        return 0.0
    below = 0
    for place, count in enumerate(buckets):
        if below + count >= wanted:
            low = LATENCY_BOUNDS_MS[place - 1] if place else 0.0
            high = LATENCY_BOUNDS_MS[place] if place < len(LATENCY_BOUNDS_MS) else low
            return low + (high - low) * (wanted - below) / count
        below += count
    return float(LATENCY_BOUNDS_MS[-1])


def _by_code(stats: VersionStats) -> Iterable[tuple[Code, int]]:
    by_code = {Code.OK: stats.ok}
    for reason, count in stats.errors.items():
        code = CATALOGUE[reason]
        by_code[code] = by_code.get(code, 0) + count
    return by_code.items()


def _buckets(counts: Sequence[int], upper: Sequence[float]) -> list[tuple[str, float]]:
    bounds = [*(f"{bound:g}" for bound in upper), "+Inf"]
    total = 0
    cumulative: list[tuple[str, float]] = []
    for bound, count in zip(bounds, counts, strict=True):
        total += count
        cumulative.append((bound, total))
    return cumulative


class BatchStats:
    """Sizes and times of batches by version: the engine's `BatchObserver`."""

    def __init__(self) -> None:
        self._by_version: dict[tuple[str, str], tuple[list[int], list[float]]] = {}

    def batch_answered(
        self, model_name: str, version: str, *, rows: int, requests: int, queue_s: float, backend_s: float
    ) -> None:
        """Counts one batch."""
        key = (model_name, version)
        entry = self._by_version.get(key)
        if entry is None:
            entry = self._by_version[key] = ([0] * (len(BATCH_BOUNDS) + 1), [0.0, 0.0, 0.0, 0.0])
        sizes, sums = entry
        sizes[bisect_left(BATCH_BOUNDS, rows)] += 1
        sums[0] += rows
        sums[1] += requests
        sums[2] += queue_s
        sums[3] += backend_s

    def collect(self) -> Iterator[Metric]:
        """The families."""
        size = HistogramMetricFamily("model_batch_size", "Rows in the batches sent to model servers.", labels=_LABELS)
        queued = CounterMetricFamily(
            "model_batch_queue_seconds", "How long the oldest request of each batch had waited, summed.", labels=_LABELS
        )
        served = CounterMetricFamily(
            "model_batch_backend_seconds", "How long model servers took for batches, summed.", labels=_LABELS
        )
        joined = CounterMetricFamily("model_batched_requests", "Requests that went out in batches.", labels=_LABELS)
        for labels, (sizes, (rows, requests, queue_s, backend_s)) in self._by_version.items():
            size.add_metric(labels, _buckets(sizes, BATCH_BOUNDS), rows)
            queued.add_metric(labels, queue_s)
            served.add_metric(labels, backend_s)
            joined.add_metric(labels, requests)
        yield from (size, queued, served, joined)


def depth_metrics(depths: Callable[[], Mapping[str, int]]) -> Callable[[], Iterable[Metric]]:
    """`model_queue_depth`, from the requests that wait by model."""

    def collect() -> Iterable[Metric]:
        family = GaugeMetricFamily("model_queue_depth", "Requests that wait to be batched.", labels=("model",))
        for model, waiting in depths().items():
            family.add_metric((model,), waiting)
        return (family,)

    return collect
