"""Usage in PostgreSQL: added up with the log, by hour and by UTC day; read as sums, from whole days and the hours at
their edges, or hour by hour."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Row, TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.monitor.adapters.database import transaction
from services.monitor.domain.usage import Usage, UsageKey, Used
from services.monitor.domain.usage_window import day_of, hour_of, hour_start
from services.monitor.ports_usage import Metered, UsageQuery


def _add_to(table: str, moment: str) -> TextClause:
    return text(f"""
        INSERT INTO {table} AS kept (team, model_id, version_id, {moment}, request_count, prediction_count, serving_us,
                                     compute_us, gpu_milli_us)
        SELECT * FROM unnest(CAST(:teams AS text[]), CAST(:models AS text[]), CAST(:versions AS text[]),
                             CAST(:moments AS timestamptz[]), CAST(:requests AS bigint[]),
                             CAST(:predictions AS bigint[]), CAST(:serving AS numeric[]), CAST(:compute AS numeric[]),
                             CAST(:gpu AS numeric[]))
        ON CONFLICT (team, model_id, version_id, {moment}) DO UPDATE SET
            request_count = kept.request_count + excluded.request_count,
            prediction_count = kept.prediction_count + excluded.prediction_count,
            serving_us = kept.serving_us + excluded.serving_us,
            compute_us = kept.compute_us + excluded.compute_us,
            gpu_milli_us = kept.gpu_milli_us + excluded.gpu_milli_us
    """)  # noqa: S608 - names of ours alone are put in


_ADD_HOURS, _ADD_DAYS = _add_to("team_usage", "hour"), _add_to("team_usage_days", "day")
_USED = "request_count, prediction_count, serving_us, compute_us, gpu_milli_us"
_SUMS = f"{', '.join(f'sum({name})' for name in _USED.split(', '))}, sum(stored)"
_WANTED = """(CAST(:team AS text) IS NULL OR team = :team)
              AND (CAST(:models AS text[]) IS NULL OR model_id = ANY(:models))"""
_DAYS = "day >= :first_day AND day < :end_day"
_EDGES = "(hour >= :first AND hour < :first_day OR hour >= :end_day AND hour < :end)"
# No key is as small as the position that stands for the beginning: every model has a name.
_USAGE_BEHIND = "(team, model_id, version_id) > (:after_team, :after_model, :after_version)"
_STORAGE_BEHIND = "(team, model_id) > (:after_team, :after_model)"
_TOTALS = text(f"""
    SELECT team, model_id, version_id, min(moment), {_SUMS}
    FROM (
        SELECT team, model_id, version_id, day AS moment, {_USED}, 0 AS stored
        FROM team_usage_days WHERE {_DAYS} AND {_WANTED} AND {_USAGE_BEHIND}
        UNION ALL
        SELECT team, model_id, version_id, hour, {_USED}, 0
        FROM team_usage WHERE {_EDGES} AND {_WANTED} AND {_USAGE_BEHIND}
        UNION ALL
        SELECT team, model_id, '' COLLATE "C", day, 0, 0, 0, 0, 0, stored_byte_hours
        FROM team_storage_days WHERE {_DAYS} AND {_WANTED} AND {_STORAGE_BEHIND}
        UNION ALL
        SELECT team, model_id, '' COLLATE "C", hour, 0, 0, 0, 0, 0, stored_bytes
        FROM team_storage WHERE {_EDGES} AND {_WANTED} AND {_STORAGE_BEHIND}
    ) AS metered
    GROUP BY team, model_id, version_id ORDER BY team, model_id, version_id LIMIT :limit
""")  # noqa: S608 - as above
# Each part brings as many rows as may be wanted, in order out of an index, however many there are.
_BY_HOUR = text(f"""
    SELECT team, model_id, version_id, hour, {_SUMS}
    FROM (
        (SELECT team, model_id, version_id, hour, {_USED}, 0 AS stored FROM team_usage
         WHERE hour >= :first AND hour < :end AND {_WANTED}
           AND (hour, team, model_id, version_id) > (:after_hour, :after_team, :after_model, :after_version)
         ORDER BY hour, team, model_id, version_id LIMIT :limit)
        UNION ALL
        (SELECT team, model_id, '' COLLATE "C", hour, 0, 0, 0, 0, 0, stored_bytes FROM team_storage
         WHERE hour >= :first AND hour < :end AND {_WANTED}
           AND (hour, team, model_id) > (:after_hour, :after_team, :after_model)
         ORDER BY hour, team, model_id LIMIT :limit)
    ) AS metered
    GROUP BY hour, team, model_id, version_id ORDER BY hour, team, model_id, version_id LIMIT :limit
""")  # noqa: S608 - as above
_BEGINNING = ("", "", "")


async def add_usage(connection: AsyncConnection, usage: Mapping[UsageKey, Used]) -> None:
    """Adds what was used to what is kept, by hour and by day. The caller holds the counting lock."""
    if not usage:
        return
    days = Usage()
    for key, used in usage.items():
        days[replace(key, hour=day_of(key.hour))].add(used)
    for statement, parts in ((_ADD_HOURS, usage), (_ADD_DAYS, days)):
        await connection.execute(statement, _columns(parts))


def _columns(usage: Mapping[UsageKey, Used]) -> dict[str, object]:
    keys = sorted(usage)
    return {
        "teams": [key.team for key in keys],
        "models": [key.model for key in keys],
        "versions": [key.version for key in keys],
        "moments": [hour_start(key.hour) for key in keys],
        "requests": [usage[key].requests for key in keys],
        "predictions": [usage[key].predictions for key in keys],
        # As text: sums of microseconds may be larger than any integer type of the database.
        "serving": [str(usage[key].serving_us) for key in keys],
        "compute": [str(usage[key].compute_us) for key in keys],
        "gpu": [str(usage[key].gpu_milli_us) for key in keys],
    }


class PostgresUsageReader:
    """A `UsageReader`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def totals(self, query: UsageQuery, *, after: tuple[str, str, str] | None, limit: int) -> Sequence[Metered]:
        """Sums over the hours by team, model and version."""
        team, model, version = after or _BEGINNING
        days = query.hours.days
        values = {
            **_wanted(query),
            "first_day": hour_start(days.first),
            "end_day": hour_start(days.end),
            "after_team": team,
            "after_model": model,
            "after_version": version,
            "limit": limit,
        }
        async with transaction(self._engine) as connection:
            return [_read(row) for row in await connection.execute(_TOTALS, values)]

    async def by_hour(self, query: UsageQuery, *, after: UsageKey | None, limit: int) -> Sequence[Metered]:
        """Each hour."""
        last = after or UsageKey(query.hours.first, *_BEGINNING)
        values = {
            **_wanted(query),
            "after_hour": hour_start(last.hour),
            "after_team": last.team,
            "after_model": last.model,
            "after_version": last.version,
            "limit": limit,
        }
        async with transaction(self._engine) as connection:
            return [_read(row) for row in await connection.execute(_BY_HOUR, values)]


def _wanted(query: UsageQuery) -> dict[str, object]:
    return {
        "first": hour_start(query.hours.first),
        "end": hour_start(query.hours.end),
        "team": query.team,
        "models": None if query.models is None else sorted(query.models),
    }


def _read(row: Row[Any]) -> Metered:
    team, model, version, hour, *sums = tuple(row)
    *used, stored_bytes = map(int, sums)
    return Metered(UsageKey(hour_of(hour), team, model, version), Used(*used), stored_bytes)
