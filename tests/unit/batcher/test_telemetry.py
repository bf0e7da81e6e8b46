"""What Prometheus reads: the names of the contract, in a form that its own parser takes."""

import asyncio
from collections.abc import Iterable, Mapping

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from services.batcher.domain.batch_run import BatchRun
from services.batcher.domain.outputs import OutputPlan, RowScores
from services.batcher.telemetry.batches import BatchStats
from services.batcher.telemetry.buckets import BATCH_BOUNDS, LATENCY_BOUNDS_MS, percentile_ms
from services.batcher.telemetry.collector import BatcherCollector
from services.batcher.telemetry.exposition import exposition
from services.batcher.telemetry.labels import LabelSets
from services.batcher.telemetry.timings import Timings
from services.batcher.telemetry.version_stats import CLASSES_MAX, STAGES, VersionStats
from services.common.errors import Reason
from tests.support.batcher_faces_values import version_of
from tests.support.clock import FakeClock

PLAN = OutputPlan(version_of())
VERSION = {"model": "digits", "version": "v1.0.0"}


def run_of(*, rows: int = 1, requests: int = 1, sent_s: float = 0.0, landed_s: float = 0.5) -> BatchRun:
    return BatchRun(
        sent_s=sent_s, landed_s=landed_s, oldest_s=0.25, rows=rows, requests=requests, backend_id="triton-0"
    )


def finished(stats: VersionStats, *, latency_ms: float = 1.0, reason: Reason | None = None) -> None:
    """One request that was answered, or failed for that reason."""
    if reason is None:
        stats.answered(None)
    else:
        stats.failed(reason)
    stats.took(latency_ms / 1000)


def scores(*classes: int, confidence: float = 0.9) -> RowScores:
    return RowScores(classes, [confidence] * len(classes), [[confidence]] * len(classes))


