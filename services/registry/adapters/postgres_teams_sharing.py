"""Whose models are and who else sees them, in PostgreSQL; and what a team has, for its quota."""
# ruff: noqa: S608 - made of this module's own text

from collections.abc import Sequence

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.common.errors import MeshError, Reason
from services.registry.adapters.change_rows import NewChange, note
from services.registry.adapters.database import transaction
from services.registry.adapters.postgres_teams_rows import quota_of
from services.registry.domain.access import Author, ModelAccess, no_team
from services.registry.domain.quotas import Use, check_room
from services.registry.domain.storage import StorageUse
from services.registry.engines.reading import no_model

_ACCESS = """
    SELECT m.id, coalesce(t.name, '') AS team,
        ARRAY(SELECT st.name FROM model_shares s JOIN teams st ON st.id = s.team_id
            WHERE s.model_id = m.id ORDER BY st.name) AS shared_with
    FROM models m LEFT JOIN teams t ON t.id = m.team_id WHERE m.name = :model
"""
_ONE = text(_ACCESS)
_LOCKED = text(f"{_ACCESS} FOR UPDATE OF m")
_QUOTA = text("SELECT resource_quota FROM teams WHERE name = :team")
_TEAM = text("SELECT id, name, resource_quota FROM teams WHERE name = :team FOR SHARE")
# Not FOR UPDATE: rows that refer to the team hold it already, of others who want this lock as well.
_TEAM_ALONE = text("SELECT id, name, resource_quota FROM teams WHERE name = :team FOR NO KEY UPDATE")
_SHARE = text("""
    INSERT INTO model_shares (model_id, team_id, created_by) VALUES (:model_id, :team_id, :created_by)
    ON CONFLICT DO NOTHING
""")
_UNSHARE = text("""
    DELETE FROM model_shares USING teams t WHERE model_id = :model_id AND team_id = t.id AND t.name = :team
""")
_TRANSFER = text("UPDATE models SET team_id = :team_id, updated_at = now() WHERE id = :model_id")
_MODELS = text("SELECT count(*) FROM models WHERE team_id = :team_id")
# As they are stored; what was registered before artifacts had records counts as it was sent.
_SIZES = """SELECT v.artifact_digest, max(coalesce(a.stored_bytes, v.model_size_bytes)) AS size
        FROM model_versions v LEFT JOIN artifacts a ON a.digest = v.artifact_digest"""
_BYTES = text(f"""
    SELECT coalesce(sum(size), 0) FROM (
        {_SIZES} JOIN models m ON m.id = v.model_id WHERE m.team_id = :team_id GROUP BY v.artifact_digest) s
""")
# Of the artifacts of a model those that the team has not got already.
_MORE_BYTES = text(f"""
    SELECT coalesce(sum(size), 0) FROM (
        {_SIZES}
        WHERE v.model_id = :model_id AND NOT EXISTS
            (SELECT FROM model_versions o JOIN models m ON m.id = o.model_id
             WHERE o.artifact_digest = v.artifact_digest AND m.team_id = :team_id)
        GROUP BY v.artifact_digest) s
""")
_STORED = text("SELECT stored_bytes FROM artifacts WHERE digest = :digest")
_HAS = text("""
    SELECT EXISTS (SELECT FROM model_versions v JOIN models m ON m.id = v.model_id
        WHERE v.artifact_digest = :digest AND m.team_id = :team_id)
""")
_STORAGE = text(f"""
    SELECT coalesce(t.name, '') AS team, m.name, sum(s.size) AS stored_bytes FROM (
        {_SIZES.replace("SELECT", "SELECT v.model_id,", 1)} GROUP BY v.model_id, v.artifact_digest) s
    JOIN models m ON m.id = s.model_id LEFT JOIN teams t ON t.id = m.team_id
    GROUP BY t.name, m.name ORDER BY 1, 2
""")
_SHARES_MAX = 500
_NOTHING = Use()


