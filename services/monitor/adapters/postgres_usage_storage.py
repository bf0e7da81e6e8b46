"""What was stored in each hour, in PostgreSQL. An hour is noted as a whole, once, whoever notes it."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.monitor.adapters.database import transaction
from services.monitor.domain.usage_window import day_of, hour_of, hour_start
from services.monitor.ports_usage import Stored

_SAMPLED = text("SELECT EXISTS (SELECT FROM team_storage_samples WHERE hour = :hour)")
_CLAIM = text("""
    INSERT INTO team_storage_samples (hour, sampled_at) VALUES (:hour, :at) ON CONFLICT (hour) DO NOTHING RETURNING hour
""")
_STORE = text("""
    INSERT INTO team_storage (team, model_id, hour, stored_bytes)
    SELECT team, model, :hour, size
    FROM unnest(CAST(:teams AS text[]), CAST(:models AS text[]), CAST(:sizes AS bigint[])) AS stored (team, model, size)
""")
_MISSED = text("""
    SELECT hour FROM generate_series(
        (SELECT min(hour) FROM team_storage_samples), (SELECT max(hour) FROM team_storage_samples), interval '1 hour'
    ) AS hour
    WHERE NOT EXISTS (SELECT FROM team_storage_samples AS known WHERE known.hour = hour.hour)
    ORDER BY hour LIMIT :limit
""")
_REPEAT = text("""
    INSERT INTO team_storage (team, model_id, hour, stored_bytes)
    SELECT team, model_id, :hour, stored_bytes FROM team_storage
    WHERE hour = (SELECT max(hour) FROM team_storage_samples WHERE hour < :hour)
""")
_ADD_TO_DAY = text("""
    INSERT INTO team_storage_days AS kept (team, model_id, day, stored_byte_hours)
    SELECT team, model_id, :day, stored_bytes FROM team_storage WHERE hour = :hour ORDER BY team, model_id
    ON CONFLICT (team, model_id, day)
    DO UPDATE SET stored_byte_hours = kept.stored_byte_hours + excluded.stored_byte_hours
""")


class PostgresStorageStore:
    """A `StorageStore`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def sampled(self, hour: int) -> bool:
        """Whether that hour is known."""
        async with transaction(self._engine) as connection:
            return bool((await connection.execute(_SAMPLED, {"hour": hour_start(hour)})).scalar())

    async def sample(self, hour: int, stored: Sequence[Stored], *, at: datetime) -> bool:
        """Notes what is stored in an hour, once."""
        moment = hour_start(hour)
        async with transaction(self._engine) as connection:
            if not await _claim(connection, moment, at):
                return False
            await connection.execute(
                _STORE,
                {
                    "hour": moment,
                    "teams": [one.team for one in stored],
                    "models": [one.model for one in stored],
                    "sizes": [one.bytes for one in stored],
                },
            )
            await _add_to_day(connection, moment)
        return True

    async def fill(self, *, limit: int) -> int:
        """Gives missed hours what was known before them, each in a transaction of its own."""
        async with transaction(self._engine) as connection:
            missed = [row[0] for row in await connection.execute(_MISSED, {"limit": limit})]
        for moment in missed:
            async with transaction(self._engine) as connection:
                if await _claim(connection, moment, None):
                    await connection.execute(_REPEAT, {"hour": moment})
                    await _add_to_day(connection, moment)
        return len(missed)


async def _claim(connection: AsyncConnection, moment: datetime, at: datetime | None) -> bool:
    claimed = await connection.execute(_CLAIM, {"hour": moment, "at": at})
    return claimed.first() is not None


async def _add_to_day(connection: AsyncConnection, moment: datetime) -> None:
    """Adds an hour that was just noted to its day."""
    day = hour_start(day_of(hour_of(moment)))
    await connection.execute(_ADD_TO_DAY, {"hour": moment, "day": day})
