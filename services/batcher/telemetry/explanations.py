"""Explanations by version: how many, how they ended, what they cost."""

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

from services.batcher.telemetry.buckets import cumulative, new_counts
from services.batcher.telemetry.labels import LabelSets

SECONDS_BOUNDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
_LABELS = ("model", "version")


@dataclass(slots=True)
class _Counts:
    explained: int = 0
    failed: int = 0
    rows: int = 0
    seconds: float = 0.0
    buckets: list[int] = field(default_factory=lambda: new_counts(SECONDS_BOUNDS))


class ExplanationStats:
    """Counts what is explained. All only grow."""

    def __init__(self, labels: LabelSets) -> None:
        self._labels = labels
        self._by_version: dict[tuple[str, str], _Counts] = {}

    def ended(self, model_name: str, version: str, *, instances: int, rows: int, seconds: float) -> None:
        """Counts one request: `instances` that were explained, 0 where it failed, and the rows that were spent."""
        key = self._labels.of(model_name, version)
        counts = self._by_version.setdefault(key, _Counts())
        counts.explained += instances
        counts.failed += not instances
        counts.rows += rows
        counts.seconds += seconds
        counts.buckets[bisect_left(SECONDS_BOUNDS, seconds)] += 1

    def collect(self) -> Iterable[Metric]:
        """The families."""
        explained = CounterMetricFamily("model_explanations", "Instances that were explained.", labels=_LABELS)
        failed = CounterMetricFamily("model_explanations_failed", "Requests whose explanation failed.", labels=_LABELS)
        rows = CounterMetricFamily("model_explanation_rows", "Rows that explanations asked about.", labels=_LABELS)
        took = HistogramMetricFamily(
            "model_explanation_seconds", "How long a request's explanations took, in seconds.", labels=_LABELS
        )
        for labels, counts in self._by_version.items():
            explained.add_metric(labels, counts.explained)
            failed.add_metric(labels, counts.failed)
            rows.add_metric(labels, counts.rows)
            took.add_metric(labels, cumulative(counts.buckets, SECONDS_BOUNDS), counts.seconds)
        yield from (explained, failed, rows, took)
