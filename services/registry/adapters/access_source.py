"""What tells callers apart, out of PostgreSQL, each time as of one moment."""
# ruff: noqa: S608 - made of this module's own text

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.registry.adapters.database import transaction
from services.registry.adapters.postgres_keys_signing import read_key_set
from services.registry.adapters.postgres_teams_rows import TEAM, team_of
from services.registry.domain.access import ModelAccess
from services.registry.domain.access_history import Head, KeyLimit, Look
from services.registry.domain.quotas import RateLimit

_REVISION = text("SELECT coalesce(max(id), 0) FROM changes")
# Ids grow in the order of commits, so nothing that comes later has one below.
_CHANGED = text("""
    SELECT DISTINCT resource_type, CASE WHEN model_name <> '' THEN model_name ELSE resource_name END AS model_name
    FROM changes
    WHERE id > :revision AND resource_type IN ('model', 'team', 'member', 'api_key') LIMIT :limit
""")
_MODELS = """
    SELECT m.name, coalesce(t.name, '') AS team,
        ARRAY(SELECT st.name FROM model_shares s JOIN teams st ON st.id = s.team_id
            WHERE s.model_id = m.id ORDER BY st.name) AS shared_with
    FROM models m LEFT JOIN teams t ON t.id = m.team_id
"""
_ALL = text(_MODELS)
_SOME = text(f"{_MODELS} WHERE m.name = ANY(:names)")
_TEAMS = text(f"SELECT {TEAM} FROM teams t ORDER BY t.name")
_REVOKED = text("""
    SELECT key_id FROM api_keys WHERE revoked_at IS NOT NULL AND (expires_at IS NULL OR expires_at > :now)
    ORDER BY key_id
""")
_LIMITED = text("""
    SELECT key_id, rate_limit FROM api_keys
    WHERE rate_limit IS NOT NULL AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > :now) ORDER BY key_id
""")
_CHANGED_MAX = 5000
"""With more changes than these, all is read at once."""


class PostgresAccessSource:
    """An `AccessSource`."""

    def __init__(self, engine: AsyncEngine) -> None:
        # All statements of a look see the same moment.
        self._engine = engine.execution_options(isolation_level="REPEATABLE READ")

    async def whole(self, *, now: datetime) -> Look:
        """All of it."""
        async with transaction(self._engine) as connection:
            return await _whole(connection, now)

    async def since(self, revision: int, *, now: datetime) -> Look:
        """What was changed behind a revision."""
        async with transaction(self._engine) as connection:
            current = (await connection.execute(_REVISION)).scalar_one()
            if current == revision:
                return Look(revision, None, {}, whole=False)
            asked = {"revision": revision, "limit": _CHANGED_MAX}
            rows = (await connection.execute(_CHANGED, asked)).mappings().all()
            if current < revision or len(rows) == _CHANGED_MAX:
                # The database was put back to what it was before, or has changed beyond what is worth telling apart.
                return await _whole(connection, now)
            names = [row["model_name"] for row in rows if row["resource_type"] == "model"]
            models: dict[str, ModelAccess | None] = dict.fromkeys(names)
            models |= await _models(connection, names) if names else {}
            head = await _head(connection, now) if len(names) < len(rows) else None
            return Look(current, head, models, whole=False)


async def _whole(connection: AsyncConnection, now: datetime) -> Look:
    current = (await connection.execute(_REVISION)).scalar_one()
    return Look(current, await _head(connection, now), await _models(connection, None), whole=True)


async def _models(connection: AsyncConnection, names: list[str] | None) -> Mapping[str, ModelAccess]:
    found = await (connection.execute(_ALL) if names is None else connection.execute(_SOME, {"names": names}))
    return {row["name"]: ModelAccess(row["team"], tuple(row["shared_with"])) for row in found.mappings()}


async def _head(connection: AsyncConnection, now: datetime) -> Head:
    asked = {"now": now}
    teams = (await connection.execute(_TEAMS)).mappings()
    limits = (await connection.execute(_LIMITED, asked)).mappings()
    return Head(
        revoked=tuple((await connection.execute(_REVOKED, asked)).scalars()),
        teams=tuple(team_of(row) for row in teams),
        limits=tuple(KeyLimit(row["key_id"], RateLimit(**row["rate_limit"])) for row in limits),
        key_set=await read_key_set(connection, now=now),
    )
