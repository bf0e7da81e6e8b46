"""What the engines rely on, of PostgreSQL and of what stands in for it."""

from collections.abc import AsyncIterator

import pytest

from services.common.database import create_engine, migrate
from services.monitor.adapters.postgres_log import PostgresLogStore
from services.monitor.adapters.postgres_metrics import PostgresMetricReader
from services.monitor.adapters.postgres_partitions import PostgresPartitionStore
from services.monitor.adapters.postgres_rollup import PostgresRollupStore
from services.monitor.adapters.postgres_usage import PostgresUsageStore
from services.monitor.domain.aggregate import MINUTE_US, Cells
from services.monitor.domain.figures import Usage
from services.monitor.domain.log_rows import sampled_rows
from services.monitor.domain.measures import REQUESTS
from services.monitor.domain.partitions import PartitionedTable
from services.monitor.domain.records import StreamKey
from services.monitor.domain.window import minute_of
from services.monitor.engines.keeper import PartitionKeeper, RollupKeeper
from services.monitor.ports import Applied, Batch, LogStore, MetricQuery, MetricReader, UsageStore
from tests.support.clock import NOON, FakeClock
from tests.support.monitor_log import group_of
from tests.support.monitor_stores import MemoryStore, MemoryUsageStore

STREAM = StreamKey("batcher-0", 1)
NOW_MINUTE = minute_of(NOON)
NOW_US = NOW_MINUTE * MINUTE_US
TABLES = tuple(PartitionedTable(name, 30) for name in ("model_metrics", "latency_sketches", "inference_logs"))
Stores = tuple[LogStore, MetricReader, UsageStore]


@pytest.fixture(params=["memory", "postgres"])
def url(request: pytest.FixtureRequest) -> str:
    """Where the stores are; "" for memory."""
    return str(request.getfixturevalue("database_url")) if request.param == "postgres" else ""


@pytest.fixture
async def stores(url: str) -> AsyncIterator[Stores]:
    if not url:
        memory = MemoryStore()
        yield memory, memory, MemoryUsageStore()
        return
    await migrate(url, service="monitor")
    engine = create_engine(url, schema="monitor")
    await PartitionKeeper(store=PostgresPartitionStore(engine), tables=TABLES, clock=FakeClock()).keep()
    yield PostgresLogStore(engine), PostgresMetricReader(engine), PostgresUsageStore(engine)
    await engine.dispose()


def batch(base: int, last: int, *, minute: int = NOW_MINUTE, version: str = "v1.0.0", requests: int = 3) -> Batch:
    group = group_of([1000, 2000, 4_000_000_000][:requests], times_us=[minute * MINUTE_US] * requests, version=version,
                     by_class={"a": 2, 'quote " \\ and ü': 1})  # fmt: skip
    cells = Cells()
    cells.add_group(group, now_us=NOW_US, reason_name=str)
    rows = list(sampled_rows(group, sample_rate=1.0, now_us=NOW_US, reason_name=str))
    return Batch(STREAM, base, last, dropped_total=0, cells=cells, rows=rows)


def query(version: str | None = None, *, deployment: str | None = None, step_minutes: int = 0) -> MetricQuery:
    return MetricQuery("digits", version, deployment, NOW_MINUTE - 60, NOW_MINUTE + 60, step_minutes)


async def test_a_position_begins_at_zero_and_follows_the_batches(stores: Stores) -> None:
    log, _, _ = stores
    assert await log.position(STREAM) == 0
    assert await log.apply(batch(0, 4)) is Applied.COUNTED
    assert await log.position(STREAM) == 4
    assert await log.position(StreamKey("batcher-0", 2)) == 0


async def test_a_batch_is_counted_once(stores: Stores) -> None:
    log, reader, _ = stores
    assert await log.apply(batch(0, 4)) is Applied.COUNTED
    assert await log.apply(batch(0, 4)) is Applied.COUNTED_BEFORE
    assert await log.apply(batch(0, 3)) is Applied.COUNTED_BEFORE
    [cell] = (await reader.read(query())).values()
    assert cell.counts[REQUESTS] == 3


async def test_a_batch_on_another_base_changes_nothing(stores: Stores) -> None:
    log, reader, _ = stores
    await log.apply(batch(0, 4))
    assert await log.apply(batch(2, 6)) is Applied.CONFLICT
    assert await log.apply(batch(5, 6)) is Applied.CONFLICT
    assert await log.position(STREAM) == 4
    [cell] = (await reader.read(query())).values()
    assert cell.counts[REQUESTS] == 3


