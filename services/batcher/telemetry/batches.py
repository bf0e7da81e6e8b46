"""Sizes, times and failures of batches by version: the engine's `BatchObserver`."""

from bisect import bisect_left
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric

from services.batcher.domain.batch_run import BatchRun
from services.batcher.telemetry.buckets import BATCH_BOUNDS, add_counts, cumulative, new_counts
from services.batcher.telemetry.labels import LabelSets

_LABELS = ("model", "version")


class _Batches:
    """Of one version, since the start."""

    __slots__ = ("backend_s", "failures", "oldest_s", "requests", "rows", "sizes")

    def __init__(self) -> None:
        self.sizes = new_counts(BATCH_BOUNDS)
        self.rows = 0
        self.requests = 0
        self.oldest_s = 0.0
        self.backend_s = 0.0
        self.failures: dict[str, int] = {}

    def absorb(self, other: "_Batches") -> None:
        add_counts(self.sizes, other.sizes)
        self.rows += other.rows
        self.requests += other.requests
        self.oldest_s += other.oldest_s
        self.backend_s += other.backend_s
        for kind, count in other.failures.items():
            self.failures[kind] = self.failures.get(kind, 0) + count


class BatchStats:
    """Counts batches; about half a microsecond each."""

    def __init__(self, labels: LabelSets) -> None:
        self._labels = labels
        self._by_version: dict[tuple[str, str], _Batches] = {}

    def batch_answered(self, model_name: str, version: str, run: BatchRun) -> None:
        """Counts one batch."""
        batches = self._of(model_name, version)
        batches.sizes[bisect_left(BATCH_BOUNDS, run.rows)] += 1
        batches.rows += run.rows
        batches.requests += run.requests
        batches.oldest_s += run.oldest_s
        batches.backend_s += run.seconds

    def batch_failed(self, model_name: str, version: str, run: BatchRun, *, kind: str) -> None:  # noqa: ARG002
        """Counts one that was not answered."""
        failures = self._of(model_name, version).failures
        failures[kind] = failures.get(kind, 0) + 1

    def collect(self) -> Iterator[Metric]:
        """The families."""
        size = HistogramMetricFamily(
            "model_batch_size", "Rows in the batches that model servers answered.", labels=_LABELS
        )
        queued = CounterMetricFamily(
            "model_batch_queue_seconds", "How long the oldest request of each batch had waited, summed.", labels=_LABELS
        )
        served = CounterMetricFamily(
            "model_batch_backend_seconds", "How long model servers took for batches, summed.", labels=_LABELS
        )
        joined = CounterMetricFamily("model_batched_requests", "Requests that went out in batches.", labels=_LABELS)
        failed = CounterMetricFamily(
            "model_batch_failures",
            "Batches that were sent and not answered, by what went wrong.",
            labels=(*_LABELS, "kind"),
        )
        for labels, batches in self._labelled().items():
            size.add_metric(labels, cumulative(batches.sizes, BATCH_BOUNDS), batches.rows)
            queued.add_metric(labels, batches.oldest_s)
            served.add_metric(labels, batches.backend_s)
            joined.add_metric(labels, batches.requests)
            for kind, count in batches.failures.items():
                failed.add_metric((*labels, kind), count)
        yield from (size, queued, served, joined, failed)

    def _of(self, model_name: str, version: str) -> _Batches:
        key = (model_name, version)
        batches = self._by_version.get(key)
        if batches is None:
            batches = self._by_version[key] = _Batches()
        return batches

    def _labelled(self) -> dict[tuple[str, str], _Batches]:
        labelled: dict[tuple[str, str], _Batches] = {}
        for key, batches in self._by_version.items():
            labels = self._labels.of(*key)
            if labels == key:
                labelled[key] = batches
            else:
                labelled.setdefault(labels, _Batches()).absorb(batches)
        return labelled
