"""Sums by the second in PostgreSQL, beside those by the minute. Whoever calls this holds the counting lock."""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.monitor.adapters.copying import copy_rows
from services.monitor.domain.aggregate import CellKey
from services.monitor.domain.seconds import SecondCell, SecondKey
from services.monitor.domain.settled import LATE_AFTER
from services.monitor.domain.window import minute_start

_COPY = 'COPY second_cells (model_id, version_id, "timestamp", answered_count, cell) FROM STDIN'
_COARSE = text("""
    UPDATE evidence_watches
    SET begins_at = date_trunc('minute', start_time) + interval '1 minute'
    WHERE begins_at = start_time AND date_trunc('minute', start_time) <> start_time
      AND (model_id, date_trunc('minute', start_time)) IN
          (SELECT * FROM unnest(CAST(:models AS text[]), CAST(:minutes AS timestamptz[])))
""")
_LATE = text("""
    INSERT INTO late_changes AS known (model_id, change_count)
    SELECT model, 1 FROM unnest(CAST(:models AS text[]), CAST(:minutes AS timestamptz[])) AS counted (model, minute)
    WHERE minute < date_trunc('minute', clock_timestamp()) - CAST(:late_after AS interval)
    ON CONFLICT (model_id) DO UPDATE SET change_count = known.change_count + 1
""")
_DROPPED = text("""
    INSERT INTO log_drops AS known ("timestamp", dropped_count, unkept_count)
    VALUES (date_trunc('second', :moment), :dropped, :unkept)
    ON CONFLICT ("timestamp") DO UPDATE
    SET dropped_count = known.dropped_count + :dropped, unkept_count = known.unkept_count + :unkept
""")


async def add_seconds(connection: AsyncConnection, seconds: Mapping[SecondKey, SecondCell]) -> None:
    """Adds sums; those of the same second that are there already stay beside them."""
    await copy_rows(
        connection,
        _COPY,
        (
            (key.model, key.version, datetime.fromtimestamp(key.second, UTC), cell.answered, cell.encode())
            for key, cell in seconds.items()
        ),
    )


async def mark_coarse(connection: AsyncConnection, coarse: AbstractSet[tuple[str, int]]) -> None:
    """Lets watches that begin in these minutes begin at the next one: their seconds are not all known."""
    if coarse:
        places = sorted(coarse)
        await connection.execute(
            _COARSE,
            {"models": [model for model, _ in places], "minutes": [minute_start(minute) for _, minute in places]},
        )


async def number_late(connection: AsyncConnection, cells: Iterable[CellKey]) -> None:
    """Numbers what is counted into past minutes, so that whoever has read them reads them again."""
    oldest: dict[str, int] = {}
    for key in cells:
        oldest[key.model] = min(oldest.get(key.model, key.minute), key.minute)
    await connection.execute(
        _LATE,
        {
            "models": sorted(oldest),
            "minutes": [minute_start(oldest[model]) for model in sorted(oldest)],
            "late_after": LATE_AFTER,
        },
    )


async def add_drops(connection: AsyncConnection, moment: datetime, *, dropped: int, unkept: int) -> None:
    """Notes that a batcher dropped so many requests from the log, as it said at `moment`, and that so many that were
    counted then are not in `inference_logs` although they should be."""
    if dropped > 0 or unkept:
        await connection.execute(_DROPPED, {"moment": moment, "dropped": max(0, dropped), "unkept": unkept})
