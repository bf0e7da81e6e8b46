"""Usage by hour in PostgreSQL: added up with the log, read as sums or hour by hour."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.monitor.adapters.database import transaction
from services.monitor.domain.usage import UsageKey, Used
from services.monitor.domain.usage_window import hour_of, hour_start
from services.monitor.ports_usage import Metered, UsageQuery

_ADD = text("""
    INSERT INTO team_usage AS kept (team, model_id, version_id, hour, request_count, prediction_count, serving_us,
                                    compute_us, gpu_milli_us)
    SELECT * FROM unnest(CAST(:teams AS text[]), CAST(:models AS text[]), CAST(:versions AS text[]),
                         CAST(:hours AS timestamptz[]), CAST(:requests AS bigint[]), CAST(:predictions AS bigint[]),
                         CAST(:serving AS bigint[]), CAST(:compute AS bigint[]), CAST(:gpu AS numeric[]))
    ON CONFLICT (team, model_id, version_id, hour) DO UPDATE SET
        request_count = kept.request_count + excluded.request_count,
        prediction_count = kept.prediction_count + excluded.prediction_count,
        serving_us = kept.serving_us + excluded.serving_us,
        compute_us = kept.compute_us + excluded.compute_us,
        gpu_milli_us = kept.gpu_milli_us + excluded.gpu_milli_us
""")
_WANTED = """hour >= :first AND hour < :end AND (CAST(:team AS text) IS NULL OR team = :team)
          AND (CAST(:models AS text[]) IS NULL OR model_id = ANY(:models))"""
_SUMS = """sum(request_count), sum(prediction_count), sum(serving_us), sum(compute_us), sum(gpu_milli_us),
           sum(stored_bytes)"""


def _metered(behind_usage: str, behind_storage: str) -> str:
    """Usage and storage under each other. Storage is of no version."""
    return f"""
        SELECT team, model_id, version_id, hour, request_count, prediction_count, serving_us, compute_us, gpu_milli_us,
               0 AS stored_bytes
        FROM team_usage WHERE {_WANTED} AND {behind_usage}
        UNION ALL
        SELECT team, model_id, '' COLLATE "C", hour, 0, 0, 0, 0, 0, stored_bytes
        FROM team_storage WHERE {_WANTED} AND {behind_storage}
    """  # noqa: S608 - parameters alone are put in


_TOTALS = text(f"""
    SELECT team, model_id, version_id, min(hour), {_SUMS}
    FROM ({
    _metered(
        "(NOT :behind OR (team, model_id, version_id) > (:after_team, :after_model, :after_version))",
        "(NOT :behind OR (team, model_id) > (:after_team, :after_model))",
    )
}) AS metered
    GROUP BY team, model_id, version_id ORDER BY team, model_id, version_id LIMIT :limit
""")  # noqa: S608
_BY_HOUR = text(f"""
    SELECT team, model_id, version_id, hour, {_SUMS}
    FROM ({
    _metered(
        "(NOT :behind OR (hour, team, model_id, version_id) > "
        "(:after_hour, :after_team, :after_model, :after_version))",
        "(NOT :behind OR (hour, team, model_id) > (:after_hour, :after_team, :after_model))",
    )
}) AS metered
    GROUP BY hour, team, model_id, version_id ORDER BY hour, team, model_id, version_id LIMIT :limit
""")  # noqa: S608


async def add_usage(connection: AsyncConnection, usage: Mapping[UsageKey, Used]) -> None:
    """Adds what was used to what is kept. The caller holds the counting lock."""
    if not usage:
        return
    keys = sorted(usage)
    await connection.execute(
        _ADD,
        {
            "teams": [key.team for key in keys],
            "models": [key.model for key in keys],
            "versions": [key.version for key in keys],
            "hours": [hour_start(key.hour) for key in keys],
            "requests": [usage[key].requests for key in keys],
            "predictions": [usage[key].predictions for key in keys],
            "serving": [usage[key].serving_us for key in keys],
            "compute": [usage[key].compute_us for key in keys],
            # As text: GPUs times microseconds may be larger than any integer type of the database.
            "gpu": [str(usage[key].gpu_milli_us) for key in keys],
        },
    )


class PostgresUsageReader:
    """A `UsageReader`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def totals(self, query: UsageQuery, *, after: tuple[str, str, str] | None, limit: int) -> Sequence[Metered]:
        """Sums over the hours by team, model and version."""
        team, model, version = after or ("", "", "")
        behind = {"after_team": team, "after_model": model, "after_version": version}
        async with transaction(self._engine) as connection:
            found = await connection.execute(
                _TOTALS, {**_wanted(query), **behind, "behind": after is not None, "limit": limit}
            )
            return [_read(row) for row in found]

    async def by_hour(self, query: UsageQuery, *, after: UsageKey | None, limit: int) -> Sequence[Metered]:
        """Each hour."""
        last = after or UsageKey(0, "", "", "")
        behind = {
            "after_hour": hour_start(last.hour),
            "after_team": last.team,
            "after_model": last.model,
            "after_version": last.version,
        }
        async with transaction(self._engine) as connection:
            found = await connection.execute(
                _BY_HOUR, {**_wanted(query), **behind, "behind": after is not None, "limit": limit}
            )
            return [_read(row) for row in found]


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
