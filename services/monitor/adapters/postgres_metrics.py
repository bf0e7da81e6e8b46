"""Reads cells out of PostgreSQL. Counts are added up by the database, sketches here, as they stream in."""

from collections.abc import Mapping

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.monitor.adapters.database import transaction
from services.monitor.adapters.postgres_cells import rolled_up_until
from services.monitor.domain.aggregate import Cell
from services.monitor.domain.measures import measure_of
from services.monitor.domain.rollup import sources
from services.monitor.domain.sketch import LatencySketch
from services.monitor.domain.window import minute_start
from services.monitor.ports import MetricQuery

_FROM = """
    FROM unnest(CAST(:granularities AS text[]), CAST(:firsts AS timestamptz[]), CAST(:ends AS timestamptz[]))
        AS part (granularity, first, "end")
    JOIN {table} AS stored ON stored.granularity = part.granularity
        AND stored."timestamp" >= part.first AND stored."timestamp" < part."end"
    WHERE stored.model_id = :model
      AND (CAST(:version AS text) IS NULL OR stored.version_id = :version)
      AND (CAST(:deployment AS text) IS NULL OR stored.deployment_id = :deployment)
"""
_STEP = """(extract(epoch FROM stored."timestamp" - CAST(:first AS timestamptz))::bigint / 60 / :step)"""
_COUNTS = text(f"""
    SELECT version_id, {_STEP} AS step_index, metric_name, dimensions, sum(metric_value)
    {_FROM.format(table="model_metrics")}
    GROUP BY version_id, step_index, metric_name, dimensions
""")
_SKETCHES = text(f"""
    SELECT version_id, {_STEP} AS step_index, request_count, sum_us, sum_squares_us2, buckets
    {_FROM.format(table="latency_sketches")}
""")


class PostgresMetricReader:
    """A `MetricReader`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def read(self, query: MetricQuery) -> Mapping[tuple[str, int], Cell]:
        """The cells by version and step, counts and sketches of one and the same moment."""
        step = query.step_minutes or max(1, query.end - query.first)
        cells: dict[tuple[str, int], Cell] = {}

        def cell(version: str, step_index: int) -> Cell:
            return cells.setdefault((version, query.first + int(step_index) * step), Cell())

        async with transaction(self._engine) as connection:
            await connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"))
            values = _values(query, step=step, until=await rolled_up_until(connection))
            for version, step_index, name, dimensions, total in await connection.execute(_COUNTS, values):
                cell(version, step_index).counts[measure_of(name, dimensions)] += round(total)
            # Unbuffered: a long window of a busy model is tens of thousands of sketches.
            async with connection.stream(_SKETCHES, values) as rows:
                async for version, step_index, count, total, squares, buckets in rows:
                    sketch = LatencySketch.decode(buckets, count=count, sum_us=total, sum_squares_us2=int(squares))
                    cell(version, step_index).latency.merge(sketch)
        return cells


def _values(query: MetricQuery, *, step: int, until: int) -> dict[str, object]:
    parts = sources(query.first, query.end, step_minutes=query.step_minutes, until=until)
    return {
        "model": query.model,
        "version": query.version,
        "deployment": query.deployment,
        "first": minute_start(query.first),
        "step": step,
        "granularities": [part.granularity.value for part in parts],
        "firsts": [minute_start(part.first) for part in parts],
        "ends": [minute_start(part.end) for part in parts],
    }