def scraped(collector: BatcherCollector) -> list[Sample]:
    """All samples, as they are read out of the text."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    text = asyncio.run(exposition(registry))[0].decode()
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def values(samples: Iterable[Sample], name: str, **labels: str) -> list[float]:
    return [item.value for item in samples if item.name == name and labels.items() <= item.labels.items()]


def collector_of(
    *stats: VersionStats,
    active: int = 0,
    timed: bool = True,
    clock: FakeClock | None = None,
    versions_max: int = 500,
) -> BatcherCollector:
    labels = LabelSets(versions_max=versions_max)
    batches = BatchStats(labels)
    batches.batch_answered("digits", "v1.0.0", run_of(rows=3, requests=2))
    batches.batch_answered("digits", "v1.0.0", run_of(rows=2000))
    batches.batch_failed("digits", "v1.0.0", run_of(), kind="LOST")
    return BatcherCollector(
        stats=lambda: [(each, PLAN) for each in stats],
        active=lambda: active,
        labels=labels,
        clock=clock or FakeClock(),
        timed=timed,
        others=(batches.collect,),
    )


def test_requests_and_errors_are_counted_by_status_and_by_reason() -> None:
    stats = VersionStats("digits", "v1.0.0")
    for reason in (None, None, Reason.QUEUE_FULL, Reason.QUOTA_EXCEEDED, Reason.SCHEMA_VIOLATION):
        finished(stats, reason=reason)
    samples = scraped(collector_of(stats))
    assert values(samples, "model_requests_total", status="OK", **VERSION) == [2]
    # Both are RESOURCE_EXHAUSTED to callers: one sample, or Prometheus would refuse the whole scrape.
    assert values(samples, "model_requests_total", status="RESOURCE_EXHAUSTED", **VERSION) == [2]
    assert values(samples, "model_requests_total", status="INVALID_ARGUMENT", **VERSION) == [1]
    assert values(samples, "model_errors_total", error_type="QUEUE_FULL", **VERSION) == [1]
    assert values(samples, "model_errors_total", error_type="SCHEMA_VIOLATION", **VERSION) == [1]


def test_latencies_are_a_histogram_whose_buckets_include_their_bounds() -> None:
    stats = VersionStats("digits", "v1.0.0")
    for latency_ms in (0.5, 1.0, 7.5, 7.6, 20_000.0):
        finished(stats, latency_ms=latency_ms)
    samples = scraped(collector_of(stats))
    assert values(samples, "model_latency_ms_bucket", le="1") == [2]
    assert values(samples, "model_latency_ms_bucket", le="7.5") == [3]
    assert values(samples, "model_latency_ms_bucket", le="+Inf") == [5]
    assert values(samples, "model_latency_ms_count", model="digits") == [5]
    assert values(samples, "model_latency_ms_sum", model="digits") == [pytest.approx(20_016.6)]


def test_predictions_are_counted_by_the_name_of_their_class() -> None:
    stats = VersionStats("digits", "v1.0.0")
    stats.answered(scores(0, 2, 2))
    stats.failed(Reason.MODEL_FAILED)
    samples = scraped(collector_of(stats))
    by_class = {item.labels["class"]: item.value for item in samples if item.name == "model_predictions_by_class"}
    assert by_class == {"zero": 1, "two": 2}


def test_classes_beyond_what_a_scrape_should_hold_are_counted_together() -> None:
    stats = VersionStats("digits", "v1.0.0")
    stats.answered(scores(CLASSES_MAX - 1, CLASSES_MAX, CLASSES_MAX + 7))
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
    stats.answered(scores(0, confidence=confidence))
    assert (stats.confidence_high, stats.confidence_medium, stats.confidence_low) == counts


def test_batches_and_active_requests_have_the_names_of_the_contract() -> None:
    samples = scraped(collector_of(active=3))
    assert values(samples, "model_active_requests") == [3]
    assert values(samples, "model_batch_size_count", **VERSION) == [2]
    assert values(samples, "model_batch_size_sum", **VERSION) == [2003]
    assert values(samples, "model_batch_size_bucket", le="4", **VERSION) == [1]
    assert values(samples, "model_batch_size_bucket", le=str(BATCH_BOUNDS[-1]), **VERSION) == [1]
    assert values(samples, "model_batch_size_bucket", le="+Inf", **VERSION) == [2]
    assert values(samples, "model_batch_queue_seconds_total", **VERSION) == [0.5]
    assert values(samples, "model_batch_backend_seconds_total", **VERSION) == [1.0]
    assert values(samples, "model_batched_requests_total", **VERSION) == [3]
    assert values(samples, "model_batch_failures_total", kind="LOST", **VERSION) == [1]


def test_names_with_any_letters_are_read_back_as_they_are() -> None:
    stats = VersionStats('a"b\\c\nd', "v1")
    finished(stats)
    assert values(scraped(collector_of(stats)), "model_requests_total", model='a"b\\c\nd', status="OK") == [1]


def test_no_sample_comes_twice() -> None:
    stats = [VersionStats("digits", "v1.0.0"), VersionStats("digits", ""), VersionStats("", "")]
    for each in stats:
        for reason in Reason:
            finished(each, reason=reason)
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
        ({1: 100}, 0.95, 0.5 + 0.5 * 0.95),
        ({10: 100}, 0.5, 8.75),
        ({1: 95, 100: 5}, 0.95, 1.0),
        ({1: 94, 100: 6}, 0.95, 75 + 25 / 6),
        ({float("inf"): 10}, 0.95, 10_000),
        ({1: 1}, 0.0, 0.0),
    ],
)
def test_percentiles_lie_inside_their_bucket(counts: Mapping[float, int], share: float, expected: float) -> None:
    assert percentile_ms(buckets(counts), share) == pytest.approx(expected)


def test_stages_add_up_to_the_latency() -> None:
    stats = VersionStats("digits", "v1.0.0")
    stats.answered(None)
    run = run_of(sent_s=10.04, landed_s=10.1)
    timings = Timings()
    timings.note(stats, 10.0, 10.0001, run, 10.1004)
    timings.settle()
    samples = scraped(collector_of(stats))
    spent = {stage: values(samples, "model_stage_ms_sum", stage=stage, **VERSION) for stage in STAGES}
    assert spent == {
        "decode": [pytest.approx(0.1)],
        "queue": [pytest.approx(39.9)],
        "backend": [pytest.approx(60.0)],
        "encode": [pytest.approx(0.4)],
    }
    assert sum(values(samples, "model_stage_ms_sum")) == pytest.approx(values(samples, "model_latency_ms_sum")[0])
    assert values(samples, "model_stage_ms_bucket", stage="queue", le="30") == [0]
    assert values(samples, "model_stage_ms_bucket", stage="queue", le="50") == [1]


def test_rates_and_percentiles_are_of_the_last_moments() -> None:
    clock, stats = FakeClock(), VersionStats("digits", "v1.0.0")
    collector = collector_of(stats, clock=clock)

    def scrape() -> list[float]:
        samples = scraped(collector)
        return values(samples, "model_throughput_per_sec") + values(samples, "model_latency_p95_ms")

    for _ in range(100):
        finished(stats, latency_ms=2000.0)
    clock.advance(20.0)
    assert scrape() == pytest.approx([5.0, 1950.0])
    for _ in range(300):
        finished(stats, latency_ms=10.0)
    clock.advance(15.0)
    assert scrape() == pytest.approx([20.0, 9.875])
    # A second scraper right after sees the same figures, though nothing happened between the two.
    assert scrape() == pytest.approx([20.0, 9.875])
    clock.advance(15.0)
    assert scrape() == [0.0, 0.0]


def test_a_scraper_in_a_hurry_sees_figures_of_ten_seconds() -> None:
    clock, stats = FakeClock(), VersionStats("digits", "v1.0.0")
    collector = collector_of(stats, clock=clock)
    rates = []
    for _ in range(60):
        clock.advance(1.0)
        for _ in range(7):
            finished(stats)
        rates += values(scraped(collector), "model_throughput_per_sec")
    assert rates == [pytest.approx(7.0)] * 60


def test_without_times_requests_and_errors_are_counted_all_the_same() -> None:
    stats = VersionStats("digits", "v1.0.0")
    stats.answered(scores(1))
    stats.failed(Reason.QUEUE_FULL)
    samples = scraped(collector_of(stats, timed=False))
    assert values(samples, "model_requests_total", status="OK") == [1]
    assert values(samples, "model_errors_total", error_type="QUEUE_FULL") == [1]
    assert values(samples, "model_predictions_by_class") == [1]
    assert not [item for item in samples if item.name.startswith(("model_latency", "model_stage"))]


def test_versions_beyond_the_bound_are_counted_together_and_no_counter_steps_back() -> None:
    stats = [VersionStats("m", f"v1.0.{number}") for number in range(5)]
    collector = collector_of(*stats, versions_max=4)
    before: dict[tuple[str, str], float] = {}
    for busy in (stats[4], stats[0], stats[1], stats[2], stats[3], stats[2]):
        finished(busy)
        busy.answered(scores(1))
        samples = scraped(collector)
        now = {
            (item.name, item.labels["version"]): item.value
            for item in samples
            if item.name in ("model_requests_total", "model_latency_ms_count", "model_predictions_by_class")
        }
        assert all(now[key] >= value for key, value in before.items())
        assert len({version for _, version in now}) <= 5
        before = now
    # Digits and the first three with requests have labels: the others share.
    assert values(samples, "model_requests_total", version="v1.0.4") == [2]
    assert values(samples, "model_requests_total", model="__other__", version="__other__", status="OK") == [6]
    assert values(samples, "model_predictions_by_class", **{"version": "__other__", "class": "__other__"}) == [3]


def test_versions_without_requests_have_no_samples() -> None:
    samples = scraped(collector_of(VersionStats("idle", "v1.0.0")))
    assert not [item for item in samples if item.labels.get("model") == "idle"]


def test_families_in_pieces_are_whole_and_leave_room_for_others() -> None:
    stats, timings = [VersionStats(f"m{number}", "v1.0.0") for number in range(100)], Timings()
    for each in stats:
        finished(each)
        each.answered(scores(1, 2))
        each.failed(Reason.QUEUE_FULL)
        timings.note(each, 0.0, 0.1, run_of(sent_s=0.2), 0.6)
    timings.settle()
    registry = CollectorRegistry()
    registry.register(collector_of(*stats))

    async def write() -> tuple[str, int]:
        turns, writing = 0, asyncio.ensure_future(exposition(registry))
        while not writing.done():
            await asyncio.sleep(0)
            turns += 1
        return writing.result()[0].decode(), turns

    text, turns = asyncio.run(write())
    assert turns > 50
    headed = [line for line in text.splitlines() if line.startswith("# TYPE ")]
    assert len(headed) == len(set(headed))
    read = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    assert values(read, "model_stage_ms_count") == [1] * 100 * len(STAGES)
    assert values(read, "model_latency_ms_count") == [2] * 100
    assert len(values(read, "model_predictions_by_class")) == 200


def test_predictions_are_counted_by_confidence_where_the_model_says_it() -> None:
    sure, silent = VersionStats("digits", "v1.0.0"), VersionStats("digits", "v1.1.0")
    sure.answered(scores(0, 1))
    sure.answered(scores(2, confidence=0.1))
    silent.answered(None)
    samples = scraped(collector_of(sure, silent))
    found = {
        item.labels["level"]: item.value for item in samples if item.name == "model_predictions_by_confidence_total"
    }
    assert found == {"high": 2, "medium": 0, "low": 1}
    assert not values(samples, "model_predictions_by_confidence_total", version="v1.1.0")


def test_confidences_of_versions_without_labels_are_added_up() -> None:
    first, second = VersionStats("a", "v1.0.0"), VersionStats("b", "v1.0.0")
    for stats in (first, second):
        stats.answered(scores(0, confidence=0.6))
    samples = scraped(collector_of(first, second, versions_max=0))
    assert values(samples, "model_predictions_by_confidence_total", level="medium") == [2]
