"""Counts batches of the log in PostgreSQL: sums, sketches, log rows and the stream's position in one transaction."""

from datetime import UTC, datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.monitor.adapters.database import transaction
from services.monitor.adapters.postgres_cells import add_cells, lock_counting, rolled_up_until
from services.monitor.adapters.postgres_joins import MayJoin, join_arrivals
from services.monitor.adapters.postgres_log_rows import copy_log_rows
from services.monitor.adapters.postgres_predictions import add_predictions
from services.monitor.adapters.postgres_seconds import add_drops, add_seconds, mark_coarse, number_late
from services.monitor.adapters.postgres_shadows import add_examples
from services.monitor.adapters.postgres_slices import add_slices
from services.monitor.adapters.postgres_usage_hours import add_usage
from services.monitor.domain.labels import joinable
from services.monitor.domain.records import StreamKey
from services.monitor.domain.rollup import rolled_up
from services.monitor.domain.window import Step
from services.monitor.ports import Applied, Batch

_PROGRESS = text("""
    SELECT sequence, dropped_total FROM log_streams WHERE batcher_id = :batcher_id AND epoch_us = :epoch_us
""")
_MOVE = text("""
    INSERT INTO log_streams AS stream (batcher_id, epoch_us, sequence, dropped_total)
    VALUES (:batcher_id, :epoch_us, :sequence, :dropped_total)
    ON CONFLICT (batcher_id, epoch_us)
    DO UPDATE SET sequence = :sequence, dropped_total = :dropped_total, updated_at = now()
""")


class PostgresLogStore:
    """A `LogStore`."""

    def __init__(self, engine: AsyncEngine, *, may_join: MayJoin = lambda _reporter, _model: True) -> None:
        self._engine = engine
        self._may_join = may_join

    async def position(self, stream: StreamKey) -> int:
        """The last chunk that is counted; 0 for none."""
        async with transaction(self._engine) as connection:
            position, _ = await _progress(connection, stream)
            return position

    async def apply(self, batch: Batch) -> Applied:
        """Counts a batch exactly once, also where an earlier attempt ended without telling how."""
        async with transaction(self._engine) as connection:
            await lock_counting(connection)
            position, dropped_total = await _progress(connection, batch.stream)
            if position >= batch.last:
                return Applied.COUNTED_BEFORE
            if position != batch.base:
                return Applied.CONFLICT
            await add_cells(connection, batch.cells, Step.MINUTE)
            # What came late for an hour that is rolled up already is added there too.
            if late := rolled_up(batch.cells, until=await rolled_up_until(connection)):
                await add_cells(connection, late, Step.HOUR)
            await add_usage(connection, batch.usage)
            await number_late(connection, batch.cells)
            await add_seconds(connection, batch.seconds)
            await mark_coarse(connection, batch.coarse)
            dropped = batch.dropped_total - dropped_total
            await add_drops(connection, moment_of(batch.taken_us), dropped=dropped, unkept=batch.unkept)
            await copy_log_rows(connection, batch.rows)
            await add_predictions(connection, batch.predictions)
            await add_examples(connection, batch.examples)
            await add_slices(connection, batch.slices)
            await join_arrivals(connection, joinable(batch.predictions, batch.rows), self._may_join)
            await connection.execute(
                _MOVE,
                {
                    "batcher_id": batch.stream.batcher_id,
                    "epoch_us": batch.stream.epoch_us,
                    "sequence": batch.last,
                    "dropped_total": batch.dropped_total,
                },
            )
        return Applied.COUNTED


def moment_of(time_us: int) -> datetime:
    """The moment so many microseconds after the Unix epoch."""
    return datetime.fromtimestamp(time_us / 1_000_000, UTC)


async def _progress(connection: AsyncConnection, stream: StreamKey) -> tuple[int, int]:
    """How far a stream is counted, and how many requests it had dropped by then."""
    found = await connection.execute(_PROGRESS, {"batcher_id": stream.batcher_id, "epoch_us": stream.epoch_us})
    row = found.first()
    return (0, 0) if row is None else (int(row[0]), int(row[1]))
