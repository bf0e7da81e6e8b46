"""Reads the windows of all models at once out of PostgreSQL: what rules are evaluated on."""

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.monitor.adapters.database import transaction
from services.monitor.adapters.postgres_cells import rolled_up_until
from services.monitor.domain.aggregate import Cell
from services.monitor.domain.evidence import MetricSum
from services.monitor.domain.measures import measure_of
from services.monitor.domain.rollup import sources
from services.monitor.domain.sketch import LatencySketch
from services.monitor.domain.window import minute_start
from services.monitor.ports_alerts import Span, Version

_PARTS = """unnest(CAST(:places AS int[]), CAST(:granularities AS text[]), CAST(:firsts AS timestamptz[]),
                   CAST(:ends AS timestamptz[])) AS part (place, granularity, first, "end")"""
_WITHIN = """stored.granularity = part.granularity AND stored."timestamp" >= part.first
             AND stored."timestamp" < part."end" """
# The oldest moment as a constant: it lets the database leave out whole days before it looks at any part.
_COUNTS = text(f"""
    SELECT part.place, model_id, version_id, metric_name, dimensions, sum(metric_value)
    FROM {_PARTS} JOIN model_metrics AS stored ON {_WITHIN}
    WHERE stored."timestamp" >= :oldest AND metric_name = ANY(CAST(:names AS text[]))
    GROUP BY part.place, model_id, version_id, metric_name, dimensions
""")  # noqa: S608 - names out of this file
_SKETCHES = text(f"""
    SELECT part.place, model_id, version_id, request_count, sum_us, sum_squares_us2, buckets
    FROM {_PARTS} JOIN latency_sketches AS stored ON {_WITHIN}
    WHERE stored."timestamp" >= :oldest
""")  # noqa: S608 - names out of this file
_OUTCOMES = text(f"""
    SELECT part.place, model_id, version_id, metric_name, sum(value_count), sum(value_sum), sum(square_sum)
    FROM {_PARTS} JOIN outcome_sums AS stored ON {_WITHIN}
    WHERE metric_name = ANY(CAST(:names AS text[]))
    GROUP BY part.place, model_id, version_id, metric_name
""")  # noqa: S608 - names out of this file


class PostgresWindowReader:
    """A `WindowReader`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def cells(
        self, spans: Sequence[Span], *, sketched: Collection[Span], names: Collection[str]
    ) -> Mapping[Span, Mapping[Version, Cell]]:
        """Counts and sketches of one and the same moment."""
        found: dict[Span, dict[Version, Cell]] = {span: {} for span in spans}
        if not spans:
            return found
        async with transaction(self._engine) as connection:
            await connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"))
            until = await rolled_up_until(connection)
            values = {**_values(spans, until), "names": list(names)}
            for place, model, version, name, dimensions, total in await connection.execute(_COUNTS, values):
                cell = found[spans[place]].setdefault((model, version), Cell())
                cell.counts[measure_of(name, dimensions)] += round(total)
            if sketched:
                await _add_sketches(connection, found, list(sketched), until)
        return found

    async def outcomes(
        self, spans: Sequence[Span], metrics: Collection[str]
    ) -> Mapping[Span, Mapping[Version, Mapping[str, MetricSum]]]:
        """Outcomes by the moment of their prediction."""
        found: dict[Span, dict[Version, dict[str, MetricSum]]] = {span: {} for span in spans}
        if not spans or not metrics:
            return found
        async with transaction(self._engine) as connection:
            values = {**_values(spans, until=None), "names": list(metrics)}
            for place, model, version, name, count, total, squares in await connection.execute(_OUTCOMES, values):
                sums = MetricSum(int(count), float(total), float(squares))
                found[spans[place]].setdefault((model, version), {})[name] = sums
        return found


async def _add_sketches(
    connection: AsyncConnection, found: Mapping[Span, dict[Version, Cell]], spans: Sequence[Span], until: int
) -> None:
    # Read at once: windows are short, or in hours, and a look that a stop cancels must leave no cursor behind.
    for place, model, version, count, total, squares, buckets in await connection.execute(
        _SKETCHES, _values(spans, until)
    ):
        sketch = LatencySketch.decode(buckets, count=count, sum_us=total, sum_squares_us2=int(squares))
        found[spans[place]].setdefault((model, version), Cell()).latency.merge(sketch)


def _values(spans: Sequence[Span], until: int | None) -> dict[str, object]:
    """`until`: before which minute hours may be read in place of minutes; None: of outcomes, which have every hour."""
    parts = [
        (place, part)
        for place, span in enumerate(spans)
        for part in sources(span.first, span.end, step_minutes=0, until=span.end if until is None else until)
    ]
    return {
        "places": [place for place, _ in parts],
        "granularities": [part.granularity.value for _, part in parts],
        "firsts": [minute_start(part.first) for _, part in parts],
        "ends": [minute_start(part.end) for _, part in parts],
        "oldest": minute_start(min(span.first for span in spans)),
    }
