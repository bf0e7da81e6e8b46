"""Usage over a real PostgreSQL: through the log, over kills, by the calls that tell it."""

import asyncio
import csv
import io
from datetime import datetime
from pathlib import Path

import psycopg
from hypothesis import settings as hypothesis_settings
from hypothesis.stateful import run_state_machine_as_test
from infermesh.monitor.v1 import model_metrics_pb2, monitor_service_pb2, prediction_log_pb2
from sqlalchemy import text

from services.common.database import create_engine, migrate
from services.monitor.adapters.postgres_log import PostgresLogStore
from services.monitor.adapters.postgres_partitions import PostgresPartitionStore
from services.monitor.adapters.postgres_usage_hours import PostgresUsageReader
from services.monitor.adapters.postgres_usage_storage import PostgresStorageStore
from services.monitor.domain.partitions import PartitionedTable
from services.monitor.engines.keeper import PartitionKeeper
from services.monitor.ports import LogStore
from services.monitor.ports_usage import StorageStore, UsageReader
from tests.integration.monitor.conftest import RunningMonitor
from tests.support.clock import FakeClock
from tests.support.monitor_log import group_message, message
from tests.support.monitor_usage_machine import UsageMachine

ROOT = Path(__file__).parents[3]
TABLES = tuple(PartitionedTable(name, 30) for name in ("model_metrics", "latency_sketches", "inference_logs"))
COST_IN_SQL = (ROOT / "docs" / "architecture" / "usage.md").read_text().split("```sql")[1].split("```")[0]
EMPTY = text(
    "TRUNCATE log_streams, team_usage, team_usage_days, team_storage, team_storage_days, team_storage_samples, "
    "model_metrics, latency_sketches"
)


def machine_over(url: str) -> type[UsageMachine]:
    """The machine, over that database."""

    class PostgresUsageMachine(UsageMachine):
        async def make_stores(self) -> tuple[LogStore, StorageStore, UsageReader]:
            self.engine = create_engine(url, schema="monitor")
            tables = PartitionKeeper(store=PostgresPartitionStore(self.engine), tables=TABLES, clock=FakeClock())
            await tables.keep()
            async with self.engine.begin() as connection:
                await connection.execute(EMPTY)
            return (
                PostgresLogStore(self.engine),
                PostgresStorageStore(self.engine),
                PostgresUsageReader(self.engine),
            )

        async def close(self) -> None:
            await self.engine.dispose()

    return PostgresUsageMachine


def test_what_was_counted_is_charged_once_whatever_dies(database_url: str) -> None:
    asyncio.run(migrate(database_url, service="monitor"))
    run_state_machine_as_test(
        machine_over(database_url),
        settings=hypothesis_settings(max_examples=8, stateful_step_count=15, deadline=None),
    )


def used_group(at: datetime, *, team: str, requests: int, compute_us: int) -> prediction_log_pb2.PredictionGroup:
    group = group_message([2_000_000] * requests, at=at)
    group.request_rows.extend([10] * requests)
    group.request_teams.extend([team] * requests)
    group.request_compute_us.extend([compute_us] * requests)
    group.gpus = 2.0
    return group


async def test_usage_goes_from_the_log_to_the_bill(monitor: RunningMonitor, now: datetime, database_url: str) -> None:
    stub = monitor.metrics
    await stub.UpdatePriceTable(
        monitor_service_pb2.UpdatePriceTableRequest(
            price_table=model_metrics_pb2.PriceTable(currency="EUR", per_1000_requests=1.0, per_gpu_hour=3.6)
        )
    )
    chunks = [
        message(1, used_group(now, team="vision", requests=100, compute_us=500_000)),
        message(2, used_group(now, team="risk", requests=10, compute_us=0)),
    ]
    assert await monitor.send(*chunks) == 2
    assert await monitor.send(*chunks) == 2
    listed = await stub.ListTeamUsage(monitor_service_pb2.ListTeamUsageRequest())
    risk, vision = listed.usage
    assert (risk.team_name, risk.request_count, risk.gpu_seconds, risk.cost) == ("risk", 10, 0, 0.01)
    assert (vision.team_name, vision.model_name, vision.version) == ("vision", "digits", "v1.0.0")
    assert (vision.request_count, vision.prediction_count) == (100, 1000)
    assert (vision.serving_seconds, vision.compute_seconds, vision.gpu_seconds) == (200.0, 50.0, 100.0)
    assert (vision.cost, vision.cost_per_1000_predictions) == (0.2, 0.2)
    pieces = [
        piece.data async for piece in stub.ExportTeamUsage(monitor_service_pb2.ExportTeamUsageRequest(team_name="risk"))
    ]
    (row,) = csv.DictReader(io.StringIO(b"".join(pieces).decode(), newline=""))
    assert row["hour"] == f"{now:%Y-%m-%dT%H}:00:00Z"
    assert (row["team"], row["requests"], row["predictions"], row["cost"]) == ("risk", "10", "100", "0.01")
    with psycopg.connect(database_url.replace("+psycopg", "")) as connection:
        row_in_sql = connection.execute(COST_IN_SQL).fetchall()
    assert [(team, model, float(cost)) for team, model, cost in row_in_sql] == [
        ("risk", "digits", 0.1),
        ("vision", "digits", 0.2),
    ]


async def test_callers_see_their_own_and_nothing_of_others(monitor: RunningMonitor, now: datetime) -> None:
    await monitor.send(message(1, used_group(now, team="vision", requests=1, compute_us=1)))
    said = (("x-infermesh-role", "viewer"), ("x-infermesh-team", "vision"))
    listed = await monitor.metrics.ListTeamUsage(monitor_service_pb2.ListTeamUsageRequest(), metadata=said)
    assert [one.team_name for one in listed.usage] == ["vision"]
    others = (("x-infermesh-role", "viewer"), ("x-infermesh-team", "risk"))
    listed = await monitor.metrics.ListTeamUsage(monitor_service_pb2.ListTeamUsageRequest(), metadata=others)
    assert not listed.usage
