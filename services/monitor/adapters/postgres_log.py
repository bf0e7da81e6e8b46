"""Counts batches of the log in PostgreSQL: sums, sketches, log rows and the stream's position in one transaction."""

from collections.abc import Sequence
from datetime import UTC, datetime

from psycopg import AsyncConnection as PsycopgConnection
from psycopg.types.json import Json
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.monitor.adapters.database import transaction
from services.monitor.adapters.postgres_cells import add_cells, lock_counting, rolled_up_until
from services.monitor.domain.log_rows import LogRow
from services.monitor.domain.records import StreamKey
from services.monitor.domain.rollup import rolled_up
from services.monitor.domain.window import Step
from services.monitor.ports import Applied, Batch

_POSITION = text("SELECT sequence FROM log_streams WHERE batcher_id = :batcher_id AND epoch_us = :epoch_us")
_MOVE = text("""
    INSERT INTO log_streams AS stream (batcher_id, epoch_us, sequence, dropped_total)
    VALUES (:batcher_id, :epoch_us, :sequence, :dropped_total)
    ON CONFLICT (batcher_id, epoch_us)
    DO UPDATE SET sequence = :sequence, dropped_total = :dropped_total, updated_at = now()
""")
_COPY = """COPY inference_logs (request_id, model_id, version_id, deployment_id, input_hash, output, latency_ms,
    error_message, "timestamp", user_id, metadata) FROM STDIN"""


class PostgresLogStore:
    """A `LogStore`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def position(self, stream: StreamKey) -> int:
        """The last chunk that is counted; 0 for none."""
        async with transaction(self._engine) as connection:
            return await _position(connection, stream)

    async def apply(self, batch: Batch) -> Applied:
        """Counts a batch exactly once, also where an earlier attempt ended without telling how."""
        async with transaction(self._engine) as connection:
            await lock_counting(connection)
            position = await _position(connection, batch.stream)
            if position >= batch.last:
                return Applied.COUNTED_BEFORE
            if position != batch.base:
                return Applied.CONFLICT
            await add_cells(connection, batch.cells, Step.MINUTE)
            # What came late for an hour that is rolled up already is added there too.
            if late := rolled_up(batch.cells, until=await rolled_up_until(connection)):
                await add_cells(connection, late, Step.HOUR)
            await _copy_rows(connection, batch.rows)
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


async def _position(connection: AsyncConnection, stream: StreamKey) -> int:
    found = await connection.execute(_POSITION, {"batcher_id": stream.batcher_id, "epoch_us": stream.epoch_us})
    return int(found.scalar() or 0)


async def _copy_rows(connection: AsyncConnection, rows: Sequence[LogRow]) -> None:
    if not rows:
        return
    raw = (await connection.get_raw_connection()).driver_connection
    assert isinstance(raw, PsycopgConnection)
    async with raw.cursor() as cursor, cursor.copy(_COPY) as copy:
        for row in rows:
            await copy.write_row(
                (
                    row.request_id,
                    row.model,
                    row.version,
                    row.deployment,
                    row.input_hash or None,
                    row.output or None,
                    row.latency_ms,
                    row.error_message or None,
                    datetime.fromtimestamp(row.time_us / 1_000_000, UTC),
                    row.user_id or None,
                    Json(row.metadata),
                )
            )
