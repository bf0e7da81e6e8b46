"""Exemplars: a bucket of the latency names the trace of the newest traced request in it."""

import asyncio
from collections.abc import Mapping
from random import Random

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from services.batcher.adapters.trace_spans import SpanMaker
from services.batcher.telemetry.collector import BatcherCollector
from services.batcher.telemetry.exposition import exposition
from services.batcher.telemetry.labels import LabelSets
from services.batcher.telemetry.traces import Traces
from services.batcher.telemetry.version_stats import VersionStats
from tests.support.clock import FakeClock

OPEN_METRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
FIRST, SECOND, THIRD = (bytes([number]) * 16 for number in (1, 2, 3))


def written(*stats: VersionStats, accept: str = OPEN_METRICS) -> tuple[str, str]:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(
        BatcherCollector(
            stats=lambda: [(each, None) for each in stats], active=lambda: 0, labels=LabelSets(), clock=FakeClock()
        )
    )
    text, content_type = asyncio.run(exposition(registry, accept))
    return text.decode(), content_type


def exemplars(text: str) -> Mapping[str, tuple[str, float, float]]:
    """Trace, value and moment by bucket."""
    return {
        sample.labels["le"]: (
            sample.exemplar.labels["trace_id"],
            sample.exemplar.value,
            float(sample.exemplar.timestamp or 0),
        )
        for family in text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
        for sample in family.samples
        if sample.exemplar is not None
    }


def busy() -> VersionStats:
    stats = VersionStats("digits", "v1.0.0")
    for trace_id, seconds, ended_at_s in ((FIRST, 0.004, 10.0), (SECOND, 0.0041, 20.5), (THIRD, 60.0, 30.0)):
        stats.answered(None)
        stats.took(seconds)
        stats.traced(trace_id, seconds, ended_at_s=ended_at_s)
    stats.answered(None)
    stats.took(0.2)
    return stats


def test_a_bucket_names_the_newest_traced_request_in_it() -> None:
    text, content_type = written(busy())
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert exemplars(text) == {
        "5": (SECOND.hex(), pytest.approx(4.1), 20.5),
        "+Inf": (THIRD.hex(), 60_000.0, 30.0),
    }


def test_read_again_it_is_the_same_so_that_prometheus_keeps_it_once() -> None:
    stats = busy()
    assert exemplars(written(stats)[0]) == exemplars(written(stats)[0])


@pytest.mark.parametrize("accept", ["", "text/plain", "*/*", "application/json"])
def test_who_does_not_ask_for_openmetrics_gets_none(accept: str) -> None:
    text, content_type = written(busy(), accept=accept)
    assert content_type.startswith("text/plain")
    assert FIRST.hex() not in text
    assert SECOND.hex() not in text
    assert "# EOF" not in text


def test_both_forms_have_the_same_series() -> None:
    def series(text: str) -> set[str]:
        lines = (line.partition(" # ")[0] for line in text.splitlines() if not line.startswith("#"))
        return {line.rpartition(" ")[0] for line in lines}

    assert series(written(busy())[0]) == series(written(busy(), accept="")[0])


def test_the_trace_that_an_exemplar_names_is_the_one_that_is_exported() -> None:
    trace = Traces(ratio=1.0, rng=Random(1)).begin({}, 0.0)
    assert trace is not None
    maker = SpanMaker(service="batcher", instance="batcher-0")
    maker.add(trace, epoch_s=0.0)
    [span] = maker.take(9)
    context = span.get_span_context()
    assert context is not None
    assert context.trace_id.to_bytes(16) == trace.trace_id
    # Only that one: what comes after it has ids of its own.
    other = Traces(ratio=1.0, rng=Random(2)).begin({b"traceparent": b"00-%s-%s-01" % (b"ab" * 16, b"cd" * 8)}, 0.0)
    assert other is not None
    assert other.trace_id == b"\xab" * 16
    maker.add(other, epoch_s=0.0)
    [span] = maker.take(9)
    context = span.get_span_context()
    assert context is not None
    assert context.trace_id.to_bytes(16) == other.trace_id
