"""Drift over a real PostgreSQL: rows of the log, baselines of files and of windows, reports, and what dies between."""

import asyncio
import csv
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import orjson
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.protobuf.struct_pb2 import Value
from google.protobuf.timestamp_pb2 import Timestamp
from infermesh.monitor.v1 import drift_pb2, monitor_service_pb2, outcome_pb2, prediction_log_pb2
from prometheus_client import CollectorRegistry
from sqlalchemy import text

from services.common.database import create_engine, migrate
from services.common.errors import MeshError, Reason
from services.monitor.adapters.postgres_baselines import PostgresBaselineStore
from services.monitor.adapters.postgres_drift_seen import PostgresDriftReports
from services.monitor.adapters.postgres_metrics import PostgresMetricReader
from services.monitor.adapters.postgres_partitions import PostgresPartitionStore
from services.monitor.adapters.postgres_reports import PostgresReportStore
from services.monitor.adapters.postgres_slices import PostgresSliceStore, add_slices
from services.monitor.adapters.prometheus_drift import PrometheusDriftBoard
from services.monitor.adapters.samples import FileSamples
from services.monitor.domain.drift.reports import Span
from services.monitor.domain.drift.rows import FeatureKey, Rows
from services.monitor.domain.drift.slices import SliceKey
from services.monitor.domain.drift.summary import Summary
from services.monitor.domain.judging import DriftSeen
from services.monitor.domain.partitions import PartitionedTable
from services.monitor.domain.window import minute_of
from services.monitor.engines.baselines import Baselines
from services.monitor.engines.drift import Drift
from services.monitor.engines.keeper import PartitionKeeper
from services.monitor.settings import MonitorSettings
from tests.integration.monitor.conftest import RunningMonitor, StartMonitor
from tests.support.clock import NOON, FakeClock
from tests.support.drift import sampled_group
from tests.support.monitor_log import message

MODEL, VERSION = "digits", "v1.0.0"
HOUR = timedelta(hours=1)


@pytest.fixture
def settings(settings: MonitorSettings, tmp_path: Path) -> MonitorSettings:
    """A monitor that may read samples of this test's folder."""
    return settings.model_copy(update={"sample_dir": tmp_path})


def stamp(moment: datetime) -> Timestamp:
    made = Timestamp()
    made.FromDatetime(moment)
    return made


def window(start: datetime, end: datetime) -> drift_pb2.ReferenceWindow:
    return drift_pb2.ReferenceWindow(start_time=stamp(start), end_time=stamp(end))


async def settled(monitor: RunningMonitor, baseline: drift_pb2.Baseline) -> drift_pb2.Baseline:
    """The baseline once it is read; looked at without a pause, because reading it takes no longer than that."""
    async with asyncio.timeout(20):
        while baseline.status == "pending":
            baseline = await monitor.metrics.GetBaseline(
                monitor_service_pb2.GetBaselineRequest(model_name=MODEL, baseline_id=baseline.baseline_id)
            )
    return baseline


async def sample_baseline(monitor: RunningMonitor, path: Path) -> drift_pb2.Baseline:
    sent = drift_pb2.Baseline(model_name=MODEL, version=VERSION, sample_uri=path.as_uri())
    made = await monitor.metrics.CreateBaseline(monitor_service_pb2.CreateBaselineRequest(baseline=sent))
    return await settled(monitor, made)


