"""What is recorded of artifacts in PostgreSQL: the row is the truth, the object is what it points to.

A row is committed after its object is there, and gone before its object goes. So whatever dies when, a row never points
to nothing; what may be left is an object without a row, which `ArtifactStore.sweep` finds.
"""

from collections.abc import Sequence, Set
from datetime import datetime

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.registry.adapters.change_rows import NewChange, by_caller, note
from services.registry.adapters.database import transaction
from services.registry.adapters.queries import SEEN
from services.registry.domain.artifacts import Record, Sender

_COLUMNS = "digest, kind, filename, size_bytes, stored_bytes, object_name, created_at"
_GARBAGE_MAX = 10_000
_FIND = text(f"SELECT {_COLUMNS} FROM artifacts WHERE digest = :digest")  # noqa: S608 - of this module's own text
_TOUCH = text(f"""
    UPDATE artifacts SET wanted_at = now(),
        kind = CASE WHEN CAST(:kind AS text) IN ('', 'file') THEN kind ELSE CAST(:kind AS text) END
    WHERE digest = :digest RETURNING {_COLUMNS}
""")  # noqa: S608 - of this module's own text
_RECORD = text(f"""
    INSERT INTO artifacts (digest, kind, filename, size_bytes, stored_bytes, object_name)
    VALUES (:digest, :kind, :filename, :size_bytes, :stored_bytes, :name)
    ON CONFLICT (digest) DO UPDATE SET wanted_at = now(),
        object_name = CASE WHEN artifacts.object_name = :replaces THEN EXCLUDED.object_name
            ELSE artifacts.object_name END,
        stored_bytes = CASE WHEN artifacts.object_name = :replaces THEN EXCLUDED.stored_bytes
            ELSE artifacts.stored_bytes END
    RETURNING {_COLUMNS}, xmax = 0 AS is_new
""")  # noqa: S608 - of this module's own text
_OWN = text("""
    INSERT INTO artifact_owners (digest, team) SELECT :digest, :team
    WHERE EXISTS (SELECT FROM artifacts WHERE digest = :digest) ON CONFLICT DO NOTHING
""")
_SEEN = text(f"""
    SELECT EXISTS (SELECT FROM artifact_owners WHERE digest = :digest AND team = :team)
        OR EXISTS (SELECT FROM model_versions v JOIN models m ON m.id = v.model_id
            WHERE {SEEN} AND v.artifact_digest = :digest)
""")  # noqa: S608 - of this module's own text
# Versions that are on their way out may come back.
_UNUSED = """
    NOT EXISTS (SELECT FROM model_versions v WHERE v.artifact_digest = a.digest)
    AND NOT EXISTS (SELECT FROM removed_versions r WHERE r.artifact_digest = a.digest AND r.state <> 'gone')
"""
_GARBAGE = text(f"""
    SELECT {_COLUMNS} FROM artifacts a WHERE wanted_at < :before AND {_UNUSED} ORDER BY digest LIMIT :limit
""")  # noqa: S608 - of this module's own text
# Whoever touches the row while this waits for it makes the condition fail: it is looked at again then.
_FORGET = text(f"""
    DELETE FROM artifacts a WHERE digest = :digest AND wanted_at < :before AND {_UNUSED} RETURNING {_COLUMNS}
""")  # noqa: S608 - of this module's own text
_KNOWN = text("SELECT object_name FROM artifacts WHERE object_name = ANY(:names)")
_KNOWN_PARTS = text("SELECT object_name FROM upload_parts WHERE object_name = ANY(:names)")


class PostgresArtifactBook:
    """An `ArtifactBook`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def find(self, digest: str) -> Record | None:
        """What is recorded."""
        async with transaction(self._engine) as connection:
            row = (await connection.execute(_FIND, {"digest": digest})).mappings().one_or_none()
        return _record(row) if row is not None else None

    async def touch(self, digest: str, *, kind: str = "") -> Record | None:
        """The same, and it is wanted now."""
        async with transaction(self._engine) as connection:
            row = (await connection.execute(_TOUCH, {"digest": digest, "kind": kind})).mappings().one_or_none()
        return _record(row) if row is not None else None

    async def record(self, new: Record, *, sender: Sender, replaces: str = "") -> Record:
        """Records an artifact; one that is recorded stays, but for an object that is to be replaced."""
        parameters = {
            "digest": new.digest,
            "kind": new.kind,
            "filename": new.filename,
            "size_bytes": new.size_bytes,
            "stored_bytes": new.stored_bytes,
            "name": new.name,
            "replaces": replaces,
        }
        async with transaction(self._engine) as connection:
            row = (await connection.execute(_RECORD, parameters)).mappings().one()
            if sender.team and sender.owns:
                await connection.execute(_OWN, {"digest": new.digest, "team": sender.team})
            if row["is_new"]:
                after = {"kind": new.kind, "size_bytes": float(new.size_bytes), "filename": new.filename}
                await note(connection, by_caller(_change(new.digest, "created", sender, after=after)))
        return _record(row)

    async def own(self, digest: str, team: str) -> None:
        """The artifact is that team's too."""
        async with transaction(self._engine) as connection:
            await connection.execute(_OWN, {"digest": digest, "team": team})

    async def is_seen(self, digest: str, viewer: str) -> bool:
        """Whether the viewer may know of the artifact."""
        team = viewer.split(" ", 1)[0]
        if team in ("", "*"):
            return True
        async with transaction(self._engine) as connection:
            parameters = {"digest": digest, "team": team, "viewer": viewer}
            return bool((await connection.execute(_SEEN, parameters)).scalar_one())

    async def garbage(self, before: datetime) -> Sequence[Record]:
        """What no version is made of and nobody wanted since."""
        async with transaction(self._engine) as connection:
            rows = (await connection.execute(_GARBAGE, {"before": before, "limit": _GARBAGE_MAX})).mappings()
            return [_record(row) for row in rows]

    async def forget(self, digest: str, *, before: datetime) -> Record | None:
        """Takes the record away if that is still so."""
        async with transaction(self._engine) as connection:
            row = (await connection.execute(_FORGET, {"digest": digest, "before": before})).mappings().one_or_none()
            if row is None:
                return None
            gone = _record(row)
            before_it = {"kind": gone.kind, "size_bytes": float(gone.size_bytes), "filename": gone.filename}
            await note(connection, by_caller(_change(digest, "deleted", Sender(), before=before_it)))
        return gone

    async def known(self, names: Sequence[str]) -> Set[str]:
        """Those of the objects that a record points to."""
        async with transaction(self._engine) as connection:
            known = set((await connection.execute(_KNOWN, {"names": list(names)})).scalars())
            return known | set((await connection.execute(_KNOWN_PARTS, {"names": list(names)})).scalars())


def _record(row: RowMapping) -> Record:
    return Record(
        row["digest"],
        row["kind"],
        row["filename"],
        row["size_bytes"],
        row["stored_bytes"],
        row["object_name"],
        row["created_at"],
    )


def _change(
    digest: str,
    action: str,
    sender: Sender,
    *,
    before: dict[str, object] | None = None,
    after: dict[str, object] | None = None,
) -> NewChange:
    return NewChange(
        resource_type="artifact",
        resource_name=digest,
        action=action,
        actor=sender.actor,
        team=sender.team,
        before=before,
        after=after,
    )
