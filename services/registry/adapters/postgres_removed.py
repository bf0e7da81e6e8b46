"""Removing models and versions in PostgreSQL: rows are set aside whole, and forgotten when nobody can need them."""

import json
from dataclasses import replace
from typing import Any
from uuid import uuid4

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.common.errors import MeshError, Reason
from services.registry.adapters.change_rows import NewChange, by_caller, note
from services.registry.adapters.database import transaction
from services.registry.adapters.postgres_aliases import alias_of
from services.registry.adapters.queries import ALIASES, MODELS, VERSIONS
from services.registry.adapters.rows import model_of, version_of
from services.registry.convert.noting import noted_alias, noted_model, noted_version
from services.registry.domain.access import EVERYBODY
from services.registry.domain.conflicts import other_team
from services.registry.domain.deletion import Removal, Target, aliased, being_removed, number_taken
from services.registry.domain.version import NewVersion
from services.registry.engines.changing import mismatch
from services.registry.engines.reading import no_model

# Whoever registers or moves an alias locks the model first, too.
_LOCK = text("SELECT id, team_id FROM models WHERE name = :model FOR UPDATE")
_MODEL = text(f"{MODELS} AND m.id = :model_id")
_VERSIONS = text(f"{VERSIONS} AND m.id = :model_id AND (:version = '' OR v.version = :version) ORDER BY v.precedence")
_ALIASES = text(f"{ALIASES} AND m.id = :model_id ORDER BY a.alias")
_HIDE_VERSION = text("""
    INSERT INTO removed_versions
        (id, removal, state, model_id, model_name, version, team_id, artifact_digest, whole, noted, signature)
    SELECT v.id, CAST(:removal AS uuid), 'hidden', v.model_id, :model, v.version, :team_id, v.artifact_digest,
        to_jsonb(v), CAST(:noted AS jsonb), (SELECT to_jsonb(s) FROM version_signatures s WHERE s.version_id = v.id)
    FROM model_versions v WHERE v.id = CAST(:id AS uuid)
""")
_DROP_VERSION = text("DELETE FROM model_versions WHERE id = CAST(:id AS uuid)")
_HIDE_MODEL = text("""
    INSERT INTO removed_models (id, name, team_id, removal, state, whole, noted, aliases, shares)
    SELECT m.id, m.name, m.team_id, CAST(:removal AS uuid), 'hidden', to_jsonb(m), CAST(:noted AS jsonb),
        (SELECT coalesce(jsonb_agg(to_jsonb(a)), '[]') FROM model_aliases a WHERE a.model_id = m.id),
        (SELECT coalesce(jsonb_agg(to_jsonb(s)), '[]') FROM model_shares s WHERE s.model_id = m.id)
    FROM models m WHERE m.id = :model_id
""")
_DROP_ALIASES = text("DELETE FROM model_aliases WHERE model_id = :model_id")
_DROP_MODEL = text("DELETE FROM models WHERE id = :model_id")
_TOUCH = text("UPDATE models SET updated_at = now() WHERE id = :model_id")