def write_sample(path: Path, rows: int = 2000) -> Path:
    """A training sample in the format that the name says."""
    chance = np.random.default_rng(1)
    ages = chance.normal(size=rows).tolist()
    towns = [("Bath", "York", "Hull")[one] for one in chance.integers(0, 3, rows)]
    labels = [("no", "yes")[one] for one in chance.integers(0, 2, rows)]
    table = {"age": ages, "town": towns, "label": labels}
    if path.suffix == ".parquet":
        pq.write_table(pa.table(table), path)
    elif path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(table)
            writer.writerows(zip(*table.values(), strict=True))
    else:
        lines = [orjson.dumps(dict(zip(table, row, strict=True))) for row in zip(*table.values(), strict=True)]
        path.write_bytes(b"\n".join(lines) + b"\n")
    return path


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
async def test_a_window_is_compared_with_a_training_sample(
    monitor: RunningMonitor, now: datetime, tmp_path: Path, suffix: str
) -> None:
    baseline = await sample_baseline(monitor, write_sample(tmp_path / f"sample{suffix}"))
    assert (baseline.status, baseline.row_count, baseline.created_by) == ("active", 2000, "unknown")
    await monitor.send(message(1, sampled_group(now, rows=1500, seed=2, seen=60_000)))
    stub = monitor.metrics
    ask = monitor_service_pb2.CreateDriftReportRequest(model_name=MODEL, version=VERSION)
    quiet = await stub.CreateDriftReport(ask)
    assert (quiet.severity, quiet.row_count, quiet.baseline_id) == ("none", 60_000, baseline.baseline_id)
    assert {(one.feature, one.output) for one in quiet.features} == {("age", False), ("town", False), ("label", True)}
    assert quiet.expected_accuracy == pytest.approx(0.9)
    assert not quiet.HasField("realised_accuracy")
    assert 0.5 <= quiet.domain_classifier_auc < 0.6
    await monitor.send(message(2, sampled_group(now, rows=6000, seed=3, shift=1.0, town="Rome")))
    loud = await stub.CreateDriftReport(ask)
    by_name = {one.feature: one for one in loud.features}
    assert (loud.severity, by_name["age"].severity, by_name["town"].severity) == ("high", "high", "high")
    assert by_name["label"].severity == "none"
    assert loud.features[0].severity == "high", "the worst come first"
    assert "Rome" in {one.label for one in by_name["town"].bins}
    assert not any(one.HasField("low") or one.HasField("high") for one in by_name["town"].bins)
    bins = by_name["age"].bins
    assert [one.low for one in bins[1:]] == [one.high for one in bins[:-1]]
    assert bins[0].low < -2
    assert bins[-1].high > 2
    assert "joint_drift" in loud.anomalies
    listed = await stub.ListDriftReports(monitor_service_pb2.ListDriftReportsRequest(model_name=MODEL, page_size=1))
    assert [one.report_id for one in listed.drift_reports] == [loud.report_id]
    assert not any(feature.bins for feature in listed.drift_reports[0].features)
    rest = await stub.ListDriftReports(
        monitor_service_pb2.ListDriftReportsRequest(model_name=MODEL, page_size=1, page_token=listed.next_page_token)
    )
    assert [one.report_id for one in rest.drift_reports] == [quiet.report_id]
    high = await stub.ListDriftReports(
        monitor_service_pb2.ListDriftReportsRequest(model_name=MODEL, min_severity="moderate")
    )
    assert [one.report_id for one in high.drift_reports] == [loud.report_id]
    got = await stub.GetDriftReport(
        monitor_service_pb2.GetDriftReportRequest(model_name=MODEL, report_id=loud.report_id)
    )
    assert got == loud


async def test_rows_sent_again_are_summed_up_once(
    start_monitor: StartMonitor, now: datetime, database_url: str
) -> None:
    first = await start_monitor()
    chunks = [message(number, sampled_group(now, rows=400, seed=number)) for number in (1, 2, 3)]
    assert await first.send(*chunks[:2]) == 2
    second = await start_monitor()
    assert await second.send(*chunks) == 3
    with psycopg.connect(database_url.replace("+psycopg", "")) as connection:
        rows = connection.execute("SELECT sum(row_count), sum(seen_count) FROM monitor.drift_slices").fetchone()
    assert rows == (1200, 1200)


