"""What the prediction cache found, and what it holds."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from services.batcher.domain.cached import CacheCounts, StoreCounts
from services.batcher.engines.cache import PredictionCache
from services.batcher.telemetry.labels import LabelSets

_LABELS = ("model", "version")


class _Store(Protocol):
    """The second layer, as far as it is measured."""

    @property
    def counts(self) -> StoreCounts: ...

    @property
    def reads(self) -> bool: ...

    @property
    def queued(self) -> int: ...


def cache_metrics(cache: PredictionCache, labels: LabelSets) -> Callable[[], Iterable[Metric]]:
    """`model_cache_…` of the cache itself. Rows are what is counted, not requests."""

    memory = cache.memory

    def collect() -> Iterator[Metric]:
        hits = CounterMetricFamily(
            "model_cache_hits",
            "Rows that did not go to the model: found in memory or redis, or computed for another request (shared).",
            labels=(*_LABELS, "layer"),
        )
        misses = CounterMetricFamily("model_cache_misses", "Rows that nobody had.", labels=_LABELS)
        for label, one in _by_label(cache.counts, labels).items():
            hits.add_metric((*label, "memory"), one.memory)
            hits.add_metric((*label, "redis"), one.store)
            hits.add_metric((*label, "shared"), one.shared)
            misses.add_metric(label, one.missed)
        yield from (hits, misses)
        yield CounterMetricFamily(
            "model_cache_bypassed", "Requests of deterministic versions that are none to cache.", value=cache.bypassed
        )
        yield CounterMetricFamily("model_cache_evictions", "Rows that made room for others.", value=memory.evicted)
        yield GaugeMetricFamily("model_cache_bytes", "Memory held, overhead included.", value=memory.bytes_held)
        yield GaugeMetricFamily("model_cache_entries", "Rows held in memory.", value=len(memory))

    return collect


def store_metrics(store: _Store) -> Callable[[], Iterable[Metric]]:
    """`model_cache_redis_…`."""

    def collect() -> Iterator[Metric]:
        counts = store.counts
        yield GaugeMetricFamily("model_cache_redis_up", "1: Redis is asked; 0: it is away.", value=int(store.reads))
        yield GaugeMetricFamily("model_cache_redis_queued", "Rows that wait to be written.", value=store.queued)
        for name, text, value in (
            ("errors", "Connections that failed, broke, or did not answer in time.", counts.errors),
            ("foreign", "Values that are none of the cache's.", counts.foreign),
            ("skipped", "Rows not asked for, because Redis is away or too many wait.", counts.skipped),
            ("written", "Rows written.", counts.written),
            ("dropped", "Rows not written, because Redis is away, the queue full, or it refused.", counts.dropped),
        ):
            yield CounterMetricFamily(f"model_cache_redis_{name}", text, value=value)

    return collect


def _by_label(
    counts: Mapping[tuple[str, str], CacheCounts], labels: LabelSets
) -> Mapping[tuple[str, str], CacheCounts]:
    summed: dict[tuple[str, str], CacheCounts] = {}
    for (model, version), one in counts.items():
        total = summed.setdefault(labels.of(model, version), CacheCounts())
        total.memory += one.memory
        total.store += one.store
        total.shared += one.shared
        total.missed += one.missed
    return summed
