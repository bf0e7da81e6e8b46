"""The road of a request's record: over the stream, into PostgreSQL, out of GetModelMetrics."""

from datetime import datetime, timedelta

import psycopg
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from infermesh.common.v1 import error_reason_pb2
from infermesh.monitor.v1 import model_metrics_pb2, monitor_service_pb2

from services.common.errors import MeshError, Reason
from tests.integration.monitor.conftest import RunningMonitor
from tests.support.monitor_log import group_message, message
from tests.support.waiting import eventually

QUEUE_FULL = error_reason_pb2.ERROR_REASON_QUEUE_FULL


def stamp(moment: datetime) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromDatetime(moment)
    return timestamp


async def metrics_of(monitor: RunningMonitor, now: datetime, version: str = "") -> model_metrics_pb2.ModelMetrics:
    request = monitor_service_pb2.GetModelMetricsRequest(
        model_name="digits",
        version=version,
        start_time=stamp(now - timedelta(minutes=10)),
        end_time=stamp(now + timedelta(minutes=1)),
    )
    return await monitor.metrics.GetModelMetrics(request)


async def test_requests_become_metrics(monitor: RunningMonitor, now: datetime) -> None:
    latencies_us = [1000 * place for place in range(1, 100)] + [7]
    requests = group_message(
        latencies_us,
        at=now,
        codes=[0] * 99 + [8],
        reasons=[0] * 99 + [QUEUE_FULL],
        by_class={"3": 75, "8": 24},
        by_confidence={"high": 99},
    )
    assert await monitor.send(message(1, requests)) == 1

    answer = await metrics_of(monitor, now)
    assert (answer.model_name, answer.version) == ("digits", "v1.0.0")
    found = answer.metrics
    assert (found.request_count, found.error_count, found.error_rate) == (100, 1, 0.01)
    assert found.latency.p50 == pytest.approx(50, rel=0.005)
    assert found.latency.p95 == pytest.approx(95, rel=0.005)
    assert found.latency.p99 == pytest.approx(99, rel=0.005)
    assert found.latency.avg == 50
    assert found.prediction_distribution == {"3": pytest.approx(75 / 99), "8": pytest.approx(24 / 99)}
    assert found.confidence_distribution == {"high": 1, "medium": 0, "low": 0}
    assert found.throughput_per_sec > 0


async def test_two_versions_are_told_apart_and_added_up(monitor: RunningMonitor, now: datetime) -> None:
    await monitor.send(
        message(1, group_message([1000] * 3, at=now), group_message([9000], at=now, version="v2.0.0")),
        message(2, group_message([2000] * 2, at=now - timedelta(minutes=5))),
    )
    both = await metrics_of(monitor, now)
    assert (both.version, both.metrics.request_count) == ("", 6)
    one = await metrics_of(monitor, now, "v1.0.0")
    assert (one.version, one.metrics.request_count) == ("v1.0.0", 5)

    start, end = stamp(now - timedelta(minutes=10)), stamp(now + timedelta(minutes=1))
    listed = await monitor.metrics.ListVersionMetrics(
        monitor_service_pb2.ListVersionMetricsRequest(model_name="digits", page_size=1, start_time=start, end_time=end)
    )
    assert [entry.version for entry in listed.versions] == ["v1.0.0"]
    rest = await monitor.metrics.ListVersionMetrics(
        monitor_service_pb2.ListVersionMetricsRequest(
            model_name="digits", page_size=1, page_token=listed.next_page_token, start_time=start, end_time=end
        )
    )
    assert [entry.version for entry in rest.versions] == ["v2.0.0"]
    assert rest.next_page_token == ""

    series = await monitor.metrics.ListMetricPoints(
        monitor_service_pb2.ListMetricPointsRequest(model_name="digits", start_time=start, end_time=end)
    )
    assert [point.metrics.request_count for point in series.points] == [2, 4]
    assert series.points[1].start_time.ToDatetime() == now.replace(second=0, tzinfo=None)


async def test_a_model_without_requests_has_zeros(monitor: RunningMonitor, now: datetime) -> None:
    answer = await metrics_of(monitor, now)
    assert answer.metrics.request_count == 0
    assert answer.metrics.latency.p99 == 0


async def test_a_wrong_question_is_refused_with_what_is_allowed(monitor: RunningMonitor, now: datetime) -> None:
    for request, field in (
        (monitor_service_pb2.GetModelMetricsRequest(model_name="Not A Name"), "model_name"),
        (monitor_service_pb2.GetModelMetricsRequest(model_name="digits", version="two"), "version"),
        (monitor_service_pb2.GetModelMetricsRequest(model_name="digits", end_time=stamp(now - timedelta(days=9)),
                                                    start_time=stamp(now)), "end_time"),
    ):  # fmt: skip
        with pytest.raises(MeshError) as caught:
            await monitor.metrics.GetModelMetrics(request)
        assert caught.value.reason is Reason.INVALID_FIELD
        assert [violation.field for violation in caught.value.violations] == [field]


async def test_the_tables_are_what_operators_query(monitor: RunningMonitor, now: datetime, database_url: str) -> None:
    await monitor.send(message(1, group_message([1500, 2500], at=now, codes=[0, 13], reasons=[0, 404])))
    with psycopg.connect(database_url.replace("+psycopg", "")) as connection:
        rows = connection.execute(
            "SELECT model_id, version_id, deployment_id, metric_name, metric_value, granularity, dimensions"
            " FROM monitor.model_metrics WHERE metric_name IN ('request_count', 'error_count') ORDER BY metric_name"
        ).fetchall()
        assert rows == [
            ("digits", "v1.0.0", "main", "error_count", 1.0, "minute", {"reason": "MODEL_FAILED"}),
            ("digits", "v1.0.0", "main", "request_count", 2.0, "minute", {}),
        ]
        logged = connection.execute(
            "SELECT request_id, model_id, latency_ms, error_message FROM monitor.inference_logs ORDER BY latency_ms"
        ).fetchall()
        assert logged == [("req_0", "digits", 1.5, None), ("req_1", "digits", 2.5, "MODEL_FAILED")]


async def test_the_host_is_watched(monitor: RunningMonitor, now: datetime) -> None:
    async def watched() -> bool:
        answer = await metrics_of(monitor, now)
        return 0 < answer.resource_usage.memory_percent <= 100 and 0 <= answer.resource_usage.cpu_percent <= 100

    await eventually(watched, timeout_s=10)


async def test_a_watch_streams_again_and_again(monitor: RunningMonitor, now: datetime) -> None:
    await monitor.send(message(1, group_message([1000], at=now)))
    seen = []
    async for answer in monitor.metrics.WatchModelMetrics(
        monitor_service_pb2.WatchModelMetricsRequest(model_name="digits", period_s=1), timeout=10
    ):
        seen.append(answer.metrics.request_count)
        if len(seen) == 2:
            break
    assert seen == [1, 1]
