"""Signatures checked against artifacts of the store, off the event loop."""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import BinaryIO

from services.registry.adapters.readers.contents import opened
from services.registry.adapters.readers.refused import RefusedError
from services.registry.adapters.signature_check import Signed, check_signature
from services.registry.domain.frameworks import refused
from services.registry.domain.signatures import Checked
from services.registry.domain.version import Artifact
from services.registry.ports import ArtifactStore

_WHOLE_BYTES_MAX = 64 * 1024 * 1024
"""The largest artifact that is read into memory for a signature that needs it all at once."""
_PIECE_BYTES = 1024 * 1024


class StoredSignatureChecker:
    """A `SignatureChecker`."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store

    async def check(
        self, content: bytes, artifact: Artifact, *, signers: Sequence[str], now: datetime, fits: bool | None
    ) -> Checked:
        """How the check comes out."""
        with await self._store.open(artifact.digest) as stream:
            signed = Signed(artifact.digest, lambda: _files(stream, artifact), lambda: _whole(stream, artifact))
            try:
                return await asyncio.to_thread(check_signature, content, signed, signers, now, fits=fits)
            except RefusedError as error:
                raise refused(artifact, "a signed model", error.problem, error.advice) from error


def _files(stream: BinaryIO, artifact: Artifact) -> Mapping[str, str]:
    """SHA-256 of every file by its path."""
    if artifact.kind == "file":
        return {".": artifact.digest}
    stream.seek(0)
    found: dict[str, str] = {}
    with opened(stream, artifact) as contents:
        for path, entry in contents.files.items():
            seen, opened_entry = hashlib.sha256(), entry.open()
            while piece := opened_entry.read(_PIECE_BYTES):
                seen.update(piece)
            found[path] = seen.hexdigest()
    return found


def _whole(stream: BinaryIO, artifact: Artifact) -> bytes | None:
    if artifact.size_bytes > _WHOLE_BYTES_MAX:
        return None
    stream.seek(0)
    return stream.read(_WHOLE_BYTES_MAX + 1)
