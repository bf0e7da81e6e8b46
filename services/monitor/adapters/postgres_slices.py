"""Summaries of traffic in PostgreSQL. Parts are only ever added, so that counting writes little; later they are put
together: those of a slot once it has settled, those of an hour a day later.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.monitor.adapters.database import transaction
from services.monitor.domain.drift.reports import Span
from services.monitor.domain.drift.slices import COARSE, HOUR_MINUTES, SETTLED, SLOT_MINUTES, SliceKey
from services.monitor.domain.drift.summary import Summary
from services.monitor.domain.window import minute_start

_ADD = text("""
    INSERT INTO drift_slices (model_id, version_id, "timestamp", span_minutes, row_count, seen_count, summary)
    SELECT model, version, moment, :span, rows, seen, held
    FROM unnest(CAST(:models AS text[]), CAST(:versions AS text[]), CAST(:moments AS timestamptz[]),
                CAST(:rows AS bigint[]), CAST(:seen AS bigint[]), CAST(:summaries AS bytea[]))
        AS added (model, version, moment, rows, seen, held)
""")
_READ = text("""
    SELECT summary FROM drift_slices
    WHERE model_id = :model AND version_id = :version AND "timestamp" < :end
      AND "timestamp" > CAST(:start AS timestamptz) - interval '1 hour'
      AND "timestamp" + make_interval(mins => span_minutes) > :start
    ORDER BY "timestamp", id
""")
# Of several monitors that look at the same moment the second one finds nothing left to do, or waits and then does.
_DUE = text("""
    SELECT model_id, version_id,
           to_timestamp(floor(extract(epoch FROM "timestamp") / (60 * :span)) * 60 * :span) AS slot
    FROM drift_slices
    WHERE "timestamp" < CAST(:before AS timestamptz) - make_interval(mins => :span) AND span_minutes <= :span
    GROUP BY model_id, version_id, slot HAVING count(*) > 1 ORDER BY slot LIMIT :limit
""")
_LOCK = text("SELECT pg_advisory_xact_lock(:lock)")
_TAKE = text("""
    DELETE FROM drift_slices
    WHERE model_id = :model AND version_id = :version AND "timestamp" >= :start
      AND "timestamp" < CAST(:start AS timestamptz) + make_interval(mins => :span) AND span_minutes <= :span
    RETURNING summary
""")
_COMPACTING_LOCK = 0x1F3E
_SLOTS_A_ROUND_MAX = 200


class PostgresSliceStore:
    """A `SliceStore`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def read(self, model: str, version: str, span: Span) -> Summary:
        """All of a version within a window. Hours of days past are read whole."""
        asked = {"model": model, "version": version, "start": span.start, "end": span.end}
        async with transaction(self._engine) as connection:
            held = [bytes(row[0]) for row in await connection.execute(_READ, asked)]
        return await asyncio.to_thread(_merged, held)

    async def compact(self, *, now: datetime) -> int:
        """Puts together what has settled, one transaction a slot."""
        done = 0
        for span, before in ((SLOT_MINUTES, now - SETTLED), (HOUR_MINUTES, now - COARSE)):
            async with transaction(self._engine) as connection:
                found = await connection.execute(_DUE, {"span": span, "before": before, "limit": _SLOTS_A_ROUND_MAX})
                due = [(str(model), str(version), slot) for model, version, slot in found]
            for model, version, start in due:
                await self._put_together(model, version, start, span)
                done += 1
        return done

    async def _put_together(self, model: str, version: str, start: datetime, span: int) -> None:
        asked = {"model": model, "version": version, "start": start, "span": span}
        async with transaction(self._engine) as connection:
            await connection.execute(_LOCK, {"lock": _COMPACTING_LOCK})
            held = [bytes(row[0]) for row in await connection.execute(_TAKE, asked)]
            if held:
                whole = await asyncio.to_thread(_merged, held)
                await _insert(connection, [(model, version, start)], [whole], span)


async def add_slices(connection: AsyncConnection, slices: Mapping[SliceKey, Summary]) -> None:
    """Adds parts of slots. Whoever calls this holds the counting lock."""
    if slices:
        places = [(key.model, key.version, minute_start(key.minute)) for key in slices]
        await _insert(connection, places, list(slices.values()), SLOT_MINUTES)


async def _insert(
    connection: AsyncConnection,
    places: Sequence[tuple[str, str, datetime]],
    summaries: Sequence[Summary],
    span: int,
) -> None:
    await connection.execute(
        _ADD,
        {
            "span": span,
            "models": [model for model, _, _ in places],
            "versions": [version for _, version, _ in places],
            "moments": [moment for _, _, moment in places],
            "rows": [summary.rows for summary in summaries],
            "seen": [summary.seen for summary in summaries],
            "summaries": [summary.encode() for summary in summaries],
        },
    )


def _merged(held: Sequence[bytes]) -> Summary:
    whole = Summary()
    for data in held:
        whole.merge(Summary.decode(data))
    return whole
