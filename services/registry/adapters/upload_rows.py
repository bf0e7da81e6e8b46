"""Uploads in PostgreSQL."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.common.errors import MeshError, Reason
from services.registry.adapters.database import transaction
from services.registry.domain.artifacts import Sender
from services.registry.domain.uploads import PARTS_MAX, NewUpload, Part, Upload, UploadLimits, too_many

_INSERT = text("""
    INSERT INTO uploads (upload_id, team, actor, request_id, filename, digest, size_bytes, expires_at)
    VALUES (:upload_id, :team, :actor, :request_id, :filename, :digest, :size_bytes, :expires_at)
    ON CONFLICT ON CONSTRAINT uploads_request DO NOTHING RETURNING *
""")
_BY_REQUEST = text("SELECT * FROM uploads WHERE team = :team AND actor = :actor AND request_id = :request_id")
_FIND = text("SELECT * FROM uploads WHERE upload_id = :upload_id")
# Who counts a team's uploads holds this until the commit, so that two at once don't both find room for one.
_TEAM_TURN = text("SELECT pg_advisory_xact_lock(hashtext('registry.uploads'), hashtext(:team))")
_USE = text("""
    SELECT count(*) AS uploads, coalesce(sum(offset_bytes), 0) AS bytes FROM uploads
    WHERE team = :team AND artifact_digest = ''
""")
_ADVANCE = text("""
    UPDATE uploads SET offset_bytes = offset_bytes + :size_bytes, expires_at = :expires_at
    WHERE upload_id = :upload_id AND offset_bytes = :offset_bytes AND artifact_digest = '' RETURNING *
""")
_ADD_PART = text("""
    INSERT INTO upload_parts (upload_id, offset_bytes, size_bytes, object_name)
    VALUES (:upload_id, :offset_bytes, :size_bytes, :name)
""")
_PARTS = text("SELECT * FROM upload_parts WHERE upload_id = :upload_id ORDER BY offset_bytes")
_COUNT = text("SELECT count(*) FROM upload_parts WHERE upload_id = :upload_id")
_COMPLETE = text("""
    UPDATE uploads SET artifact_digest = :artifact_digest
    WHERE upload_id = :upload_id AND offset_bytes = :offset_bytes AND artifact_digest IN ('', :artifact_digest)
    RETURNING upload_id
""")
_DROP_PARTS = text("DELETE FROM upload_parts WHERE upload_id = :upload_id RETURNING *")
_REMOVE = text("DELETE FROM uploads WHERE upload_id = :upload_id")
_EXPIRED = text("SELECT upload_id FROM uploads WHERE expires_at <= :now ORDER BY expires_at LIMIT 1000")


class PostgresUploadBook:
    """An `UploadBook`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def create(
        self, upload_id: str, new: NewUpload, *, owner: Sender, expires_at: datetime, limits: UploadLimits
    ) -> Upload:
        """Begins an upload, or finds the one that was begun by the same request."""
        wish: dict[str, object] = {
            "upload_id": upload_id,
            "team": owner.team,
            "actor": owner.actor,
            "request_id": new.request_id or None,
            "filename": new.filename,
            "digest": new.digest,
            "size_bytes": int(new.size_bytes),
            "expires_at": expires_at,
        }
        async with transaction(self._engine) as connection:
            before = await self._before(connection, wish)
            if before is not None:
                return _same(before, new)
            use = await self._use(connection, owner.team)
            before = await self._before(connection, wish)
            if before is not None:
                return _same(before, new)
            if use["uploads"] >= limits.uploads_max:
                raise too_many(f"the number {use['uploads']}", limits.uploads_max)
            return _upload((await connection.execute(_INSERT, wish)).mappings().one())

    async def find(self, upload_id: str) -> Upload | None:
        """The upload of that id."""
        async with transaction(self._engine) as connection:
            row = (await connection.execute(_FIND, {"upload_id": upload_id})).mappings().one_or_none()
        return _upload(row) if row is not None else None

    async def advance(self, upload: Upload, part: Part, *, expires_at: datetime, limits: UploadLimits) -> Upload | None:
        """Adds a part if the upload still ends there."""
        parameters = {
            "upload_id": upload.upload_id,
            "offset_bytes": part.offset_bytes,
            "size_bytes": part.size_bytes,
            "name": part.name,
            "expires_at": expires_at,
        }
        async with transaction(self._engine) as connection:
            use = await self._use(connection, upload.team)
            if use["bytes"] + part.size_bytes > limits.bytes_max:
                raise too_many(f"{use['bytes']} bytes", limits.bytes_max)
            row = (await connection.execute(_ADVANCE, parameters)).mappings().one_or_none()
            if row is None:
                return None
            if (await connection.execute(_COUNT, parameters)).scalar_one() >= PARTS_MAX:
                raise too_many(f"{PARTS_MAX} parts in one of them, so send larger pieces", PARTS_MAX)
            await connection.execute(_ADD_PART, parameters)
        return _upload(row)

    async def parts(self, upload_id: str) -> Sequence[Part]:
        """Its parts in their order."""
        async with transaction(self._engine) as connection:
            return [_part(row) for row in (await connection.execute(_PARTS, {"upload_id": upload_id})).mappings()]

    async def complete(self, upload: Upload, artifact_digest: str) -> Sequence[Part] | None:
        """Notes what has come of it if it still ends there."""
        parameters = {
            "upload_id": upload.upload_id,
            "offset_bytes": upload.offset_bytes,
            "artifact_digest": artifact_digest,
        }
        async with transaction(self._engine) as connection:
            if (await connection.execute(_COMPLETE, parameters)).one_or_none() is None:
                return None
            return [_part(row) for row in (await connection.execute(_DROP_PARTS, parameters)).mappings()]

    async def remove(self, upload_id: str) -> Sequence[Part]:
        """Forgets it."""
        async with transaction(self._engine) as connection:
            rows = (await connection.execute(_DROP_PARTS, {"upload_id": upload_id})).mappings().all()
            await connection.execute(_REMOVE, {"upload_id": upload_id})
        return [_part(row) for row in rows]

    async def expired(self, now: datetime) -> Sequence[str]:
        """Those that nobody went on with."""
        async with transaction(self._engine) as connection:
            return list((await connection.execute(_EXPIRED, {"now": now})).scalars())

    async def _before(self, connection: AsyncConnection, wish: dict[str, object]) -> RowMapping | None:
        if wish["request_id"] is None:
            return None
        return (await connection.execute(_BY_REQUEST, wish)).mappings().one_or_none()

    async def _use(self, connection: AsyncConnection, team: str) -> RowMapping:
        await connection.execute(_TEAM_TURN, {"team": team})
        return (await connection.execute(_USE, {"team": team})).mappings().one()


def _same(row: RowMapping, new: NewUpload) -> Upload:
    if (row["filename"], row["digest"], row["size_bytes"]) != (new.filename, new.digest, int(new.size_bytes)):
        raise MeshError(
            Reason.REQUEST_ID_REUSED,
            f"request_id {new.request_id!r} began an upload of something else; send a new id with a new wish",
        )
    return _upload(row)


def _upload(row: RowMapping) -> Upload:
    return Upload(
        upload_id=row["upload_id"],
        team=row["team"],
        actor=row["actor"],
        filename=row["filename"],
        digest=row["digest"],
        size_bytes=row["size_bytes"],
        offset_bytes=row["offset_bytes"],
        expires_at=row["expires_at"],
        artifact_digest=row["artifact_digest"],
    )


def _part(row: RowMapping) -> Part:
    return Part(row["offset_bytes"], row["size_bytes"], row["object_name"])
