"""Reads cells out of PostgreSQL. Counts are added up by the database, sketches here, as they stream in."""

from collections import Counter
from collections.abc import Mapping

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.monitor.adapters.database import transaction
from services.monitor.domain.aggregate import DIMENSIONS, Cell
from services.monitor.domain.sketch import LatencySketch
from services.monitor.domain.window import minute_start
from services.monitor.ports import MetricQuery

_WHERE = """
    WHERE model_id = :model AND "timestamp" >= :first AND "timestamp" < :end AND granularity = 'minute'
      AND (CAST(:version AS text) IS NULL OR version_id = :version)
      AND (CAST(:deployment AS text) IS NULL OR deployment_id = :deployment)
"""
# Steps begin at :first, which is a whole step since the Unix epoch.
_STEP = """(extract(epoch FROM "timestamp" - CAST(:first AS timestamptz))::bigint / 60 / :step)"""
_COUNTS = text(f"""
    SELECT version_id, {_STEP} AS step_index, metric_name, dimensions, sum(metric_value)
    FROM model_metrics {_WHERE}
    GROUP BY version_id, step_index, metric_name, dimensions
""")  # noqa: S608 - parameters alone are put in
_SKETCHES = text(f"""
    SELECT version_id, {_STEP} AS step_index, request_count, sum_us, sum_squares_us2, buckets
    FROM latency_sketches {_WHERE}
""")  # noqa: S608 - parameters alone are put in


class PostgresMetricReader:
    """A `MetricReader`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def read(self, query: MetricQuery) -> Mapping[tuple[str, int], Cell]:
        """The cells by version and step, counts and sketches of one and the same moment."""
        step = query.step_minutes or max(1, query.end - query.first)
        values = {
            "model": query.model,
            "version": query.version,
            "deployment": query.deployment,
            "first": minute_start(query.first),
            "end": minute_start(query.end),
            "step": step,
        }
        cells: dict[tuple[str, int], Cell] = {}

        def cell(version: str, step_index: int) -> Cell:
            return cells.setdefault((version, query.first + int(step_index) * step), Cell(Counter()))

        async with transaction(self._engine) as connection:
            await connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"))
            for version, step_index, name, dimensions, total in await connection.execute(_COUNTS, values):
                value = dimensions.get(DIMENSIONS[name], "") if name in DIMENSIONS else ""
                cell(version, step_index).counts[name, value] += round(total)
            # Unbuffered: 90 days of a busy model are a hundred thousand sketches.
            async with connection.stream(_SKETCHES, values) as rows:
                async for version, step_index, count, total, squares, buckets in rows:
                    sketch = LatencySketch.decode(buckets, count=count, sum_us=total, sum_squares_us2=int(squares))
                    cell(version, step_index).latency.merge(sketch)
        return cells
