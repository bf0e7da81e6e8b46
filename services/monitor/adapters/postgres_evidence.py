"""Windows to the second in PostgreSQL: the seconds that a window begins with, then whole minutes and hours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.monitor.adapters.database import transaction
from services.monitor.adapters.postgres_cells import lock_counting, rolled_up_until
from services.monitor.adapters.postgres_outcome_sums import lock_joining
from services.monitor.domain.aggregate import EARLY_MAX_US, MINUTE_US, Cell
from services.monitor.domain.evidence import (
    SECONDS_KEPT,
    WATCH_KEPT,
    MetricSum,
    Sums,
    WatchKey,
    head_end,
    head_is_kept,
    minute_floor,
)
from services.monitor.domain.measures import measure_of
from services.monitor.domain.rollup import sources
from services.monitor.domain.seconds import add_encoded
from services.monitor.domain.settled import Settled, SettledWindows, merged_cells, settled_until
from services.monitor.domain.sketch import LatencySketch
from services.monitor.domain.window import RETENTION_DAYS, minute_of, minute_start

_WATCHES_A_READ = 50
_AHEAD_MINUTES = EARLY_MAX_US // MINUTE_US + 1

_ASK = text("""
    UPDATE evidence_watches SET asked_at = :now WHERE model_id = :model AND start_time = :start RETURNING begins_at
""")
_KNOWN_BY_SECOND = text("""
    SELECT (SELECT coalesce(sum(answered_count), 0) FROM second_cells
            WHERE model_id = :model AND "timestamp" >= :first AND "timestamp" < :end)
         = (SELECT coalesce(sum(metric_value), 0) FROM model_metrics
            WHERE model_id = :model AND granularity = 'minute' AND "timestamp" = :first
              AND metric_name IN ('request_count', 'shadow_count'))
""")
_REGISTER = text("""
    INSERT INTO evidence_watches (model_id, start_time, begins_at, asked_at) VALUES (:model, :start, :begins, :now)
""")
_BEGINS = text("""
    SELECT model_id, start_time, begins_at FROM evidence_watches
    WHERE (model_id, start_time) IN (SELECT * FROM unnest(CAST(:models AS text[]), CAST(:starts AS timestamptz[])))
""")
_PARTS = """unnest(CAST(:places AS int[]), CAST(:models AS text[]), CAST(:granularities AS text[]),
                CAST(:firsts AS timestamptz[]), CAST(:ends AS timestamptz[]))
         AS part (place, model, granularity, first, "end")"""
_STORED = """JOIN {table} AS stored ON stored.model_id = part.model AND stored.granularity = part.granularity
        AND stored."timestamp" >= part.first AND stored."timestamp" < part."end" """
_COUNTS = text(f"""
    SELECT place, version_id, metric_name, dimensions, sum(metric_value)
    FROM {_PARTS} {_STORED.format(table="model_metrics")}
    GROUP BY place, version_id, metric_name, dimensions
""")  # noqa: S608 - parameters alone are put in
_SKETCHES = text(f"""
    SELECT place, version_id, request_count, sum_us, sum_squares_us2, buckets
    FROM {_PARTS} {_STORED.format(table="latency_sketches")}
""")  # noqa: S608 - parameters alone are put in
_SECONDS = text(f"""
    SELECT place, version_id, cell
    FROM {_PARTS}
    JOIN second_cells AS stored ON part.granularity = 'second' AND stored.model_id = part.model
        AND stored."timestamp" >= part.first AND stored."timestamp" < part."end"
""")  # noqa: S608 - parameters alone are put in
_OUTCOMES = text(f"""
    SELECT place, version_id, metric_name, sum(value_count), sum(value_sum)::float8, sum(square_sum)::float8
    FROM {_PARTS} {_STORED.format(table="outcome_sums")}
    GROUP BY place, version_id, metric_name
""")  # noqa: S608 - parameters alone are put in
_CHANGES = text("""
    SELECT model_id, change_count FROM late_changes WHERE model_id = ANY(CAST(:models AS text[]))
""")
_MINUTE = text("SELECT date_trunc('minute', now())")
_DROPS = text("""
    SELECT place, sum(dropped_count)
    FROM unnest(CAST(:places AS int[]), CAST(:firsts AS timestamptz[])) AS part (place, first)
    JOIN log_drops ON "timestamp" >= part.first
    GROUP BY place
