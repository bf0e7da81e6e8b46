"""Uploads that go on after a break.

What was acknowledged is durable: a part is kept, then the upload is moved on to its end, by who finds it where he left
it. So of two who write at one place one wins, and a crash loses one part at most.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import datetime

from services.common.clock import Clock
from services.common.errors import MeshError, Reason, invalid
from services.common.telemetry.logging import get_logger
from services.registry.domain.artifacts import Sender
from services.registry.domain.uploads import (
    EXPIRY,
    PART_BYTES,
    NewUpload,
    Upload,
    UploadLimits,
    check_new,
    check_offset,
    check_room,
    digest_of,
    is_owner,
    no_upload,
    wrong_offset,
)
from services.registry.engines.inspecting import ArtifactView
from services.registry.engines.keeping import within_time
from services.registry.engines.sending import SendingTurns
from services.registry.ports import ArtifactStore, Catalogue
from services.registry.ports_uploads import UploadBook, UploadParts

log = get_logger(__name__)

_EXPIRY_PERIOD_S = 600.0
_LAST_WORDS_S = 5.0
"""How long the end of an upload that broke off may take to be kept."""


class Uploading:
    """The calls that send an artifact in several goes."""

    def __init__(
        self,
        *,
        book: UploadBook,
        parts: UploadParts,
        store: ArtifactStore,
        catalogue: Catalogue,
        clock: Clock,
        limits: UploadLimits,
        artifact_bytes_max: int,
        sending: SendingTurns,
    ) -> None:
        self._book = book
        self._parts = parts
        self._store = store
        self._catalogue = catalogue
        self._clock = clock
        self._limits = limits
        self._artifact_bytes_max = artifact_bytes_max
        self._sending = sending

    async def create(self, new: NewUpload, owner: Sender) -> Upload:
        """Begins an upload. Raises INVALID_FIELD, QUOTA_EXCEEDED, REQUEST_ID_REUSED."""
        check_new(new, bytes_max=self._artifact_bytes_max)
        return await self._book.create(
            secrets.token_urlsafe(24), new, owner=owner, expires_at=self._expiry(), limits=self._limits
        )

    async def get(self, upload_id: str, sender: Sender) -> Upload:
        """How far an upload is. Raises UPLOAD_NOT_FOUND."""
        found = await self._book.find(upload_id)
        if found is None or found.expires_at <= self._clock.now() or not is_owner(found, sender):
            raise no_upload(upload_id)
        return found

    async def append(self, upload_id: str, offset_bytes: float, pieces: AsyncIterator[bytes], sender: Sender) -> Upload:
        """Adds bytes to the end. Raises UPLOAD_NOT_FOUND, INVALID_FIELD with the right offset, QUOTA_EXCEEDED,
        ARTIFACT_INVALID, and what `pieces` raises; what has come by then is kept."""
        upload = await self.get(upload_id, sender)
        if upload.artifact_digest:
            raise invalid("upload_id", upload_id, "an upload that is not complete")
        check_offset(upload, offset_bytes)
        with self._sending.taken():
            return await self._append(upload, within_time(pieces))

    async def complete(self, upload_id: str, digest: str, sender: Sender) -> ArtifactView:
        """Makes an artifact of what has come; the same one again where it was made already. Raises UPLOAD_NOT_FOUND,
        INVALID_FIELD, ARTIFACT_CORRUPT, and what keeping it raises; the upload stays then."""
        upload = await self.get(upload_id, sender)
        if not upload.artifact_digest:
            expected = digest_of(upload, digest)
            try:
                with self._sending.taken():
                    await self._make(upload, expected, sender)
            except MeshError:
                # The same call, sent twice: what the other one took away or moved on is no failure of this one.
                upload = await self.get(upload_id, sender)
                if not upload.artifact_digest:
                    raise
            else:
                upload = await self.get(upload_id, sender)
        stored = await self._store.find(upload.artifact_digest)
        if stored is None:
            raise no_upload(upload_id)
        uses = await self._catalogue.uses(upload.artifact_digest)
        return ArtifactView(stored, uses, upload.filename)

    async def delete(self, upload_id: str, sender: Sender) -> None:
        """Gives an upload up. Raises UPLOAD_NOT_FOUND."""
        await self.get(upload_id, sender)
        await self._parts.remove(await self._book.remove(upload_id))

    async def run(self) -> None:
        """Gives up, for ever, what nobody goes on with."""
        while True:
            with suppress(MeshError):
                await self.expire()
            await self._clock.sleep(_EXPIRY_PERIOD_S)

    async def expire(self) -> int:
        """Gives up what nobody went on with for a day. How many those were."""
        expired = await self._book.expired(self._clock.now())
        for upload_id in expired:
            await self._parts.remove(await self._book.remove(upload_id))
        if expired:
            log.info("uploads expired", uploads=len(expired))
        return len(expired)

    async def _make(self, upload: Upload, digest: str, sender: Sender) -> None:
        parts = await self._book.parts(upload.upload_id)
        if sum(part.size_bytes for part in parts) != upload.offset_bytes:
            raise wrong_offset(await self.get(upload.upload_id, sender), upload.offset_bytes)
        owner = Sender(upload.team, upload.actor, sender.viewer)
        kept = await self._store.receive(self._parts.read(parts), filename=upload.filename, digest=digest, sender=owner)
        needless = await self._book.complete(upload, kept.digest)
        if needless is None:
            raise wrong_offset(await self.get(upload.upload_id, sender), upload.offset_bytes)
        await self._parts.remove(needless)

    async def _append(self, upload: Upload, pieces: AsyncIterator[bytes]) -> Upload:
        waiting = bytearray()
        try:
            async for piece in pieces:
                check_room(upload, len(waiting) + len(piece), bytes_max=self._artifact_bytes_max)
                waiting += piece
                while len(waiting) >= PART_BYTES:
                    part = bytes(memoryview(waiting)[:PART_BYTES])
                    del waiting[:PART_BYTES]
                    upload = await self._add(upload, part)
        except (asyncio.CancelledError, Exception) as error:
            # The sender broke off: what is here already need not be sent again.
            if waiting and not _is_own(error):
                with suppress(MeshError, TimeoutError):
                    async with asyncio.timeout(_LAST_WORDS_S):
                        await self._add(upload, bytes(waiting))
            raise
        return await self._add(upload, bytes(waiting)) if waiting else upload

    async def _add(self, upload: Upload, content: bytes) -> Upload:
        part = await self._parts.put(upload.upload_id, upload.offset_bytes, content)
        try:
            moved = await self._book.advance(upload, part, expires_at=self._expiry(), limits=self._limits)
        except MeshError as error:
            if error.reason is Reason.QUOTA_EXCEEDED:
                await self._parts.remove([part])
            raise
        if moved is None:
            await self._parts.remove([part])
            now = await self._book.find(upload.upload_id)
            raise wrong_offset(now, upload.offset_bytes) if now is not None else no_upload(upload.upload_id)
        return moved

    def _expiry(self) -> datetime:
        return self._clock.now() + EXPIRY


def _is_own(error: BaseException) -> bool:
    """Whether the bytes themselves were refused, or another writer was first."""
    return isinstance(error, MeshError) and error.reason is not Reason.DEADLINE_TOO_SHORT
