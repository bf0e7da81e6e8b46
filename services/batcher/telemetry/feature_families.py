"""What joining features found, and how long it took."""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from services.batcher.engines.features import RETRIEVAL_BOUNDS_MS, Features, RetrievalTimes, ViewCounts
from services.batcher.telemetry.labels import OTHER, OTHERS, LabelSets

_LABELS = ("model", "version")
_ROWS = ("hits", "fetched", "absent", "unanswered")
_FEATURES = ("defaults", "missing")


def feature_metrics(features: Features, labels: LabelSets) -> Callable[[], Iterable[Metric]]:
    """`model_feature_…`."""

    def collect() -> Iterator[Metric]:
        rows = CounterMetricFamily(
            "model_feature_rows",
            "Rows of feature views that requests needed: found in memory (hits), given by the store (fetched), not in "
            "the store (absent), or not answered in time (unanswered).",
            labels=(*_LABELS, "view", "outcome"),
        )
        gaps = CounterMetricFamily(
            "model_feature_gaps",
            "Features that no row had: replaced by their default (defaults), or refused (missing).",
            labels=(*_LABELS, "view", "outcome"),
        )
        for label, counts in _summed(features, labels).items():
            for outcome in _ROWS:
                rows.add_metric((*label, outcome), getattr(counts, outcome))
            for outcome in _FEATURES:
                gaps.add_metric((*label, outcome), getattr(counts, outcome))
        yield from (rows, gaps, _times(features, labels))
        yield GaugeMetricFamily("model_feature_rows_waiting", "Rows on their way.", value=features.waiting)
        memory = features.memory
        yield GaugeMetricFamily("model_feature_cache_rows", "Rows held in memory.", value=len(memory))
        yield GaugeMetricFamily("model_feature_cache_bytes", "Memory held, about.", value=memory.bytes_held)
        yield CounterMetricFamily(
            "model_feature_cache_evictions", "Rows that made room for others.", value=memory.evicted
        )

    return collect


def _times(features: Features, labels: LabelSets) -> Metric:
    summed: dict[tuple[str, str], RetrievalTimes] = {}
    for (model, version), times in features.times.items():
        total = summed.setdefault(labels.of(model, version), RetrievalTimes())
        total.sum_ms += times.sum_ms
        total.counts = [one + other for one, other in zip(total.counts, times.counts, strict=True)]
    family = HistogramMetricFamily(
        "model_feature_retrieval_ms",
        "How long requests waited for their features, in milliseconds, those included that found them in memory.",
        labels=_LABELS,
    )
    bounds = [*(f"{bound:g}" for bound in RETRIEVAL_BOUNDS_MS), "+Inf"]
    for label, times in summed.items():
        upto = [(bound, sum(times.counts[: place + 1])) for place, bound in enumerate(bounds)]
        family.add_metric(label, upto, times.sum_ms)
    return family


def _summed(features: Features, labels: LabelSets) -> dict[tuple[str, str, str], ViewCounts]:
    summed: dict[tuple[str, str, str], ViewCounts] = {}
    for (model, version, view), counts in features.counts.items():
        label = labels.of(model, version)
        total = summed.setdefault((*label, OTHER if label == OTHERS else view), ViewCounts())
        for name in (*_ROWS, *_FEATURES):
            setattr(total, name, getattr(total, name) + getattr(counts, name))
    return summed