""")
_FORGET_WATCHES = text("DELETE FROM evidence_watches WHERE asked_at < :before")
_NO_HEAD = """
    AND NOT EXISTS (SELECT FROM evidence_watches AS watch WHERE watch.model_id = {table}.model_id
                    AND date_trunc('minute', watch.start_time) = date_trunc('minute', {table}."timestamp"))
"""
_FORGET_SECONDS = text(f"""
    DELETE FROM second_cells WHERE "timestamp" < :before {_NO_HEAD.format(table="second_cells")}
""")  # noqa: S608 - a name out of this file
_FORGET_OUTCOME_SECONDS = text(f"""
    DELETE FROM outcome_sums
    WHERE granularity = 'second' AND "timestamp" < :before {_NO_HEAD.format(table="outcome_sums")}
""")  # noqa: S608 - a name out of this file
_FORGET_DROPS = text('DELETE FROM log_drops WHERE "timestamp" < :before')


@dataclass(frozen=True)
class _Part:
    place: int
    model: str
    granularity: str
    first: datetime
    end: datetime


class PostgresEvidenceStore:
    """An `EvidenceStore`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._windows = SettledWindows()

    async def register(self, key: WatchKey, *, now: datetime) -> None:
        """Keeps the window's first seconds, where they are all there."""
        values = {"model": key.model, "start": key.start, "now": now}
        async with transaction(self._engine) as connection:
            if (await connection.execute(_ASK, values)).first() is not None:
                return
        async with transaction(self._engine) as connection:
            # Nothing is counted meanwhile: what is there is seen here, and what comes later sees the watch.
            await lock_counting(connection)
            if (await connection.execute(_ASK, values)).first() is not None:
                return
            begins = key.start if await _head_known(connection, key, now) else head_end(key.start)
            await connection.execute(_REGISTER, {**values, "begins": begins})

    async def read(self, keys: Sequence[WatchKey], *, now: datetime) -> Mapping[WatchKey, Sums]:
        """The sums of windows, all in one transaction for every fifty of them."""
        found: dict[WatchKey, Sums] = {}
        for first in range(0, len(keys), _WATCHES_A_READ):
            found |= await self._read(keys[first : first + _WATCHES_A_READ], now)
        return found

    async def forget(self, *, now: datetime) -> None:
        """Removes what no window needs."""
        async with transaction(self._engine) as connection:
            await connection.execute(_FORGET_WATCHES, {"before": now - WATCH_KEPT})
            await connection.execute(_FORGET_DROPS, {"before": minute_start(minute_of(now) - RETENTION_DAYS * 1440)})
        async with transaction(self._engine) as connection:
            await connection.execute(_FORGET_SECONDS, {"before": now - SECONDS_KEPT})
        async with transaction(self._engine) as connection:
            await lock_joining(connection)
            await connection.execute(_FORGET_OUTCOME_SECONDS, {"before": now - SECONDS_KEPT})

    async def _read(self, keys: Sequence[WatchKey], now: datetime) -> dict[WatchKey, Sums]:
        async with transaction(self._engine) as connection:
            await connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"))
            begins = await _begins(connection, keys)
            end = minute_start(minute_of(now) + _AHEAD_MINUTES)
            cells = await self._cells(connection, begins, end=end)
            # Hours of outcomes are always complete: they are added to as outcomes come.
            whole = [part for place, key in enumerate(keys) for part in _parts(place, key.model, begins[key], end, end)]
            outcomes = await _outcomes(connection, whole)
            firsts = {"places": list(range(len(keys))), "firsts": [begins[key] for key in keys]}
            drops = {place: int(count) for place, count in await connection.execute(_DROPS, firsts)}
        return {
            key: Sums(begins[key], cells[key], outcomes.get(place, {}), drops.get(place, 0))
            for place, key in enumerate(keys)
        }

    async def _cells(
        self, connection: AsyncConnection, begins: Mapping[WatchKey, datetime], *, end: datetime
    ) -> dict[WatchKey, dict[str, Cell]]:
        """The cells of windows by version: what is settled from memory, the rest as it is stored."""
        models = {"models": [key.model for key in begins]}
        changes = {model: int(count) for model, count in await connection.execute(_CHANGES, models)}
        minute_now = (await connection.execute(_MINUTE)).scalar_one()
        rolled = minute_start(await rolled_up_until(connection))
        known: dict[WatchKey, Settled] = {}
        parts: list[_Part] = []
        for place, (key, first) in enumerate(begins.items()):
            before = self._windows.known(key, begins=first, changes=changes.get(key.model, 0))
            until = max(before.until, min(settled_until(before, minute_now), end))
            parts += _parts(2 * place, key.model, before.until, until, rolled)
            parts += _parts(2 * place + 1, key.model, until, end, rolled)
            known[key] = replace(before, until=until)
        read = await _stored_cells(connection, parts)
        found: dict[WatchKey, dict[str, Cell]] = {}
        for place, (key, settled) in enumerate(known.items()):
            kept = replace(settled, cells=merged_cells(settled.cells, read.get(2 * place, {})))
            self._windows.keep(key, kept)
            found[key] = merged_cells(kept.cells, read.get(2 * place + 1, {}))
        return found


