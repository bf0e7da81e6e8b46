"""What looking at alert rules costs the monitor: 1,000 models with three rules each, over minutes of traffic.

Run with `python -m benchmarks.alert_cost`; it starts a PostgreSQL of its own, with durable commits as in production.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from datetime import UTC, timedelta
from pathlib import Path

import numpy as np
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.common.clock import SystemClock
from services.common.database import create_engine, migrate
from services.monitor.adapters.postgres_cells import add_cells
from services.monitor.adapters.postgres_drift_seen import PostgresDriftReports
from services.monitor.adapters.postgres_partitions import PostgresPartitionStore
from services.monitor.adapters.postgres_rules import PostgresRuleStore
from services.monitor.adapters.postgres_usage import PostgresUsageStore
from services.monitor.adapters.postgres_windows import PostgresWindowReader
from services.monitor.domain.aggregate import Cell, CellKey
from services.monitor.domain.partitions import PartitionedTable
from services.monitor.domain.rules import BurnRate, RuleSpec, Threshold
from services.monitor.domain.window import Step, minute_of
from services.monitor.engines.evaluator import Evaluator
from services.monitor.engines.keeper import PartitionKeeper
from services.monitor.engines.measuring import Measuring
from services.monitor.ports_alerts import Asked, ModelChange
from services.supervisor.parts.postgres import database_url, postgres_part, read_password
from services.supervisor.process import Process
from tests.support.parts import free_port

TABLES = tuple(
    PartitionedTable(name, 30) for name in ("model_metrics", "latency_sketches", "inference_logs", "prediction_labels")
)
RULES = (
    RuleSpec("bench-errors", Threshold("error_rate", ">", 0.05, 300, 60), "critical"),
    RuleSpec("bench-latency", Threshold("latency_p95_ms", ">", 200.0, 300, 60), "warning"),
    RuleSpec("bench-budget", BurnRate(0.999, "success", 0.0, 3600, 300, 14.4), "critical"),
)
_MODELS_AT_ONCE = 50


class NoChanges:
    """A `ChangeSource` of nothing."""

    async def last(self, model: str) -> ModelChange | None:
        """Nothing."""
        return ModelChange(f"{model} did not change")


async def main(models: int, minutes: int, looks: int) -> None:
    """Fills the database, looks, prints."""
    with tempfile.TemporaryDirectory(prefix="infermesh-bench-") as folder:
        port, data_dir = free_port(), Path(folder) / "data"
        part = postgres_part(port=port, data_dir=data_dir, log_path=Path(folder) / "postgres.log")
        process = await Process.start(part, clock=SystemClock())
        try:
            await process.wait_ready()
            url = database_url(port=port, password=read_password(data_dir), database="postgres")
            await migrate(url, service="monitor")
            engine = create_engine(url, schema="monitor")
            await _measure(engine, models, minutes, looks)
            await engine.dispose()
        finally:
            await process.stop()


async def _measure(engine: AsyncEngine, models: int, minutes: int, looks: int) -> None:
    clock = SystemClock()
    await PartitionKeeper(store=PostgresPartitionStore(engine), tables=TABLES, clock=clock).keep()
    await _fill(engine, models, minutes, clock)
    store = PostgresRuleStore(engine)
    for rule in await store.find("", after="", limit=100):
        await store.delete(rule.spec.name, etag="", now=clock.now())
    for spec in RULES:
        await store.create(spec, Asked(), now=clock.now())
    evaluator = Evaluator(
        store=store,
        measuring=Measuring(
            reader=PostgresWindowReader(engine),
            usage=PostgresUsageStore(engine),
            drift=PostgresDriftReports(engine, clock=clock),
        ),
        changes=NoChanges(),
        clock=clock,
        period_s=5.0,
    )
    first_s, first_cpu_s = await _look(evaluator)
    took = [await _look(evaluator) for _ in range(looks)]
    print(f"{models} models, {len(RULES)} rules, {minutes} minutes of traffic in every model")
    print(f"first look: {first_s:.2f} s, {first_cpu_s:.2f} s of CPU of the monitor")
    print(
        f"each look after it ({looks}): {statistics.median(one for one, _ in took):.3f} s at the median, "
        f"{statistics.median(cpu for _, cpu in took):.3f} s of CPU of the monitor"
    )


async def _look(evaluator: Evaluator) -> tuple[float, float]:
    began, cpu = time.perf_counter(), time.process_time()
    assert await evaluator.look()
    return time.perf_counter() - began, time.process_time() - cpu


async def _fill(engine: AsyncEngine, models: int, minutes: int, clock: SystemClock) -> None:
    now = minute_of(clock.now().astimezone(UTC) - timedelta(minutes=1))
    cell = Cell()
    cell.counts.update({("request_count", ""): 600, ("error_count", "INTERNAL"): 3})
    cell.counts.update({("predictions_by_confidence", "high"): 500, ("predictions_by_confidence", "low"): 100})
    cell.latency.add(np.random.default_rng(7).lognormal(8.5, 0.4, 597).astype(np.int64))
    for start in range(0, models, _MODELS_AT_ONCE):
        names = [f"model-{place}" for place in range(start, min(models, start + _MODELS_AT_ONCE))]
        cells = {CellKey(now - ago, name, "v1.0.0", "main"): cell for name in names for ago in range(minutes)}
        async with engine.begin() as connection:
            await add_cells(connection, cells, Step.MINUTE)
    async with engine.connect() as connection:
        await (await connection.execution_options(isolation_level="AUTOCOMMIT")).execute(text("ANALYZE"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--looks", type=int, default=10)
    told = parser.parse_args()
    asyncio.run(main(told.models, told.minutes, told.looks))
