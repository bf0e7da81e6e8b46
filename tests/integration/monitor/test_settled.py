"""A window that is read again and again is what one sees who reads it for the first time, with late requests too."""

import random
from datetime import timedelta

from services.common.clock import SystemClock
from services.common.database import create_engine, migrate
from services.monitor.adapters.postgres_evidence import PostgresEvidenceStore
from services.monitor.adapters.postgres_log import PostgresLogStore
from services.monitor.adapters.postgres_partitions import PostgresPartitionStore
from services.monitor.adapters.postgres_rollup import PostgresRollupStore
from services.monitor.domain.evidence import WatchKey
from services.monitor.domain.measures import REQUESTS
from services.monitor.domain.partitions import PartitionedTable
from services.monitor.domain.records import StreamKey
from services.monitor.engines.keeper import PartitionKeeper, RollupKeeper
from services.monitor.engines.stream import RecorderLimits, Stream
from tests.support.monitor_log import group_of

LIMITS = RecorderLimits(flush_period_s=1.0, cells_max=100, rows_max=0, sample_rate=0.0)
TABLES = [PartitionedTable(name, 30) for name in ("model_metrics", "latency_sketches", "inference_logs")]


async def test_what_is_remembered_is_what_is_stored(database_url: str) -> None:
    await migrate(database_url, service="monitor")
    engine, clock, draw = create_engine(database_url, schema="monitor"), SystemClock(), random.Random(7)
    await PartitionKeeper(store=PostgresPartitionStore(engine), tables=TABLES, clock=clock).keep()
    store, remembering = PostgresLogStore(engine), PostgresEvidenceStore(engine)
    now = clock.now()
    keys = [WatchKey("digits", now.replace(microsecond=0) - timedelta(seconds=ago)) for ago in (12_000, 1803, 301, 7)]
    expected = dict.fromkeys(keys, 0)
    for sequence in range(1, 25):
        # Now, a moment ago, or hours ago: the last two are in minutes that are remembered already.
        moment = now - timedelta(seconds=draw.choice([0, 0, 0, 200, 1900, 7200]))
        group = group_of([1000] * sequence, times_us=[int(moment.timestamp() * 1_000_000)] * sequence)
        stream = Stream(StreamKey("batcher-0", 1), received=sequence, durable=sequence - 1)
        stream.waiting.add(group, now_us=int(now.timestamp() * 1_000_000), reason_name=str, limits=LIMITS)
        batch = stream.to_store()
        assert batch is not None
        for key in keys:
            await remembering.register(key, now=key.start)
            expected[key] += sequence if moment >= key.start else 0
        await store.apply(batch)
        if sequence == 12:
            await RollupKeeper(store=PostgresRollupStore(engine), clock=clock).keep()
        for reader in (remembering, PostgresEvidenceStore(engine)):
            found = await reader.read(keys, now=now)
            counts = {
                key: (sum(cell.counts[REQUESTS] for cell in sums.cells.values()),
                      sum(cell.latency.count for cell in sums.cells.values()))
                for key, sums in found.items()
            }  # fmt: skip
            assert counts == {key: (count, count) for key, count in expected.items()}
    await engine.dispose()
