"""The prediction log over a real PostgreSQL: policies, search, what is missing."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from infermesh.monitor.v1 import (
    inference_log_pb2,
    logging_policy_service_pb2,
    logging_policy_service_pb2_grpc,
    monitor_service_pb2,
    prediction_log_pb2,
)
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.common.clock import SystemClock
from services.common.database import create_engine, migrate
from services.common.errors import MeshError, Reason
from services.monitor.adapters.postgres_log_search import newest_statement
from services.monitor.adapters.postgres_partitions import PostgresPartitionStore
from services.monitor.domain.log_search import LogQuery, Position
from services.monitor.domain.partitions import PartitionedTable
from services.monitor.engines.keeper import PartitionKeeper
from services.monitor.settings import MonitorSettings
from services.monitor.wiring import build
from tests.integration.monitor.conftest import RunningMonitor, StartMonitor
from tests.support.clock import FakeClock
from tests.support.monitor_log import group_message, message

DIGEST = bytes(range(32))


def logged(now: datetime, count: int = 5, **columns: list[Any]) -> prediction_log_pb2.PredictionGroup:
    """Requests req_0 to req_<count - 1>, of which the second failed."""
    codes = [13 if place == 1 else 0 for place in range(count)]
    group = group_message(
        [1000 + place for place in range(count)], at=now, codes=codes, reasons=[code and 404 for code in codes]
    )
    for name, values in columns.items():
        getattr(group, name).extend(values)
    return group


def ids(answer: monitor_service_pb2.ListInferenceLogsResponse) -> list[str]:
    return [one.request_id for one in answer.inference_logs]


def asked(now: datetime, **fields: Any) -> monitor_service_pb2.ListInferenceLogsRequest:
    """The hour around `now`."""
    request = monitor_service_pb2.ListInferenceLogsRequest(model_name="digits", **fields)
    request.start_time.FromDatetime(now - timedelta(minutes=30))
    request.end_time.FromDatetime(now + timedelta(minutes=30))
    return request


async def test_entries_have_all_that_was_logged_newest_first(monitor: RunningMonitor, now: datetime) -> None:
    outputs = ['{"label":[3],"text":["tab\\t \\\\N \\u00fc ü"]}', "", '{"label":[4]}', "", ""]
    group = logged(
        now,
        request_input_hashes=[DIGEST, DIGEST, b"", b"", b""],
        request_outputs=outputs,
        request_users=["ann", "bob\t\\N\n", "", "ann", ""],
        request_teams=["red", "", "", "", ""],
        request_kinds=[0, 0, 2, 4, 0],
        request_trace_ids=[b"t" * 16, b"", b"", b"", b""],
    )
    await monitor.send(message(1, group))
    answer = await monitor.metrics.ListInferenceLogs(asked(now))
    assert ids(answer) == ["req_4", "req_3", "req_2", "req_1", "req_0"]
    first, failed = answer.inference_logs[4], answer.inference_logs[3]
    assert MessageToDict(first.output) == json.loads(outputs[0])
    assert (first.input_hash, first.user_id, first.latency_ms) == (DIGEST.hex(), "ann", 1.0)
    assert dict(first.metadata) == {"rows": "1", "code": "0", "team": "red", "trace_id": (b"t" * 16).hex()}
    assert (first.model_name, first.version, first.deployment_name) == ("digits", "v1.0.0", "main")
    assert first.timestamp.ToDatetime() == now.replace(tzinfo=None)
    assert (failed.user_id, failed.HasField("output")) == ("bob\t\\N\n", False)
    assert failed.error_message
    assert answer.inference_logs[2].metadata["kind"] == "shadow"


async def test_every_filter_and_every_page_finds_what_it_should(monitor: RunningMonitor, now: datetime) -> None:
    other = group_message([1], at=now, version="v2.0.0")
    other.request_ids[0] = "other"
    elsewhere = group_message([1], at=now, model="iris")
    await monitor.send(message(1, logged(now, request_users=["ann", "bob", "", "ann", ""]), other, elsewhere))

    async def found(**fields: Any) -> list[str]:
        return ids(await monitor.metrics.ListInferenceLogs(asked(now, **fields)))

    assert await found(version="2.0.0") == ["other"]
    assert await found(request_id="req_2") == ["req_2"]
    assert await found(user_id="ann") == ["req_3", "req_0"]
    assert await found(errors_only=True) == ["req_1"]
    assert await found(user_id="ann", errors_only=True) == []
    assert await found(request_id="req_0' OR true --") == []
    seen: list[str] = []
    token = ""
    while True:
        page = await monitor.metrics.ListInferenceLogs(asked(now, page_size=2, page_token=token))
        seen += ids(page)
        token = page.next_page_token
        if not token:
            break
    assert len(seen) == 6
    assert set(seen) == {"req_0", "req_1", "req_2", "req_3", "req_4", "other"}
    with pytest.raises(MeshError) as caught:
        await monitor.metrics.ListInferenceLogs(
            asked(now, page_token=page.next_page_token or "bm9uZQ", version="v1.0.0")
        )
    assert caught.value.reason is Reason.INVALID_PAGE_TOKEN


@pytest.mark.parametrize(
    ("start", "end", "fields", "word"),
    [
        (timedelta(days=40), timedelta(0), {}, "30 days"),
        (timedelta(0), timedelta(hours=1), {}, "end_time"),
        (-timedelta(hours=2), -timedelta(hours=3), {}, "start_time"),
        (timedelta(hours=1), timedelta(0), {"version": "newest"}, "version"),
        (timedelta(hours=1), timedelta(0), {"user_id": "x" * 2000}, "user_id"),
        (timedelta(hours=1), timedelta(0), {"page_size": 1001}, "page_size"),
    ],
)
async def test_what_cannot_be_searched_is_refused_with_the_field(
    monitor: RunningMonitor, start: timedelta, end: timedelta, fields: dict[str, Any], word: str
) -> None:
    moment = SystemClock().now()
    request = monitor_service_pb2.ListInferenceLogsRequest(model_name="digits", **fields)
    request.start_time.FromDatetime(moment - start)
    request.end_time.FromDatetime(moment - end)
    with pytest.raises(MeshError) as caught:
        await monitor.metrics.ListInferenceLogs(request)
    assert caught.value.reason is Reason.INVALID_FIELD
    assert word in caught.value.message


async def test_what_found_no_room_is_counted_and_told(settings: MonitorSettings, now: datetime) -> None:
    made = build(settings.model_copy(update={"log_rows_max": 3}), clock=SystemClock())
    await made.lifecycle.start()
    monitor = RunningMonitor(made)
    try:
        await _told_of_losses(monitor, now)
    finally:
        await monitor.stop()


async def _told_of_losses(monitor: RunningMonitor, now: datetime) -> None:
    await monitor.send(message(1, logged(now), dropped_total=7))
    health = await monitor.metrics.GetLogHealth(monitor_service_pb2.GetLogHealthRequest())
    assert (health.stored, health.dropped_count, health.unkept_count, health.window_minutes) == (True, 7, 2, 60)
    assert len(ids(await monitor.metrics.ListInferenceLogs(asked(now)))) == 3
    with pytest.raises(MeshError, match="window_minutes"):
        await monitor.metrics.GetLogHealth(monitor_service_pb2.GetLogHealthRequest(window_minutes=1441))


def update(
    *paths: str, etag: str = "", version: str = "", **fields: Any
) -> monitor_service_pb2.UpdateLoggingPolicyRequest:
    policy = inference_log_pb2.LoggingPolicy(model_name="digits", version=version, etag=etag, **fields)
    request = monitor_service_pb2.UpdateLoggingPolicyRequest(logging_policy=policy)
    request.update_mask.paths.extend(paths)
    return request


def get(version: str = "") -> monitor_service_pb2.GetLoggingPolicyRequest:
    return monitor_service_pb2.GetLoggingPolicyRequest(model_name="digits", version=version)


async def test_a_policy_is_the_versions_or_the_models_or_the_default_and_changes_by_etag(
    monitor: RunningMonitor,
) -> None:
    default = await monitor.metrics.GetLoggingPolicy(get())
    assert (default.sample_rate, default.log_output, default.etag) == (1.0, False, "0")
    models = await monitor.metrics.UpdateLoggingPolicy(
        update(sample_rate=0.5, log_output=True, redacted_fields=["secret"], etag="0")
    )
    assert (models.sample_rate, models.etag) == (0.5, "1")
    inherited = await monitor.metrics.GetLoggingPolicy(get("1.0.0"))
    assert (inherited.version, inherited.sample_rate, list(inherited.redacted_fields)) == ("v1.0.0", 0.5, ["secret"])
    assert inherited.etag == "0"
    own = await monitor.metrics.UpdateLoggingPolicy(update("sample_rate", version="v1.0.0", sample_rate=0.25))
    assert (own.sample_rate, own.log_output, list(own.redacted_fields)) == (0.25, True, ["secret"])
    with pytest.raises(MeshError) as caught:
        await monitor.metrics.UpdateLoggingPolicy(update(sample_rate=0.1, etag="0"))
    assert caught.value.reason is Reason.ETAG_MISMATCH
    for wrong, field in (
        (update(sample_rate=1.5), "logging_policy.sample_rate"),
        (update(sample_rate=float("nan")), "logging_policy.sample_rate"),
        (update(redacted_fields=["a", "a"]), "logging_policy.redacted_fields[1]"),
        (update("etag", sample_rate=1.0), "update_mask"),
    ):
        with pytest.raises(MeshError) as caught:
            await monitor.metrics.UpdateLoggingPolicy(wrong)
        assert caught.value.reason is Reason.INVALID_FIELD
        assert field in caught.value.message
    assert (await monitor.metrics.GetLoggingPolicy(get())).sample_rate == 0.5


async def test_policies_reach_whoever_watches_any_monitor_and_set_what_is_kept(
    start_monitor: StartMonitor, now: datetime
) -> None:
    one, other = await start_monitor(), await start_monitor()
    stub: Any = logging_policy_service_pb2_grpc.LoggingPolicyServiceStub(other.channel)
    await one.metrics.UpdateLoggingPolicy(update(sample_rate=0.0, version="v9.0.0"))
    told = aiter(stub.WatchLoggingPolicies(logging_policy_service_pb2.WatchLoggingPoliciesRequest(batcher_id="b")))
    first = await asyncio.wait_for(anext(told), 10)
    assert first.full
    await one.metrics.UpdateLoggingPolicy(update(sample_rate=0.0, log_input_hash=True))
    news = await asyncio.wait_for(anext(told), 10)
    while not any(policy.log_input_hash for policy in news.policies):
        assert not news.full
        news = await asyncio.wait_for(anext(told), 10)
    assert news.policies[-1].version == ""
    await other.send(message(1, logged(now)))
    assert ids(await one.metrics.ListInferenceLogs(asked(now))) == ["req_1"], (
        "failed ones are logged whatever the share"
    )


@pytest.fixture
async def many(database_url: str) -> AsyncIterator[AsyncEngine]:
    """Five days of 50,000 rows of ten models."""
    await migrate(database_url, service="monitor")
    engine = create_engine(database_url, schema="monitor")
    tables = (PartitionedTable("inference_logs", 30),)
    await PartitionKeeper(store=PostgresPartitionStore(engine), tables=tables, clock=FakeClock()).keep()
    async with engine.begin() as connection:
        await connection.execute(
            text("""
                INSERT INTO inference_logs (request_id, model_id, version_id, deployment_id, latency_ms, error_message,
                                            "timestamp", user_id)
                SELECT 'r' || n, 'm' || n % 10, CASE WHEN n % 1000 < 10 THEN 'v2.0.0' ELSE 'v1.0.0' END, 'main', 1,
                       CASE WHEN n % 500 < 10 THEN 'MODEL_FAILED' END,
                       date_trunc('day', CAST(:noon AS timestamptz), 'UTC') - interval '1 day'
                           + n * interval '5 days' / 50001, 'u' || n / 10 % 500
                FROM generate_series(1, 50000) AS n
            """),
            {"noon": FakeClock().now()},
        )
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.execute(text("ANALYZE inference_logs"))
    yield engine
    await engine.dispose()


NOON = FakeClock().now()
DAY = (NOON - timedelta(hours=1), NOON + timedelta(hours=1))


@pytest.mark.parametrize(
    ("query", "index"),
    [
        (LogQuery("m1", *DAY), "model_id_timestamp_id_version_id"),
        (LogQuery("m1", *DAY, version="v2.0.0"), "model_id_timestamp_id_version_id"),
        (LogQuery("m1", *DAY, user_id="u7"), "model_id_user_id_timestamp_id"),
        (LogQuery("m1", *DAY, errors_only=True), "model_id_timestamp_id_idx"),
        (LogQuery("m1", *DAY, request_id="r7"), "request_id"),
    ],
)
async def test_a_search_reads_one_partition_by_an_index_that_fits(
    many: AsyncEngine, query: LogQuery, index: str
) -> None:
    for before in (None, Position(NOON, "00000000-0000-0000-0000-000000000000")):
        statement, values = newest_statement(query, before=before, limit=51)
        async with many.connect() as connection:
            plan = [row[0] for row in await connection.execute(text(f"EXPLAIN {statement.text}"), values)]
        scans = [line for line in plan if " Scan" in line]
        assert all("Seq Scan" not in line for line in scans), plan
        assert {f"inference_logs_{NOON:%Y%m%d}"} == {
            word.split("_model")[0].split("_request")[0]
            for line in scans
            for word in line.split()
            if "inference_logs_2" in word
        }, plan
        assert any(index in line for line in scans), plan
        # Rows of other versions are passed over in the index: none is fetched for nothing.
        assert not query.version or any("Index Cond" in line and "version_id" in line for line in plan), plan