async def test_the_monitor_says_how_many_rows_it_wants(monitor: RunningMonitor, now: datetime) -> None:
    async def requests() -> AsyncIterator[prediction_log_pb2.RecordPredictionsRequest]:
        yield message(1, sampled_group(now, rows=1, seed=1))

    answers = [answer async for answer in monitor.log.RecordPredictions(requests())]
    assert {answer.sample_rows_per_second for answer in answers} == {20.0}


async def test_a_reference_window_is_a_baseline_and_supersedes_the_one_before(
    monitor: RunningMonitor, now: datetime, tmp_path: Path
) -> None:
    before = await sample_baseline(monitor, write_sample(tmp_path / "sample.csv"))
    start = now.replace(minute=0) - HOUR
    await monitor.send(message(1, sampled_group(start, rows=1200, seed=1)))
    sent = drift_pb2.Baseline(
        model_name=MODEL, version=VERSION, reference_window=window(start, start + timedelta(minutes=10))
    )
    ask = monitor_service_pb2.CreateBaselineRequest(baseline=sent, request_id="once")
    made = await monitor.metrics.CreateBaseline(ask)
    again = await monitor.metrics.CreateBaseline(ask)
    assert again.baseline_id == made.baseline_id
    made = await settled(monitor, made)
    assert (made.status, made.row_count) == ("active", 1200)
    listed = await monitor.metrics.ListBaselines(monitor_service_pb2.ListBaselinesRequest(model_name=MODEL))
    assert [(one.baseline_id, one.status) for one in listed.baselines] == [
        (made.baseline_id, "active"),
        (before.baseline_id, "superseded"),
    ]
    other = drift_pb2.Baseline(model_name=MODEL, version=VERSION, sample_uri=(tmp_path / "sample.csv").as_uri())
    with pytest.raises(MeshError) as caught:
        await monitor.metrics.CreateBaseline(
            monitor_service_pb2.CreateBaselineRequest(baseline=other, request_id="once")
        )
    assert caught.value.reason is Reason.REQUEST_ID_REUSED


@pytest.mark.parametrize(
    ("name", "rows", "why"),
    [("small.csv", 999, "999 rows"), ("missing.csv", 0, "No such file"), ("broken.parquet", -1, "cannot be read")],
)
async def test_samples_that_are_none_fail_and_say_why(
    monitor: RunningMonitor, tmp_path: Path, name: str, rows: int, why: str
) -> None:
    path = tmp_path / name
    if rows > 0:
        write_sample(path, rows)
    elif rows < 0:
        path.write_bytes(b"no parquet at all")
    failed = await sample_baseline(monitor, path)
    assert failed.status == "failed"
    assert why in failed.status_message


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        (drift_pb2.Baseline(model_name=MODEL, version=VERSION), "baseline.source"),
        (drift_pb2.Baseline(model_name=MODEL, version=VERSION, sample_uri="file:///etc/a.csv"), "baseline.sample_uri"),
        (drift_pb2.Baseline(model_name=MODEL, version=VERSION, sample_uri="http://a/b.csv"), "baseline.sample_uri"),
        (drift_pb2.Baseline(model_name=MODEL, version=VERSION, sample_uri="s3://bucket/a.txt"), "baseline.sample_uri"),
        (drift_pb2.Baseline(model_name=MODEL, version="newest", sample_uri="s3://bucket/a.csv"), "baseline.version"),
    ],
)
async def test_bad_baselines_are_refused_with_their_field(
    monitor: RunningMonitor, sent: drift_pb2.Baseline, field: str
) -> None:
    with pytest.raises(MeshError) as caught:
        await monitor.metrics.CreateBaseline(monitor_service_pb2.CreateBaselineRequest(baseline=sent))
    assert caught.value.reason is Reason.INVALID_FIELD
    assert field in caught.value.message


