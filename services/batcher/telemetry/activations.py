"""Versions that were cold when somebody asked: how often they were loaded for that, and how long requests waited."""

from bisect import bisect_left
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric

from services.batcher.telemetry.buckets import add_counts, cumulative, new_counts
from services.batcher.telemetry.labels import LabelSets

_LABELS = ("model", "version")
COLD_START_BOUNDS_S = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0)
"""Upper bounds, inclusive: a second is what is aimed at, and an environment that is built takes minutes."""


class _Activations:
    """Of one version, since the start."""

    __slots__ = ("answered", "counts", "failed", "seconds")

    def __init__(self) -> None:
        self.answered = 0
        self.failed = 0
        self.counts = new_counts(COLD_START_BOUNDS_S)
        self.seconds = 0.0

    def absorb(self, other: "_Activations") -> None:
        self.answered += other.answered
        self.failed += other.failed
        add_counts(self.counts, other.counts)
        self.seconds += other.seconds


class ActivationStats:
    """An `ActivationObserver`."""

    def __init__(self, labels: LabelSets) -> None:
        self._labels = labels
        self._by_version: dict[tuple[str, str], _Activations] = {}

    def activation_ended(self, model_name: str, version: str, *, answered: bool) -> None:
        """Counts what the deployer said."""
        stats = self._of(model_name, version)
        if answered:
            stats.answered += 1
        else:
            stats.failed += 1

    def cold_start_ended(self, model_name: str, version: str, seconds: float) -> None:
        """Counts a wait."""
        stats = self._of(model_name, version)
        stats.counts[bisect_left(COLD_START_BOUNDS_S, seconds)] += 1
        stats.seconds += seconds

    def collect(self) -> Iterator[Metric]:
        """The families."""
        ended = CounterMetricFamily(
            "batcher_activations",
            "Versions that were not loaded when somebody asked: answered, the deployer had them loaded; failed, it said"
            " why not.",
            labels=(*_LABELS, "outcome"),
        )
        waits = HistogramMetricFamily(
            "batcher_cold_start_seconds",
            "From the first request for a version that was not loaded to the first batch sent.",
            labels=_LABELS,
        )
        summed: dict[tuple[str, str], _Activations] = {}
        for key, one in self._by_version.items():
            summed.setdefault(self._labels.of(*key), _Activations()).absorb(one)
        for label, total in summed.items():
            ended.add_metric((*label, "answered"), total.answered)
            ended.add_metric((*label, "failed"), total.failed)
            waits.add_metric(label, cumulative(total.counts, COLD_START_BOUNDS_S), total.seconds)
        yield from (ended, waits)

    def _of(self, model_name: str, version: str) -> _Activations:
        return self._by_version.setdefault((model_name, version), _Activations())
