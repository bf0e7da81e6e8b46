"""The audit log in PostgreSQL: read backwards as pages, followed forwards by number."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.registry.adapters.change_rows import NewChange, by_caller, note
from services.registry.adapters.database import transaction
from services.registry.adapters.queries import SEEN
from services.registry.domain.changes import Change, Wanted

# A team sees what it did, what was done to itself, to models that it sees, and to models that it saw and that are gone.
# Of a name that was registered again since, whose model it is now decides alone, and of one that went twice the last.
# A key that is limited to models sees the changes of these alone.
_VISIBLE = f"""(
    :viewer = ''
    OR (strpos(:viewer, ' ') = 0 AND (c.team = :viewer
        OR (c.resource_type IN ('team', 'member', 'api_key') AND split_part(c.resource_name, '/', 1) = :viewer)))
    OR (c.model_name <> '' AND EXISTS (
        SELECT FROM models m WHERE m.name = c.model_name AND {SEEN}))
    OR (c.model_name <> '' AND NOT EXISTS (SELECT FROM models again WHERE again.name = c.model_name) AND EXISTS (
        SELECT FROM removed_models m WHERE m.name = c.model_name
        AND NOT EXISTS (SELECT FROM removed_models later WHERE later.name = m.name AND later.removed_at > m.removed_at)
        AND {SEEN}))
)"""  # noqa: S608 - the module's own text
_WANTED = """
    (cardinality(CAST(:types AS text[])) = 0 OR c.resource_type = ANY(:types))
    AND (:resource_name = '' OR c.resource_name = :resource_name)
    AND (:model_name = '' OR c.model_name = :model_name)
    AND (:actor = '' OR c.actor = :actor) AND (:team = '' OR c.team = :team)
    AND (CAST(:start AS timestamptz) IS NULL OR c.changed_at >= :start)
    AND (CAST(:end AS timestamptz) IS NULL OR c.changed_at < :end)
"""
_PAGE = text(
    f"SELECT c.* FROM changes c WHERE {_WANTED} AND {_VISIBLE} AND (:before = 0 OR c.id < :before)"  # noqa: S608
    " ORDER BY c.id DESC LIMIT :limit"
)
# The last number and the changes up to it are of one snapshot: what is not among them will have a greater number.
_BEHIND = text(
    f"""
    WITH last AS (SELECT coalesce(max(id), 0) AS number FROM changes)
    SELECT last.number AS last_number, found.*
    FROM last LEFT JOIN LATERAL (
        SELECT c.* FROM changes c WHERE c.id > :after AND c.id <= last.number AND {_WANTED} AND {_VISIBLE}
        ORDER BY c.id LIMIT :limit
    ) found ON true ORDER BY found.id
    """  # noqa: S608
)
_LAST = text("SELECT coalesce(max(id), 0) FROM changes")


class PostgresChangeLog:
    """A `ChangeLog`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def add(self, change: NewChange) -> None:
        """Notes a change of something that is not in this database, so in no transaction with it."""
        async with transaction(self._engine) as connection:
            await note(connection, by_caller(change))

    async def page(self, wanted: Wanted, *, before: int, limit: int, team: str = "") -> Sequence[Change]:
        """At most `limit` changes, newest first, numbered below `before`."""
        parameters = _parameters(wanted) | {"before": before, "limit": limit, "viewer": team}
        async with transaction(self._engine) as connection:
            return [_change_of(row) for row in (await connection.execute(_PAGE, parameters)).mappings()]

    async def behind(self, wanted: Wanted, *, after: int, limit: int, team: str = "") -> tuple[Sequence[Change], int]:
        """At most `limit` changes in order, numbered above `after`, and up to which number that is all there is."""
        parameters = _parameters(wanted) | {"after": after, "limit": limit, "viewer": team}
        async with transaction(self._engine) as connection:
            rows = (await connection.execute(_BEHIND, parameters)).mappings().all()
        found = [_change_of(row) for row in rows if row["id"] is not None]
        return found, found[-1].number if len(found) == limit else max(after, rows[0]["last_number"])

    async def last(self) -> int:
        """The number of the last change; 0 where there is none."""
        async with transaction(self._engine) as connection:
            return int((await connection.execute(_LAST)).scalar_one())


def _parameters(wanted: Wanted) -> dict[str, object]:
    return {
        "types": list(wanted.resource_types),
        "resource_name": wanted.resource_name,
        "model_name": wanted.model_name,
        "actor": wanted.actor,
        "team": wanted.team,
        "start": wanted.start,
        "end": wanted.end,
    }


def _change_of(row: RowMapping) -> Change:
    values: dict[str, Any] = dict(row)
    return Change(
        number=values["id"],
        resource_type=values["resource_type"],
        resource_name=values["resource_name"],
        action=values["action"],
        actor=values["actor"],
        team=values["team"],
        request_id=values["request_id"],
        reason=values["reason"],
        before=values["before"],
        after=values["after"],
        time=values["changed_at"],
    )
