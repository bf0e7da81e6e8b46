"""Counts batches of the log in PostgreSQL: sums, sketches, log rows and the stream's position in one transaction."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime

from psycopg import AsyncConnection as PsycopgConnection
from psycopg.types.json import Json
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.monitor.adapters.database import transaction
from services.monitor.domain.aggregate import DIMENSIONS, CellKey, Measure
from services.monitor.domain.log_rows import LogRow
from services.monitor.domain.records import StreamKey
from services.monitor.domain.sketch import LatencySketch
from services.monitor.domain.window import minute_start
from services.monitor.ports import Applied, Batch

_COUNTING_LOCK = 0x1F3B
"""Taken by every counting transaction: sketches are read, merged and written back, so they must take turns."""

_LOCK = text("SELECT pg_advisory_xact_lock(:lock)")
_POSITION = text("SELECT sequence FROM log_streams WHERE batcher_id = :batcher_id AND epoch_us = :epoch_us")
_MOVE = text("""
    INSERT INTO log_streams AS stream (batcher_id, epoch_us, sequence, dropped_total)
    VALUES (:batcher_id, :epoch_us, :sequence, :dropped_total)
    ON CONFLICT (batcher_id, epoch_us)
    DO UPDATE SET sequence = :sequence, dropped_total = :dropped_total, updated_at = now()
""")
_COUNT = text("""
    INSERT INTO model_metrics AS metric
        (model_id, "timestamp", version_id, deployment_id, granularity, metric_name, dimensions, metric_value)
    SELECT model, moment, version, deployment, 'minute', name, dimension::jsonb, value
    FROM unnest(CAST(:models AS text[]), CAST(:moments AS timestamptz[]), CAST(:versions AS text[]),
                CAST(:deployments AS text[]), CAST(:names AS text[]), CAST(:dimensions AS text[]),
                CAST(:values AS float8[])) AS counted (model, moment, version, deployment, name, dimension, value)
    ON CONFLICT (model_id, "timestamp", version_id, deployment_id, granularity, metric_name, dimensions)
    DO UPDATE SET metric_value = metric.metric_value + excluded.metric_value, updated_at = now()
""")
_KEYS = """unnest(CAST(:models AS text[]), CAST(:moments AS timestamptz[]), CAST(:versions AS text[]),
                CAST(:deployments AS text[]))"""
_SKETCHES = text(f"""
    SELECT model_id, "timestamp", version_id, deployment_id, request_count, sum_us, sum_squares_us2, buckets
    FROM latency_sketches
    WHERE granularity = 'minute'
      AND (model_id, "timestamp", version_id, deployment_id) IN (SELECT * FROM {_KEYS})
""")  # noqa: S608 - parameters alone are put in
_STORE_SKETCHES = text("""
    INSERT INTO latency_sketches
        (model_id, "timestamp", version_id, deployment_id, granularity, request_count, sum_us, sum_squares_us2, buckets)
    SELECT model, moment, version, deployment, 'minute', requests, total, squares, held
    FROM unnest(CAST(:models AS text[]), CAST(:moments AS timestamptz[]), CAST(:versions AS text[]),
                CAST(:deployments AS text[]), CAST(:counts AS bigint[]), CAST(:sums AS bigint[]),
                CAST(:squares AS numeric[]), CAST(:buckets AS bytea[]))
        AS merged (model, moment, version, deployment, requests, total, squares, held)
    ON CONFLICT (model_id, "timestamp", version_id, deployment_id, granularity)
    DO UPDATE SET request_count = excluded.request_count, sum_us = excluded.sum_us,
                  sum_squares_us2 = excluded.sum_squares_us2, buckets = excluded.buckets, updated_at = now()
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
            await connection.execute(_LOCK, {"lock": _COUNTING_LOCK})
            position = await _position(connection, batch.stream)
            if position >= batch.last:
                return Applied.COUNTED_BEFORE
            if position != batch.base:
                return Applied.CONFLICT
            await _count(connection, batch)
            await _store_sketches(connection, batch)
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


def _columns(keys: Sequence[CellKey]) -> dict[str, object]:
    return {
        "models": [key.model for key in keys],
        "moments": [minute_start(key.minute) for key in keys],
        "versions": [key.version for key in keys],
        "deployments": [key.deployment for key in keys],
    }


async def _count(connection: AsyncConnection, batch: Batch) -> None:
    counted = [
        (key, measure, count)
        for key, cell in sorted(batch.cells.items(), key=lambda item: item[0])
        for measure, count in sorted(cell.counts.items())
    ]
    if counted:
        await connection.execute(
            _COUNT,
            {
                **_columns([key for key, _, _ in counted]),
                "names": [name for _, (name, _), _ in counted],
                "dimensions": [_dimension(measure) for _, measure, _ in counted],
                "values": [float(count) for _, _, count in counted],
            },
        )


def _dimension(measure: Measure) -> str:
    name, value = measure
    return json.dumps({DIMENSIONS[name]: value}) if name in DIMENSIONS else "{}"


async def _store_sketches(connection: AsyncConnection, batch: Batch) -> None:
    """Merges the batch's sketches with those stored; the counting lock keeps others from doing so meanwhile."""
    keys = sorted(key for key, cell in batch.cells.items() if cell.latency.count)
    if not keys:
        return
    merged: dict[CellKey, LatencySketch] = {}
    for model, moment, version, deployment, count, total, squares, buckets in await connection.execute(
        _SKETCHES, _columns(keys)
    ):
        key = CellKey(int(moment.timestamp()) // 60, model, version, deployment)
        merged[key] = LatencySketch.decode(buckets, count=count, sum_us=total, sum_squares_us2=int(squares))
    for key in keys:
        merged.setdefault(key, LatencySketch()).merge(batch.cells[key].latency)
    await connection.execute(
        _STORE_SKETCHES,
        {
            **_columns(keys),
            "counts": [merged[key].count for key in keys],
            "sums": [merged[key].sum_us for key in keys],
            # As text: a sum of squares may be larger than any integer type of the database.
            "squares": [str(merged[key].sum_squares_us2) for key in keys],
            "buckets": [merged[key].encode_buckets() for key in keys],
        },
    )


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