class PostgresSharingBook:
    """A `SharingBook` and a `StorageMeter`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def access(self, model_name: str) -> ModelAccess | None:
        """Whose a model is."""
        async with transaction(self._engine) as connection:
            row = (await connection.execute(_ONE, {"model": model_name})).mappings().one_or_none()
        return _access_of(row) if row is not None else None

    async def share(self, model_name: str, team: str, *, owner: str, author: Author) -> None:
        """Lets a team see a model."""
        async with transaction(self._engine) as connection:
            row = await _owned(connection, model_name, owner)
            target = await _team(connection, team)
            before = _access_of(row)
            if team in before.shared_with:
                return
            if len(before.shared_with) >= _SHARES_MAX:
                raise _too_many(model_name)
            asked = {"model_id": row["id"], "team_id": target["id"], "created_by": author.actor}
            await connection.execute(_SHARE, asked)
            await _note(connection, model_name, "shared", author, before)

    async def unshare(self, model_name: str, team: str, *, owner: str, author: Author) -> None:
        """Takes that back."""
        async with transaction(self._engine) as connection:
            row = await _owned(connection, model_name, owner)
            before = _access_of(row)
            if team not in before.shared_with:
                return
            await connection.execute(_UNSHARE, {"model_id": row["id"], "team": team})
            await _note(connection, model_name, "unshared", author, before)

    async def transfer(self, model_name: str, team: str, *, owner: str, author: Author) -> None:
        """Makes a model another team's."""
        async with transaction(self._engine) as connection:
            row = await _owned(connection, model_name, owner)
            before = _access_of(row)
            if team == before.team:
                return
            target = await _team(connection, team, alone=True)
            asked = {"model_id": row["id"], "team_id": target["id"], "team": team}
            more = Use(1, int((await connection.execute(_MORE_BYTES, asked)).scalar_one()))
            await check_quota_of(connection, target, more)
            await connection.execute(_UNSHARE, asked)
            await connection.execute(_TRANSFER, asked)
            await _note(connection, model_name, "transferred", author, before)

    async def storage(self) -> Sequence[StorageUse]:
        """By team and model."""
        async with transaction(self._engine) as connection:
            rows = (await connection.execute(_STORAGE)).mappings()
            return [StorageUse(row["team"], row["name"], int(row["stored_bytes"])) for row in rows]


async def check_registration_room(
    connection: AsyncConnection, team: str, *, new_model: bool, digest: str, size_bytes: int
) -> None:
    """Raises QUOTA_EXCEEDED where a version would be too much for its team. A part of the registration's transaction,
    after its model's row and before that of the version; registrations of a team with a quota follow one another."""
    quota = quota_of((await connection.execute(_QUOTA, {"team": team})).scalar_one())
    if quota.models is None and quota.artifact_bytes is None:
        return
    alone = await _team(connection, team, alone=True)
    has = (await connection.execute(_HAS, {"team_id": alone["id"], "digest": digest})).scalar_one()
    stored = (await connection.execute(_STORED, {"digest": digest})).scalar_one_or_none()
    more = Use(int(new_model), 0 if has else size_bytes if stored is None else int(stored))
    await check_quota_of(connection, alone, more, already=Use(models=int(new_model)))


async def check_quota_of(connection: AsyncConnection, team: RowMapping, more: Use, *, already: Use = _NOTHING) -> None:
    """Raises QUOTA_EXCEEDED where a team, whose row is locked, may not have so much more. `already`: what of it the
    tables hold."""
    asked = {"team_id": team["id"]}
    models = int((await connection.execute(_MODELS, asked)).scalar_one()) - already.models
    used = Use(models, int((await connection.execute(_BYTES, asked)).scalar_one()))
    check_room(team["name"], quota_of(team["resource_quota"]), used=used, more=more)


async def _owned(connection: AsyncConnection, model_name: str, owner: str) -> RowMapping:
    row = (await connection.execute(_LOCKED, {"model": model_name})).mappings().one_or_none()
    if row is None or row["team"] != owner:
        raise no_model(model_name)
    return row


async def _team(connection: AsyncConnection, team: str, *, alone: bool = False) -> RowMapping:
    found = await connection.execute(_TEAM_ALONE if alone else _TEAM, {"team": team})
    row = found.mappings().one_or_none()
    if row is None:
        raise no_team(team)
    return row


def _access_of(row: RowMapping) -> ModelAccess:
    return ModelAccess(row["team"], tuple(row["shared_with"]))


def _too_many(model_name: str) -> MeshError:
    return MeshError(
        Reason.QUOTA_EXCEEDED,
        f"model {model_name!r} is shared with {_SHARES_MAX} teams, which is the most; take one back first",
        metadata={"limit": "shared_with", "value": str(_SHARES_MAX), "used": str(_SHARES_MAX)},
    )


async def _note(connection: AsyncConnection, model_name: str, action: str, author: Author, before: ModelAccess) -> None:
    after = _access_of((await connection.execute(_ONE, {"model": model_name})).mappings().one())
    await note(
        connection,
        NewChange(
            resource_type="model",
            resource_name=model_name,
            model_name=model_name,
            action=action,
            actor=author.actor,
            team=author.team,
            request_id=author.request_id,
            before=_json(before),
            after=_json(after),
        ),
    )


def _json(access: ModelAccess) -> dict[str, object]:
    return {"team": access.team, "shared_with": list(access.shared_with)}