async def test_nothing_is_judged_without_baseline_or_rows(
    monitor: RunningMonitor, now: datetime, tmp_path: Path
) -> None:
    ask = monitor_service_pb2.CreateDriftReportRequest(model_name=MODEL, version=VERSION)
    with pytest.raises(MeshError, match="no active baseline"):
        await monitor.metrics.CreateDriftReport(ask)
    baseline = await sample_baseline(monitor, write_sample(tmp_path / "sample.csv"))
    await monitor.send(message(1, sampled_group(now, rows=999, seed=1)))
    with pytest.raises(MeshError, match="999 sampled rows"):
        await monitor.metrics.CreateDriftReport(ask)
    forget = monitor_service_pb2.DeleteBaselineRequest(model_name=MODEL, baseline_id=baseline.baseline_id)
    await monitor.metrics.DeleteBaseline(forget)
    with pytest.raises(MeshError) as caught:
        await monitor.metrics.DeleteBaseline(forget)
    assert caught.value.reason is Reason.BASELINE_NOT_FOUND


async def test_outcomes_that_come_late_are_in_the_report_that_was_made_before(
    monitor: RunningMonitor, now: datetime, tmp_path: Path
) -> None:
    await sample_baseline(monitor, write_sample(tmp_path / "sample.csv"))
    group = sampled_group(now, rows=1200, seed=1)
    for _ in range(1200):
        group.request_labels.add(classes=["yes"])
    await monitor.send(message(1, group))
    made = await monitor.metrics.CreateDriftReport(
        monitor_service_pb2.CreateDriftReportRequest(model_name=MODEL, version=VERSION)
    )
    assert not made.HasField("realised_accuracy")
    outcomes = [
        outcome_pb2.Outcome(request_id=f"req_{at}", ground_truth=Value(string_value="yes" if at % 2 else "no"))
        for at in range(400)
    ]
    await monitor.metrics.ReportOutcomes(monitor_service_pb2.ReportOutcomesRequest(outcomes=outcomes))
    got = await monitor.metrics.GetDriftReport(
        monitor_service_pb2.GetDriftReportRequest(model_name=MODEL, report_id=made.report_id)
    )
    assert (got.realised_accuracy, got.outcome_count) == (0.5, 400)
    assert "accuracy" in got.anomalies
    assert "accuracy" not in made.anomalies


