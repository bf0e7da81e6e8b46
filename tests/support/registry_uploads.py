"""Uploads in memory: they pass the contract tests that the real adapters pass."""

import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from services.common.errors import MeshError, Reason
from services.registry.domain.artifacts import Sender
from services.registry.domain.uploads import NewUpload, Part, Upload, UploadLimits, too_many


@dataclass
class _Row:
    upload: Upload
    request_id: str
    parts: list[Part] = field(default_factory=list)


class MemoryUploadBook:
    """An `UploadBook`."""

    def __init__(self) -> None:
        self._rows: dict[str, _Row] = {}

    async def create(
        self, upload_id: str, new: NewUpload, *, owner: Sender, expires_at: datetime, limits: UploadLimits
    ) -> Upload:
        """Begins an upload, or finds the one that was begun by the same request."""
        for row in self._rows.values():
            one = row.upload
            if new.request_id and (one.team, one.actor, row.request_id) == (owner.team, owner.actor, new.request_id):
                if (one.filename, one.digest, one.size_bytes) != (new.filename, new.digest, int(new.size_bytes)):
                    raise MeshError(Reason.REQUEST_ID_REUSED, f"request_id {new.request_id!r} was another wish's")
                return one
        if len(self._open(owner.team)) >= limits.uploads_max:
            raise too_many("their number", limits.uploads_max)
        made = Upload(upload_id, owner.team, owner.actor, new.filename, new.digest, int(new.size_bytes), 0, expires_at)
        self._rows[upload_id] = _Row(made, new.request_id)
        return made

    async def find(self, upload_id: str) -> Upload | None:
        """The upload of that id."""
        row = self._rows.get(upload_id)
        return row.upload if row is not None else None

    async def advance(self, upload: Upload, part: Part, *, expires_at: datetime, limits: UploadLimits) -> Upload | None:
        """Adds a part if the upload still ends there."""
        if sum(one.offset_bytes for one in self._open(upload.team)) + part.size_bytes > limits.bytes_max:
            raise too_many("their bytes", limits.bytes_max)
        row = self._rows.get(upload.upload_id)
        if row is None or row.upload.artifact_digest or row.upload.offset_bytes != part.offset_bytes:
            return None
        row.parts.append(part)
        row.upload = replace(row.upload, offset_bytes=part.offset_bytes + part.size_bytes, expires_at=expires_at)
        return row.upload

    async def parts(self, upload_id: str) -> Sequence[Part]:
        """Its parts."""
        row = self._rows.get(upload_id)
        return list(row.parts) if row is not None else []

    async def complete(self, upload: Upload, artifact_digest: str) -> Sequence[Part] | None:
        """Notes what has come of it."""
        row = self._rows.get(upload.upload_id)
        if row is None or row.upload.offset_bytes != upload.offset_bytes:
            return None
        if row.upload.artifact_digest not in ("", artifact_digest):
            return None
        row.upload = replace(row.upload, artifact_digest=artifact_digest)
        gone, row.parts = row.parts, []
        return gone

    async def remove(self, upload_id: str) -> Sequence[Part]:
        """Forgets it."""
        row = self._rows.pop(upload_id, None)
        return row.parts if row is not None else []

    async def expired(self, now: datetime) -> Sequence[str]:
        """Those that nobody went on with."""
        return [one for one, row in self._rows.items() if row.upload.expires_at <= now]

    def _open(self, team: str) -> Sequence[Upload]:
        return [row.upload for row in self._rows.values() if row.upload.team == team and not row.upload.artifact_digest]


class MemoryUploadParts:
    """An `UploadParts`."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    async def put(self, upload_id: str, offset_bytes: int, content: bytes) -> Part:
        """Keeps bytes."""
        name = f"{upload_id}/{offset_bytes}.{secrets.token_hex(8)}"
        self.objects[name] = content
        return Part(offset_bytes, len(content), name)

    async def read(self, parts: Sequence[Part]) -> AsyncIterator[bytes]:
        """The bytes of the parts."""
        for part in parts:
            if part.name not in self.objects:
                raise MeshError(Reason.ARTIFACT_CORRUPT, "a part is gone")
            yield self.objects[part.name]

    async def remove(self, parts: Sequence[Part]) -> None:
        """Takes them away."""
        for part in parts:
            self.objects.pop(part.name, None)
