"""What Prometheus reads: the names of the contract, in a form that its own parser takes."""

from collections.abc import Iterable, Mapping

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from services.batcher.domain.outputs import OutputPlan, Scores
from services.batcher.telemetry import (
    BATCH_BOUNDS,
    CLASSES_MAX,
    LATENCY_BOUNDS_MS,
    BatcherCollector,
    BatchStats,
    VersionStats,
    depth_metrics,
    percentile_ms,
)
from services.common.errors import Reason
from tests.support.batcher_faces_values import version_of

PLAN = OutputPlan(version_of())


def scores(*classes: int, confidence: float = 0.9) -> Scores:
    return Scores(classes, [confidence] * len(classes), [[confidence]] * len(classes))


def scraped(collector: BatcherCollector) -> list[Sample]:
    """All samples, as they are read out of the text."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    text = generate_latest(registry).decode()
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def values(samples: Iterable[Sample], name: str, **labels: str) -> list[float]:
    return [item.value for item in samples if item.name == name and labels.items() <= item.labels.items()]


def collector_of(*stats: VersionStats, active: int = 0, waiting: Mapping[str, int] | None = None) -> BatcherCollector:
    batches = BatchStats()
    batches.batch_answered("digits", "v1.0.0", rows=3, requests=2, queue_s=0.25, backend_s=0.5)
    batches.batch_answered("digits", "v1.0.0", rows=2000, requests=1, queue_s=0.25, backend_s=0.5)
    return BatcherCollector(
        stats=lambda: [(each, PLAN) for each in stats],
        active=lambda: active,
        others=(batches.collect, depth_metrics(lambda: waiting or {})),
    )


def test_requests_and_errors_are_counted_by_status_and_by_reason() -> None:
    stats = VersionStats("digits", "v1.0.0")
    for reason in (None, None, Reason.QUEUE_FULL, Reason.QUOTA_EXCEEDED, Reason.SCHEMA_VIOLATION):
        stats.count(latency_ms=1.0, reason=reason, scores=None)
    samples = scraped(collector_of(stats))
    version = {"model": "digits", "version": "v1.0.0"}
    assert values(samples, "model_requests_total", status="OK", **version) == [2]
    # Both are RESOURCE_EXHAUSTED to callers: one sample, or Prometheus would refuse the whole scrape.
    assert values(samples, "model_requests_total", status="RESOURCE_EXHAUSTED", **version) == [2]
    assert values(samples, "model_requests_total", status="INVALID_ARGUMENT", **version) == [1]
    assert values(samples, "model_errors_total", error_type="QUEUE_FULL", **version) == [1]
    assert values(samples, "model_errors_total", error_type="SCHEMA_VIOLATION", **version) == [1]


def test_latencies_are_a_histogram_whose_buckets_include_their_bounds() -> None:
    stats = VersionStats("digits", "v1.0.0")
    for latency_ms in (0.5, 1.0, 7.5, 7.6, 20_000.0):
        stats.count(latency_ms=latency_ms, reason=None, scores=None)
    samples = scraped(collector_of(stats))
    assert values(samples, "model_latency_ms_bucket", le="1") == [2]
    assert values(samples, "model_latency_ms_bucket", le="7.5") == [3]
    assert values(samples, "model_latency_ms_bucket", le="+Inf") == [5]
    assert values(samples, "model_latency_ms_count", model="digits") == [5]
    assert values(samples, "model_latency_ms_sum", model="digits") == [pytest.approx(20_016.6)]


def test_predictions_are_counted_by_the_name_of_their_class() -> None:
    stats = VersionStats("digits", "v1.0.0")
    stats.count(latency_ms=1, reason=None, scores=scores(0, 2, 2))
    stats.count(latency_ms=1, reason=Reason.MODEL_FAILED, scores=scores(1))
    samples = scraped(collector_of(stats))
    by_class = {item.labels["class"]: item.value for item in samples if item.name == "model_predictions_by_class"}
    assert by_class == {"zero": 1, "two": 2}


def test_classes_beyond_what_a_scrape_should_hold_are_counted_together() -> None:
    stats = VersionStats("digits", "v1.0.0")
    stats.count(latency_ms=1, reason=None, scores=scores(CLASSES_MAX - 1, CLASSES_MAX, CLASSES_MAX + 7))
    assert stats.classes(None) == {str(CLASSES_MAX - 1): 1, "__other__": 2}


@pytest.mark.parametrize(
    ("confidence", "counts"),
    [
        (1.0, (1, 0, 0)),
        (0.8, (1, 0, 0)),
        (0.79, (0, 1, 0)),
        (0.5, (0, 1, 0)),
        (0.49, (0, 0, 1)),
        (float("nan"), (0, 0, 1)),
    ],
)
def test_confidences_are_high_medium_or_low(confidence: float, counts: tuple[int, int, int]) -> None:
    stats = VersionStats("digits", "v1.0.0")
    stats.count(latency_ms=1, reason=None, scores=scores(0, confidence=confidence))
    assert (stats.confidence_high, stats.confidence_medium, stats.confidence_low) == counts


def test_batches_waiting_and_active_requests_have_the_names_of_the_contract() -> None:
    samples = scraped(collector_of(active=3, waiting={"digits": 4}))
    assert values(samples, "model_active_requests") == [3]
    assert values(samples, "model_queue_depth", model="digits") == [4]
    version = {"model": "digits", "version": "v1.0.0"}
    assert values(samples, "model_batch_size_count", **version) == [2]
    assert values(samples, "model_batch_size_sum", **version) == [2003]
    assert values(samples, "model_batch_size_bucket", le="4", **version) == [1]
    assert values(samples, "model_batch_size_bucket", le=str(BATCH_BOUNDS[-1]), **version) == [1]
    assert values(samples, "model_batch_size_bucket", le="+Inf", **version) == [2]
    assert values(samples, "model_batch_queue_seconds_total", **version) == [0.5]
    assert values(samples, "model_batched_requests_total", **version) == [3]


def test_names_with_any_letters_are_read_back_as_they_are() -> None:
    stats = VersionStats('a"b\\c\nd', "v1")
    stats.count(latency_ms=1, reason=None, scores=None)
    assert values(scraped(collector_of(stats)), "model_requests_total", model='a"b\\c\nd', status="OK") == [1]


def test_no_sample_comes_twice() -> None:
    stats = [VersionStats("digits", "v1.0.0"), VersionStats("digits", ""), VersionStats("", "")]
    for each in stats:
        for reason in Reason:
            each.count(latency_ms=1, reason=reason, scores=None)
    samples = scraped(collector_of(*stats))
    keys = [(item.name, tuple(sorted(item.labels.items()))) for item in samples]
    assert len(set(keys)) == len(keys)


def buckets(counts: Mapping[float, int]) -> list[int]:
    made = [0] * (len(LATENCY_BOUNDS_MS) + 1)
    for bound, count in counts.items():
        made[LATENCY_BOUNDS_MS.index(bound) if bound in LATENCY_BOUNDS_MS else -1] = count
    return made


@pytest.mark.parametrize(
    ("counts", "share", "expected"),
    [
        ({}, 0.95, 0.0),
        ({1: 100}, 0.95, 0.95),
        ({10: 100}, 0.5, 8.75),
        ({1: 95, 100: 5}, 0.95, 1.0),
        ({1: 94, 100: 6}, 0.95, 75 + 25 / 6),
        ({float("inf"): 10}, 0.95, 10_000),
        ({1: 1}, 0.0, 0.0),
    ],
)
def test_percentiles_lie_inside_their_bucket(counts: Mapping[float, int], share: float, expected: float) -> None:
    assert percentile_ms(buckets(counts), share) == pytest.approx(expected)