async def test_what_is_read_is_what_was_counted(stores: Stores) -> None:
    log, reader, _ = stores
    expected = Cells()
    for place, minute in enumerate((NOW_MINUTE, NOW_MINUTE, NOW_MINUTE - 1)):
        expected.merge(batch(place, place + 1, minute=minute).cells)
        await log.apply(batch(place, place + 1, minute=minute))
    found = await reader.read(query(step_minutes=1))
    assert {step: cell for (_, step), cell in found.items()} == {key.minute: cell for key, cell in expected.items()}


async def test_versions_and_deployments_are_told_apart(stores: Stores) -> None:
    log, reader, _ = stores
    await log.apply(batch(0, 1))
    await log.apply(batch(1, 2, version="v2.0.0", requests=1))
    counts = {version: cell.counts[REQUESTS] for (version, _), cell in (await reader.read(query())).items()}
    assert counts == {"v1.0.0": 3, "v2.0.0": 1}
    assert [version for version, _ in await reader.read(query("v2.0.0"))] == ["v2.0.0"]
    assert await reader.read(query("v3.0.0")) == {}
    assert len(await reader.read(query(deployment="main"))) == 2
    assert await reader.read(query(deployment="other")) == {}


async def test_steps_begin_where_the_query_begins(stores: Stores) -> None:
    log, reader, _ = stores
    await log.apply(batch(0, 1, minute=NOW_MINUTE - 1))
    await log.apply(batch(1, 2, minute=NOW_MINUTE))
    steps = {step for _, step in await reader.read(query(step_minutes=60))}
    assert steps == {NOW_MINUTE - 60, NOW_MINUTE}


async def test_hours_are_rolled_up_and_late_requests_are_in_them(database_url: str) -> None:
    await migrate(database_url, service="monitor")
    engine = create_engine(database_url, schema="monitor")
    clock = FakeClock()
    await PartitionKeeper(store=PostgresPartitionStore(engine), tables=TABLES, clock=clock).keep()
    real, plain = PostgresLogStore(engine), MemoryStore()
    rollups = RollupKeeper(store=PostgresRollupStore(engine), clock=clock)
    assert await rollups.keep() == 0

    minutes_ago = [0, 1, 59, 61, 125, 190, 190, 240, 241, 300]
    for place, ago in enumerate(minutes_ago):
        if place == 7:
            assert await rollups.keep() == 3
            assert await rollups.keep() == 0
        version = "v1.0.0" if place % 2 else "v2.0.0"
        for store in (real, plain):
            await store.apply(batch(place, place + 1, minute=NOW_MINUTE - ago, version=version))
    clock.advance(3600)
    assert await rollups.keep() == 1

    reader = PostgresMetricReader(engine)
    for first, end, step_minutes in ((-300, 60, 0), (-245, -59, 0), (-240, -180, 0), (-300, 60, 60), (-300, 60, 1)):
        asked = MetricQuery("digits", None, None, NOW_MINUTE + first, NOW_MINUTE + end, step_minutes)
        assert dict(await reader.read(asked)) == dict(await plain.read(asked)), asked
    await engine.dispose()


async def test_usage_is_averaged_and_forgotten(stores: Stores) -> None:
    _, _, usage = stores
    assert await usage.average(0, NOW_MINUTE) == Usage()
    await usage.add("a", NOW_MINUTE, Usage(10.0, 20.0))
    await usage.add("a", NOW_MINUTE, Usage(30.0, 40.0))
    # Only one host has GPUs, and the others do not make them look idle.
    await usage.add("b", NOW_MINUTE - 5, Usage(80.0, 60.0, 30.0, 50.0))
    await usage.add("b", NOW_MINUTE - 5, Usage(80.0, 60.0, 90.0))
    assert await usage.average(NOW_MINUTE - 10, NOW_MINUTE + 1) == Usage(50.0, 45.0, 60.0, 50.0)
    assert await usage.average(NOW_MINUTE, NOW_MINUTE + 1) == Usage(20.0, 30.0)
    await usage.forget(NOW_MINUTE)
    assert await usage.average(NOW_MINUTE - 10, NOW_MINUTE) == Usage()


async def test_partitions_come_ahead_and_go_after_retention(database_url: str) -> None:
    await migrate(database_url, service="monitor")
    engine = create_engine(database_url, schema="monitor")
    store, clock = PostgresPartitionStore(engine), FakeClock()
    keeper = PartitionKeeper(store=store, tables=TABLES, clock=clock)
    await keeper.keep()
    first = await store.existing("inference_logs")
    assert first == [f"inference_logs_202601{day}" for day in range(14, 19)]
    clock.advance(32 * 86_400)
    await keeper.keep()
    await keeper.keep()
    assert await store.existing("inference_logs") == [
        "inference_logs_20260117",
        "inference_logs_20260118",
        *(f"inference_logs_202602{day}" for day in range(15, 20)),
    ]
    await engine.dispose()
