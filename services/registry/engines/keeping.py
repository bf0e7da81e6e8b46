"""Taking artifacts that callers send, giving them out again, clearing away what nobody uses."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from services.common.clock import Clock
from services.common.errors import FieldViolation, MeshError, Reason, invalid, invalid_fields
from services.common.telemetry.logging import get_logger
from services.registry.domain.artifact_uri import DIGEST
from services.registry.domain.artifacts import MESH, Sender, no_artifact
from services.registry.domain.uploads import check_stated
from services.registry.domain.violations import Violations
from services.registry.engines.inspecting import ArtifactView
from services.registry.engines.sending import SendingTurns
from services.registry.ports import ArtifactStore, Catalogue

log = get_logger(__name__)

GARBAGE_AGE = timedelta(days=1)
"""What was sent or named within it may be about to be registered."""
_DIGESTS_MAX = 1000
_PIECE_BYTES_MAX = 4 * 1024 * 1024
_PIECE_WAIT_S = 60.0
"""A sender who pauses longer has gone."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What a sender says of an artifact. Empty or 0: not stated."""

    filename: str
    digest: str
    size_bytes: float


@dataclass(frozen=True, slots=True)
class Cleared:
    """What was cleared away: the first 1000 digests, how many there were, and their bytes."""

    digests: Sequence[str]
    artifact_count: int
    freed_bytes: int


class Keeping:
    """The calls that fill and clear the store."""

    def __init__(self, *, catalogue: Catalogue, store: ArtifactStore, clock: Clock, sending: SendingTurns) -> None:
        self._catalogue = catalogue
        self._store = store
        self._clock = clock
        self._sending = sending

    async def receive(self, sent: Sent, pieces: AsyncIterator[bytes], sender: Sender = MESH) -> ArtifactView:
        """Keeps what is sent. Raises INVALID_FIELD, MESSAGE_TOO_LARGE, ARTIFACT_CORRUPT, QUOTA_EXCEEDED."""
        _check_sent(sent)
        with self._sending.taken():
            kept = await self._store.receive(
                _checked(pieces, sent), filename=sent.filename, digest=sent.digest, sender=sender
            )
        stored = await self._store.find(kept.digest)
        if stored is None:
            raise MeshError(Reason.ARTIFACT_NOT_FOUND, f"the artifact {kept.digest} was removed; send it again")
        return ArtifactView(stored, await self._catalogue.uses(kept.digest), kept.filename)

    async def read(self, digest: str, offset_bytes: float, *, viewer: str = "") -> AsyncIterator[bytes]:
        """The bytes of an artifact from an offset on. Raises INVALID_FIELD, ARTIFACT_NOT_FOUND, ARTIFACT_CORRUPT."""
        if DIGEST.fullmatch(digest) is None:
            raise invalid("digest", digest, "64 of 0-9 and a-f")
        if not 0 <= offset_bytes < 2**53 or offset_bytes != int(offset_bytes):
            raise invalid("offset_bytes", offset_bytes, "a whole number from 0")
        if not await self._store.is_seen(digest, viewer):
            raise no_artifact(digest)
        async for piece in self._store.read(digest, offset_bytes=int(offset_bytes)):
            yield piece

    async def collect_garbage(self, *, dry_run: bool) -> Cleared:
        """Removes artifacts that no version uses and that nobody sent or named for a day."""
        before = self._clock.now() - GARBAGE_AGE
        old = await self._store.old(before)
        removed: list[str] = []
        count = freed_bytes = 0
        for begin in range(0, len(old), _DIGESTS_MAX):
            part = old[begin : begin + _DIGESTS_MAX]
            used = await self._catalogue.used([one.digest for one in part])
            for one in part:
                if one.digest in used or not (dry_run or await self._store.remove(one.digest, before=before)):
                    continue
                removed += [one.digest] if len(removed) < _DIGESTS_MAX else []
                count, freed_bytes = count + 1, freed_bytes + one.stored_bytes
        if not dry_run:
            freed_bytes += await self._store.sweep(before)
        log.info("garbage", artifacts=count, freed_bytes=freed_bytes, dry_run=dry_run)
        return Cleared(removed, count, freed_bytes)


async def within_time(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The pieces, none too large, each within its time. Raises MESSAGE_TOO_LARGE, DEADLINE_TOO_SHORT."""
    while True:
        try:
            async with asyncio.timeout(_PIECE_WAIT_S):
                piece = await anext(pieces, None)
        except TimeoutError as error:
            message = f"no piece of the artifact came for {_PIECE_WAIT_S:g} s; send it again"
            raise MeshError(Reason.DEADLINE_TOO_SHORT, message) from error
        if piece is None:
            return
        if len(piece) > _PIECE_BYTES_MAX:
            message = f"a piece of the artifact has {len(piece)} bytes; send pieces of at most {_PIECE_BYTES_MAX}"
            raise MeshError(Reason.MESSAGE_TOO_LARGE, message)
        yield piece


def _check_sent(sent: Sent) -> None:
    found = Violations()
    check_stated(found, filename=sent.filename, digest=sent.digest, size_bytes=sent.size_bytes)
    found.raise_if_any()


async def _checked(pieces: AsyncIterator[bytes], sent: Sent) -> AsyncIterator[bytes]:
    """The pieces, together as many bytes as were stated."""
    seen_bytes = 0
    async for piece in within_time(pieces):
        seen_bytes += len(piece)
        yield piece
    if sent.size_bytes and seen_bytes != sent.size_bytes:
        description = f"is {sent.size_bytes:.0f} where {seen_bytes} bytes came; send all of them"
        raise invalid_fields([FieldViolation("size_bytes", description)])
    if not seen_bytes:
        raise invalid("body", b"", "at least one byte")