_HELD_MODEL = text("SELECT * FROM removed_models WHERE removal = CAST(:removal AS uuid) AND state <> 'gone' FOR UPDATE")
_HELD_VERSIONS = text("""
    SELECT * FROM removed_versions WHERE removal = CAST(:removal AS uuid) AND state <> 'gone'
    ORDER BY model_name, version FOR UPDATE
""")
_SETTLE = (
    text("UPDATE removed_models SET state = 'removed' WHERE removal = CAST(:removal AS uuid)"),
    text("UPDATE removed_versions SET state = 'removed' WHERE removal = CAST(:removal AS uuid)"),
)
_FORGET = tuple(
    text(
        f"UPDATE {table} SET state = 'gone', whole = NULL, noted = NULL "  # noqa: S608 - the module's own text
        "WHERE removal = CAST(:removal AS uuid) AND state = 'removed'"
    )
    for table in ("removed_models", "removed_versions")
)
_RELEASE = (
    text("DELETE FROM removed_models WHERE removal = CAST(:removal AS uuid)"),
    text("DELETE FROM removed_versions WHERE removal = CAST(:removal AS uuid)"),
)
_RESTORE_MODEL = text("""
    INSERT INTO models SELECT (jsonb_populate_record(NULL::models, CAST(:whole AS jsonb))).* ON CONFLICT DO NOTHING
    RETURNING id
""")
# Its request id may have registered something else meanwhile.
_RESTORE_VERSION = text("""
    INSERT INTO model_versions
    SELECT (jsonb_populate_record(NULL::model_versions, jsonb_set(
        CASE WHEN EXISTS (SELECT FROM model_versions o WHERE o.request_id = w.whole ->> 'request_id')
            THEN w.whole - 'request_id' ELSE w.whole END,
        '{model_id}', (SELECT to_jsonb(m.id) FROM models m WHERE m.name = :model)))).*
    FROM (SELECT CAST(:whole AS jsonb) AS whole) w
""")
_RESTORE_SIGNATURE = text("""
    INSERT INTO version_signatures
    SELECT (jsonb_populate_record(NULL::version_signatures, CAST(:signature AS jsonb))).*
""")
_RESTORE_ALIASES = text("""
    INSERT INTO model_aliases SELECT a.* FROM jsonb_populate_recordset(NULL::model_aliases, CAST(:aliases AS jsonb)) a
""")
_RESTORE_SHARES = text("""
    INSERT INTO model_shares
    SELECT s.* FROM jsonb_populate_recordset(NULL::model_shares, CAST(:shares AS jsonb)) s
    WHERE EXISTS (SELECT FROM teams t WHERE t.id = s.team_id)
""")
_OPEN = text("""
    SELECT removal, state, model_name, version FROM (
        SELECT removal, state, removed_at, name AS model_name, '' AS version FROM removed_models WHERE state <> 'gone'
        UNION ALL
        SELECT r.removal, r.state, r.removed_at, r.model_name, r.version FROM removed_versions r
        WHERE r.state <> 'gone' AND NOT EXISTS (SELECT FROM removed_models m WHERE m.removal = r.removal)
    ) held
    WHERE removed_at < now() - make_interval(secs => :age_s) ORDER BY removed_at LIMIT :limit
""")
_TAKEN = text("SELECT state FROM removed_versions WHERE model_name = :model AND version = :version")
_LAST_OWNER = text("""
    SELECT r.state, coalesce(t.name, '') AS team FROM removed_models r LEFT JOIN teams t ON t.id = r.team_id
    WHERE r.name = :model ORDER BY r.removed_at DESC LIMIT 1
""")
_CAME_BACK = "a deployment had begun before it was removed"


class PostgresRemovals:
    """A `Removals`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def hide(self, target: Target) -> str:
        """Sets rows aside, in one transaction."""
        removal = str(uuid4())
        async with transaction(self._engine) as connection:
            locked = (await connection.execute(_LOCK, {"model": target.model_name})).one_or_none()
            if locked is None:
                raise no_model(target.model_name)
            model_id, team_id = locked
            asked = {"model_id": model_id, "version": target.version, "viewer": EVERYBODY}
            model = model_of((await connection.execute(_MODEL, asked)).mappings().one())
            versions = [version_of(row) for row in (await connection.execute(_VERSIONS, asked)).mappings()]
            if target.version:
                if not versions:
                    raise _no_version(target)
                if target.etag and target.etag != versions[0].etag:
                    raise mismatch(target.shown)
                if versions[0].aliases:
                    raise aliased(target, versions[0].aliases)
            elif target.etag and target.etag != model.etag:
                raise mismatch(target.shown)
            held = {"removal": removal, "model_id": model_id, "model": target.model_name, "team_id": team_id}
            if not target.version:
                aliases = [alias_of(row) for row in (await connection.execute(_ALIASES, asked)).mappings()]
                told = {"model": noted_model(model), "aliases": [noted_alias(alias) for alias in aliases]}
                await connection.execute(_HIDE_MODEL, held | {"noted": json.dumps(told)})
                await connection.execute(_DROP_ALIASES, held)
            for version in versions:
                one = {"id": version.version_id, "noted": json.dumps(noted_version(version))}
                await connection.execute(_HIDE_VERSION, held | one)
                await connection.execute(_DROP_VERSION, one)
            await connection.execute(_TOUCH if target.version else _DROP_MODEL, held)
        return removal

    async def settle(self, removal: str) -> bool:
        """Notes what is removed: aliases, then versions, then the model."""
        asked = {"removal": removal}
        async with transaction(self._engine) as connection:
            model, versions = await _held(connection, removal)
            if not versions and model is None:
                return False
            for statement in _SETTLE:
                await connection.execute(statement, asked)
            for alias in _of_aliases(model, "deleted") if model is not None else ():
                await note(connection, by_caller(alias))
            for version in versions:
                await note(connection, by_caller(_of_version(version, "deleted")))
            if model is not None:
                await note(connection, by_caller(_of_model(model, "deleted")))
        return True

    async def put_back(self, removal: str) -> None:
        """Puts rows back, in one transaction."""
        async with transaction(self._engine) as connection:
            model, versions = await _held(connection, removal)
            if model is not None:
                whole = {"whole": json.dumps(model["whole"])}
                if (await connection.execute(_RESTORE_MODEL, whole)).one_or_none() is not None:
                    await connection.execute(_RESTORE_SHARES, {"shares": json.dumps(model["shares"])})
                    back = model["state"] == "removed"
                    # Who looked while it was hidden, such as a router that began to follow its aliases, looks again.
                    await note(connection, by_caller(_of_model(model, "created") if back else _called_off(model)))
                else:
                    # The team has registered a model of that name anew: the versions join it.
                    model = None
            for version in versions:
                row = {"whole": json.dumps(version["whole"]), "model": version["model_name"]}
                await connection.execute(_RESTORE_VERSION, row)
                if version["signature"] is not None:
                    await connection.execute(_RESTORE_SIGNATURE, {"signature": json.dumps(version["signature"])})
                if version["state"] == "removed":
                    await note(connection, by_caller(_of_version(version, "created")))
            if model is not None:
                await connection.execute(_RESTORE_ALIASES, {"aliases": json.dumps(model["aliases"])})
                for alias in _of_aliases(model, "created") if model["state"] == "removed" else ():
                    await note(connection, by_caller(alias))
            for statement in _RELEASE:
                await connection.execute(statement, {"removal": removal})

    async def forget(self, removal: str) -> None:
        """Keeps names and numbers alone."""
        async with transaction(self._engine) as connection:
            for statement in _FORGET:
                await connection.execute(statement, {"removal": removal})

    async def open(self, *, older_than_s: float, limit: int) -> list[Removal]:
        """The oldest removals that can still be put back, by the database's clock."""
        async with transaction(self._engine) as connection:
            rows = (await connection.execute(_OPEN, {"age_s": older_than_s, "limit": limit})).all()
        return [
            Removal(str(removal), Target(model_name, version), state == "removed")
            for removal, state, model_name, version in rows
        ]


