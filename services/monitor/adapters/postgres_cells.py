"""Adds cells to what PostgreSQL holds. Whoever calls this holds the counting lock."""

import json
from collections.abc import Mapping, Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.monitor.domain.aggregate import Cell, CellKey
from services.monitor.domain.measures import dimensions_of
from services.monitor.domain.sketch import LatencySketch
from services.monitor.domain.window import Step, minute_of, minute_start

_COUNTING_LOCK = 0x1F3B
_ROLLED_UP = text("SELECT until FROM rolled_up WHERE granularity = 'hour'")
_LOCK = text("SELECT pg_advisory_xact_lock(:lock)")
_COUNT = text("""
    INSERT INTO model_metrics AS metric
        (model_id, "timestamp", version_id, deployment_id, granularity, metric_name, dimensions, metric_value)
    SELECT model, moment, version, deployment, :granularity, name, dimension::jsonb, value
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
    WHERE granularity = :granularity
      AND (model_id, "timestamp", version_id, deployment_id) IN (SELECT * FROM {_KEYS})
""")  # noqa: S608 - parameters alone are put in
_STORE_SKETCHES = text("""
    INSERT INTO latency_sketches
        (model_id, "timestamp", version_id, deployment_id, granularity, request_count, sum_us, sum_squares_us2, buckets)
    SELECT model, moment, version, deployment, :granularity, requests, total, squares, held
    FROM unnest(CAST(:models AS text[]), CAST(:moments AS timestamptz[]), CAST(:versions AS text[]),
                CAST(:deployments AS text[]), CAST(:counts AS bigint[]), CAST(:sums AS bigint[]),
                CAST(:squares AS numeric[]), CAST(:buckets AS bytea[]))
        AS merged (model, moment, version, deployment, requests, total, squares, held)
    ON CONFLICT (model_id, "timestamp", version_id, deployment_id, granularity)
    DO UPDATE SET request_count = excluded.request_count, sum_us = excluded.sum_us,
                  sum_squares_us2 = excluded.sum_squares_us2, buckets = excluded.buckets, updated_at = now()
""")


async def lock_counting(connection: AsyncConnection) -> None:
    """Makes this transaction the only one that counts: sketches are read, merged and written back, in turns."""
    await connection.execute(_LOCK, {"lock": _COUNTING_LOCK})


async def rolled_up_until(connection: AsyncConnection) -> int:
    """The minute before which every hour is rolled up; 0 before the first."""
    moment = (await connection.execute(_ROLLED_UP)).scalar()
    return 0 if moment is None else minute_of(moment)


async def add_cells(connection: AsyncConnection, cells: Mapping[CellKey, Cell], step: Step) -> None:
    """Adds cells, whose minutes are the beginnings of steps, to those stored for the same steps."""
    await _add_counts(connection, cells, step)
    await _merge_sketches(connection, cells, step)


def _columns(keys: Sequence[CellKey]) -> dict[str, object]:
    return {
        "models": [key.model for key in keys],
        "moments": [minute_start(key.minute) for key in keys],
        "versions": [key.version for key in keys],
        "deployments": [key.deployment for key in keys],
    }


async def _add_counts(connection: AsyncConnection, cells: Mapping[CellKey, Cell], step: Step) -> None:
    counted = [
        (key, measure, count)
        for key, cell in sorted(cells.items(), key=lambda item: item[0])
        for measure, count in sorted(cell.counts.items())
    ]
    if counted:
        await connection.execute(
            _COUNT,
            {
                **_columns([key for key, _, _ in counted]),
                "granularity": step,
                "names": [name for _, (name, _), _ in counted],
                "dimensions": [json.dumps(dimensions_of(measure)) for _, measure, _ in counted],
                "values": [float(count) for _, _, count in counted],
            },
        )


async def _merge_sketches(connection: AsyncConnection, cells: Mapping[CellKey, Cell], step: Step) -> None:
    keys = sorted(key for key, cell in cells.items() if cell.latency.count)
    if not keys:
        return
    merged: dict[CellKey, LatencySketch] = {}
    for model, moment, version, deployment, count, total, squares, buckets in await connection.execute(
        _SKETCHES, {**_columns(keys), "granularity": step}
    ):
        key = CellKey(minute_of(moment), model, version, deployment)
        merged[key] = LatencySketch.decode(buckets, count=count, sum_us=total, sum_squares_us2=int(squares))
    for key in keys:
        merged.setdefault(key, LatencySketch()).merge(cells[key].latency)
    await connection.execute(
        _STORE_SKETCHES,
        {
            **_columns(keys),
            "granularity": step,
            "counts": [merged[key].count for key in keys],
            "sums": [merged[key].sum_us for key in keys],
            # As text: a sum of squares may be larger than any integer type of the database.
            "squares": [str(merged[key].sum_squares_us2) for key in keys],
            "buckets": [merged[key].encode_buckets() for key in keys],
        },
    )