class Stores:
    """The stores over one database, and a clock that stands."""

    def __init__(self, url: str) -> None:
        self.engine = create_engine(url, schema="monitor")
        self.clock = FakeClock()
        self.slices = PostgresSliceStore(self.engine)
        self.baselines = PostgresBaselineStore(self.engine)
        self.reports = PostgresReportStore(self.engine)
        self.registry = CollectorRegistry()
        self.drift = Drift(
            baselines=self.baselines,
            reports=self.reports,
            slices=self.slices,
            reader=PostgresMetricReader(self.engine),
            board=PrometheusDriftBoard(self.registry),
            clock=self.clock,
            retention_days=90,
        )
        self.made = Baselines(
            store=self.baselines, slices=self.slices, samples=FileSamples(), clock=self.clock, retention_days=30
        )

    async def add(self, at: datetime, rows: int, *, seed: int, shift: float = 0.0) -> None:
        chance = np.random.default_rng(seed)
        summary = Summary()
        summary.add(Rows(rows, numbers={FeatureKey("age"): chance.normal(size=rows) + shift}), chance)
        async with self.engine.begin() as connection:
            await add_slices(connection, {SliceKey(MODEL, VERSION, minute_of(at) // 10 * 10): summary})

    async def slice_rows(self) -> list[tuple[int, int]]:
        async with self.engine.begin() as connection:
            found = await connection.execute(
                text('SELECT span_minutes, row_count FROM drift_slices ORDER BY "timestamp", row_count')
            )
            return [(int(span), int(rows)) for span, rows in found]


@pytest.fixture
async def stores(database_url: str) -> AsyncIterator[Stores]:
    await migrate(database_url, service="monitor")
    made = Stores(database_url)
    tables = [PartitionedTable("drift_slices", 30)]
    await PartitionKeeper(store=PostgresPartitionStore(made.engine), tables=tables, clock=made.clock).keep()
    yield made
    await made.engine.dispose()


async def test_parts_of_a_slot_are_put_together_and_nothing_is_lost(stores: Stores) -> None:
    for seed in range(3):
        await stores.add(NOON, 500, seed=seed)
        await stores.add(NOON + timedelta(minutes=10), 100, seed=seed)
    stores.clock.advance(15 * 60)
    assert await stores.slices.compact(now=stores.clock.now()) == 0, "the first slot has not settled"
    stores.clock.advance(6 * 60)
    assert await stores.slices.compact(now=stores.clock.now()) == 1
    assert await stores.slice_rows() == [(10, 1500), (10, 100), (10, 100), (10, 100)]
    stores.clock.advance(26 * 3600)
    await asyncio.gather(*(stores.slices.compact(now=stores.clock.now()) for _ in range(3)))
    assert await stores.slice_rows() == [(60, 1800)]
    whole = await stores.slices.read(MODEL, VERSION, Span(NOON + timedelta(minutes=30), NOON + HOUR))
    assert whole.rows == 1800, "an hour that is put together is read whole"
    assert (await stores.slices.read(MODEL, VERSION, Span(NOON + HOUR, NOON + 2 * HOUR))).rows == 0
    assert (await stores.slices.read(MODEL, VERSION, Span(NOON - HOUR, NOON))).rows == 0


async def test_each_hour_has_one_report_however_many_monitors_there_are(stores: Stores) -> None:
    await stores.add(NOON, 2000, seed=1)
    stores.clock.advance(600)
    await stores.made.create(
        MODEL, VERSION, sample_uri="", start=NOON, end=NOON + timedelta(minutes=10), by="ann", request_id=""
    )
    assert await stores.made.read_one()
    assert not await stores.made.read_one()
    await stores.add(NOON + HOUR, 1500, seed=2, shift=1.0)
    await stores.add(NOON + 2 * HOUR, 900, seed=3)
    stores.clock.advance(2 * 3600 - 600 + 4 * 60)
    assert await stores.drift.make_due() == 1, "the baseline's own hour; the next one may still be added to"
    stores.clock.advance(60)
    made = await asyncio.gather(*(stores.drift.make_due() for _ in range(3)))
    assert sum(made) >= 1
    stores.clock.advance(3600)
    assert await stores.drift.make_due() == 0, "too few rows in the third hour"
    found = await stores.reports.find(
        MODEL, "", severities=("none", "moderate", "high"), span=Span(NOON, NOON + 9 * HOUR), after=None, limit=9
    )
    assert [(one.window.start, one.severity) for one in found] == [(NOON + HOUR, "high"), (NOON, "none")]
    (newest,) = await stores.reports.newest(since=NOON)
    assert newest.counts == {"none": 0, "moderate": 0, "high": 1}
    seen = PostgresDriftReports(stores.engine, clock=stores.clock)
    assert await seen.newest() == {(MODEL, VERSION): DriftSeen("high", {"age": "high"})}
    stores.clock.advance(4 * 3600)
    assert await seen.newest() == {}, "too old to say anything of now"


async def test_only_one_reads_a_baseline_and_another_takes_over(stores: Stores) -> None:
    await stores.add(NOON, 2000, seed=1)
    stores.clock.advance(600)
    await stores.made.create(
        MODEL, VERSION, sample_uri="", start=NOON, end=NOON + timedelta(minutes=10), by="ann", request_id=""
    )
    assert await stores.baselines.claim(now=stores.clock.now()) is not None
    assert await stores.baselines.claim(now=stores.clock.now()) is None
    stores.clock.advance(601)
    assert await stores.baselines.claim(now=stores.clock.now()) is not None