async def refuse_removed(connection: AsyncConnection, new: NewVersion, *, new_model: bool) -> None:
    """Raises VERSION_EXISTS for a number that was removed, and for a model's name that is another team's still
    PERMISSION_DENIED; what is neither there nor gone is DEPENDENCY_UNAVAILABLE for a moment."""
    named = {"model": new.model_name, "version": new.version}
    if new_model:
        last = (await connection.execute(_LAST_OWNER, named)).one_or_none()
        if last is not None and new.team and last.team != new.team:
            raise other_team(new)
        if last is not None and last.state == "hidden":
            raise being_removed(new.model_name)
    state = (await connection.execute(_TAKEN, named)).scalar_one_or_none()
    if state is not None:
        raise being_removed(new.model_name) if state == "hidden" else number_taken(new.model_name, new.version)


async def _held(connection: AsyncConnection, removal: str) -> tuple[RowMapping | None, list[RowMapping]]:
    asked = {"removal": removal}
    model = (await connection.execute(_HELD_MODEL, asked)).mappings().one_or_none()
    return model, list((await connection.execute(_HELD_VERSIONS, asked)).mappings())


def _of_version(row: RowMapping, action: str) -> NewChange:
    name = f"{row['model_name']}@{row['version']}"
    return _change("version", name, row["model_name"], action, row["noted"])


def _of_model(row: RowMapping, action: str) -> NewChange:
    return _change("model", row["name"], row["name"], action, row["noted"]["model"])


def _called_off(row: RowMapping) -> NewChange:
    noted = row["noted"]["model"]
    return replace(_of_model(row, "updated"), reason="its removal was called off", before=noted, after=noted)


def _of_aliases(row: RowMapping, action: str) -> list[NewChange]:
    return [
        _change("alias", f"{row['name']}/{alias['alias']}", row["name"], action, alias)
        for alias in row["noted"]["aliases"]
    ]


def _change(kind: str, name: str, model_name: str, action: str, noted: dict[str, Any]) -> NewChange:
    back = action == "created"
    return NewChange(
        resource_type=kind,
        resource_name=name,
        model_name=model_name,
        action=action,
        reason=_CAME_BACK if back else "",
        before=None if back else noted,
        after=noted if back else None,
    )


def _no_version(target: Target) -> MeshError:
    return MeshError(
        Reason.VERSION_NOT_FOUND,
        f"model {target.model_name!r} has no version {target.version!r}; list its versions to see which are registered",
        metadata={"model_name": target.model_name, "version": target.version},
    )
