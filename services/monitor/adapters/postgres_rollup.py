"""Rolls minutes up to hours in PostgreSQL, an hour a transaction."""

from collections.abc import Mapping

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.monitor.adapters.database import transaction
from services.monitor.adapters.postgres_cells import add_cells, lock_counting, rolled_up_until
from services.monitor.domain.aggregate import Cell, CellKey, Cells
from services.monitor.domain.rollup import HOUR
from services.monitor.domain.sketch import LatencySketch
from services.monitor.domain.window import Step, minute_of, minute_start

_OLDEST = text("SELECT min(\"timestamp\") FROM model_metrics WHERE granularity = 'minute'")
_COUNTS = text("""
    INSERT INTO model_metrics
        (model_id, "timestamp", version_id, deployment_id, granularity, metric_name, dimensions, metric_value)
    SELECT model_id, :first, version_id, deployment_id, 'hour', metric_name, dimensions, sum(metric_value)
    FROM model_metrics
    WHERE granularity = 'minute' AND "timestamp" >= :first AND "timestamp" < :end
    GROUP BY model_id, version_id, deployment_id, metric_name, dimensions
""")
_SKETCHES = text("""
    SELECT model_id, version_id, deployment_id, request_count, sum_us, sum_squares_us2, buckets
    FROM latency_sketches
    WHERE granularity = 'minute' AND "timestamp" >= :first AND "timestamp" < :end
""")
_DONE = text("""
    INSERT INTO rolled_up (granularity, until) VALUES ('hour', :until)
    ON CONFLICT (granularity) DO UPDATE SET until = :until
""")
_VERSIONS_A_WRITE = 200


class PostgresRollupStore:
    """A `RollupStore`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def until(self) -> int:
        """The first minute that is not rolled up: of the oldest hour with data at first; 0 without any."""
        async with transaction(self._engine) as connection:
            done = await rolled_up_until(connection)
            if done:
                return done
            oldest = (await connection.execute(_OLDEST)).scalar()
            return 0 if oldest is None else minute_of(oldest) // HOUR * HOUR

    async def roll_up(self, hour: int) -> None:
        """Adds up the hour that begins at minute `hour`, unless another process was quicker."""
        async with transaction(self._engine) as connection:
            await lock_counting(connection)
            if await rolled_up_until(connection) > hour:
                return
            span = {"first": minute_start(hour), "end": minute_start(hour + HOUR)}
            await connection.execute(_COUNTS, span)
            await _roll_sketches(connection, hour, span)
            await connection.execute(_DONE, {"until": minute_start(hour + HOUR)})


async def _roll_sketches(connection: AsyncConnection, hour: int, span: Mapping[str, object]) -> None:
    merged: dict[CellKey, LatencySketch] = {}
    async with connection.stream(_SKETCHES, dict(span)) as rows:
        async for model, version, deployment, count, total, squares, buckets in rows:
            sketch = LatencySketch.decode(buckets, count=count, sum_us=total, sum_squares_us2=int(squares))
            merged.setdefault(CellKey(hour, model, version, deployment), LatencySketch()).merge(sketch)
    keys = list(merged)
    for place in range(0, len(keys), _VERSIONS_A_WRITE):
        cells = Cells({key: Cell(latency=merged[key]) for key in keys[place : place + _VERSIONS_A_WRITE]})
        await add_cells(connection, cells, Step.HOUR)