async def _head_known(connection: AsyncConnection, key: WatchKey, now: datetime) -> bool:
    """Whether all that was counted in the window's first minute so far is there by the second."""
    first, end = minute_floor(key.start), head_end(key.start)
    if end == key.start:
        return True
    if not head_is_kept(key.start, now):
        return False
    known = await connection.execute(_KNOWN_BY_SECOND, {"model": key.model, "first": first, "end": end})
    return bool(known.scalar())


async def _begins(connection: AsyncConnection, keys: Sequence[WatchKey]) -> dict[WatchKey, datetime]:
    asked = {"models": [key.model for key in keys], "starts": [key.start for key in keys]}
    known = {WatchKey(model, start): begins for model, start, begins in await connection.execute(_BEGINS, asked)}
    # Where a window was forgotten, so were its seconds.
    return {key: known.get(key, head_end(key.start)) for key in keys}


def _parts(place: int, model: str, first: datetime, end: datetime, rolled: datetime) -> list[_Part]:
    """From where to read what is between two moments: seconds to the first whole minute, then minutes and hours."""
    whole = head_end(first)
    if end < whole or first >= end:
        return []
    parts = [] if whole == first else [_Part(place, model, "second", first, whole)]
    parts.extend(
        _Part(place, model, part.granularity.value, minute_start(part.first), minute_start(part.end))
        for part in sources(minute_of(whole), minute_of(end), step_minutes=0, until=minute_of(rolled))
        if part.first < part.end
    )
    return parts


def _columns(parts: Sequence[_Part]) -> dict[str, object]:
    return {
        "places": [part.place for part in parts],
        "models": [part.model for part in parts],
        "granularities": [part.granularity for part in parts],
        "firsts": [part.first for part in parts],
        "ends": [part.end for part in parts],
    }


async def _stored_cells(connection: AsyncConnection, parts: Sequence[_Part]) -> dict[int, dict[str, Cell]]:
    values = _columns(parts)
    found: dict[int, dict[str, Cell]] = {}

    def cell(place: int, version: str) -> Cell:
        return found.setdefault(place, {}).setdefault(version, Cell())

    for place, version, name, dimensions, total in await connection.execute(_COUNTS, values):
        cell(place, version).counts[measure_of(name, dimensions)] += round(total)
    for place, version, encoded in await connection.execute(_SECONDS, values):
        add_encoded(cell(place, version), encoded)
    async with connection.stream(_SKETCHES, values) as rows:
        async for place, version, count, total, squares, buckets in rows:
            sketch = LatencySketch.decode(buckets, count=count, sum_us=total, sum_squares_us2=int(squares))
            cell(place, version).latency.merge(sketch)
    return found


async def _outcomes(connection: AsyncConnection, parts: Sequence[_Part]) -> dict[int, dict[str, dict[str, MetricSum]]]:
    found: dict[int, dict[str, dict[str, MetricSum]]] = {}
    for place, version, name, count, total, squares in await connection.execute(_OUTCOMES, _columns(parts)):
        found.setdefault(place, {}).setdefault(version, {})[name] = MetricSum(int(count), total, squares)
    return found
