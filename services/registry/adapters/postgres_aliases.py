"""Aliases and their moves in PostgreSQL."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.common.errors import MeshError, Reason
from services.registry.adapters.database import transaction
from services.registry.adapters.noting import note_alias
from services.registry.adapters.queries import ALIASES, SEEN
from services.registry.domain.access import EVERYBODY
from services.registry.domain.alias import Alias, AliasMove, Move

_FIND = text(f"{ALIASES} AND m.name = :model AND a.alias = :alias")
_PAGE = text(f"{ALIASES} AND m.name = :model AND a.alias > :after ORDER BY a.alias LIMIT :limit")
# The lock makes moves of one model's aliases come one after the other, also of an alias that is not there yet.
_LOCK = text("UPDATE models SET updated_at = now() WHERE name = :model RETURNING id")
_VERSION = text("""
    SELECT v.id FROM model_versions v JOIN models m ON m.id = v.model_id
    WHERE m.name = :model AND v.version = :version
""")
_NOTE = text("""
    INSERT INTO alias_moves (model_id, alias, from_version, to_version, reason, moved_by)
    VALUES (:model_id, :alias, :from_version, :version, :reason, :moved_by)
    RETURNING id
""")
_POINT = text("""
    INSERT INTO model_aliases (model_id, alias, version_id, updated_by, revision)
    VALUES (:model_id, :alias, :version_id, :moved_by, :revision)
    ON CONFLICT (model_id, alias) DO UPDATE SET version_id = EXCLUDED.version_id, updated_by = EXCLUDED.updated_by,
        revision = EXCLUDED.revision, updated_at = now()
""")
_DROP = text("DELETE FROM model_aliases WHERE model_id = :model_id AND alias = :alias")
_MOVES = text(f"""
    SELECT h.id, h.from_version, h.to_version, h.reason, h.moved_by, h.moved_at
    FROM alias_moves h JOIN models m ON m.id = h.model_id
    WHERE {SEEN} AND m.name = :model AND h.alias = :alias
      AND (:before = 0 OR h.id < :before)
    ORDER BY h.id DESC LIMIT :limit
""")  # noqa: S608 - the module's own text


class PostgresAliasBook:
    """An `AliasBook`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def find(self, model_name: str, alias: str, *, team: str = "") -> Alias | None:
        """The alias of that name."""
        parameters = {"model": model_name, "alias": alias, "viewer": team}
        async with transaction(self._engine) as connection:
            row = (await connection.execute(_FIND, parameters)).mappings().one_or_none()
        return alias_of(row) if row is not None else None

    async def page(self, model_name: str, *, after: str, limit: int, team: str = "") -> Sequence[Alias]:
        """At most `limit` aliases from behind `after`."""
        parameters = {"model": model_name, "after": after, "limit": limit, "viewer": team}
        async with transaction(self._engine) as connection:
            return [alias_of(row) for row in (await connection.execute(_PAGE, parameters)).mappings()]

    async def move(self, move: Move, *, revision: int | None) -> Alias | None:
        """Makes, moves or takes away an alias, and notes the move; all in one transaction."""
        names = {"model": move.model_name, "alias": move.alias, "version": move.version, "viewer": EVERYBODY}
        async with transaction(self._engine) as connection:
            model_id = (await connection.execute(_LOCK, names)).scalar_one_or_none()
            version_id = (await connection.execute(_VERSION, names)).scalar_one_or_none()
            if model_id is None or (move.version and version_id is None):
                raise no_version(move)
            found = (await connection.execute(_FIND, names)).mappings().one_or_none()
            current = alias_of(found) if found is not None else None
            if revision is not None and revision != (current.revision if current is not None else 0):
                return None
            if (current.version if current is not None else "") == move.version:
                return current
            noted = {
                **names,
                "model_id": model_id,
                "version_id": version_id,
                "from_version": current.version if current is not None else "",
                "reason": move.reason,
                "moved_by": move.moved_by,
            }
            number = (await connection.execute(_NOTE, noted)).scalar_one()
            if not move.version:
                await connection.execute(_DROP, noted)
                await note_alias(connection, current, None, reason=move.reason)
                return current
            await connection.execute(_POINT, noted | {"revision": number})
            pointed = alias_of((await connection.execute(_FIND, names)).mappings().one())
            await note_alias(connection, current, pointed, reason=move.reason)
            return pointed

    async def moves(
        self, model_name: str, alias: str, *, before: int, limit: int, team: str = ""
    ) -> Sequence[AliasMove]:
        """At most `limit` moves, newest first."""
        parameters = {"model": model_name, "alias": alias, "before": before, "limit": limit, "viewer": team}
        async with transaction(self._engine) as connection:
            rows = (await connection.execute(_MOVES, parameters)).mappings()
            return [
                AliasMove(
                    row["id"], row["from_version"], row["to_version"], row["reason"], row["moved_by"], row["moved_at"]
                )
                for row in rows
            ]


def no_version(move: Move) -> MeshError:
    """VERSION_NOT_FOUND for a move to nothing."""
    return MeshError(
        Reason.VERSION_NOT_FOUND,
        f"model {move.model_name!r} has no version {move.version!r}; list its versions to see which are registered",
        metadata={"model_name": move.model_name, "version": move.version},
    )


def alias_of(row: RowMapping) -> Alias:
    """The alias that a row holds."""
    values: dict[str, Any] = dict(row)
    values["model_id"] = str(values["model_id"])
    return Alias(**values)
