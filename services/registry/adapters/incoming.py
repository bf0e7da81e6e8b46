"""An artifact on its way into the store: a locked file of this machine, hashed and encoded as it is written.

It is plain where the store is a folder, nothing encrypts it and compressing it does not pay; else it is in frames. What
lies here is encrypted already where artifacts are.
"""

import fcntl
import hashlib
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from services.common.errors import MeshError, Reason
from services.common.telemetry.logging import get_logger
from services.registry.adapters.artifact_errors import store_errors
from services.registry.adapters.artifact_keys import KeyRing
from services.registry.adapters.frames import FrameWriter, pays

log = get_logger(__name__)

_SAMPLE_BYTES = 1024 * 1024
"""How much is seen before it is decided how the artifact is stored."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """How artifacts are stored."""

    compress: bool
    """Whether those are compressed for which it pays."""
    plain: bool
    """Whether the others may lie as they were sent."""
    keys: KeyRing


class Incoming:
    """One such file. Its owner closes it; what has not been put into its place by then is gone.

    Blocking: for threads other than the event loop's.
    """

    def __init__(self, folder: Path, *, source: str, bytes_max: int, encoding: Encoding) -> None:
        self.path = folder / secrets.token_hex(16)
        self._source = source
        self._bytes_max = bytes_max
        self._encoding = encoding
        self._hash = hashlib.sha256()
        self._sample = bytearray()
        self._frames: FrameWriter | None = None
        self._decided = False
        self.begins = b""
        """The first bytes, which tell what it is."""
        self.size_bytes = 0
        self.stored_bytes = 0
        with store_errors():
            self._stream = self.path.open("xb")
            fcntl.flock(self._stream, fcntl.LOCK_EX)

    @property
    def digest(self) -> str:
        """SHA-256 of what was written so far."""
        return self._hash.hexdigest()

    @property
    def plain(self) -> bool:
        """Whether the file has the bytes as they were sent; known once it is finished."""
        return self._frames is None

    def write(self, piece: bytes | memoryview) -> None:
        """Adds a piece. Raises ARTIFACT_INVALID where that makes too many bytes."""
        self.size_bytes += len(piece)
        if self.size_bytes > self._bytes_max:
            raise MeshError(
                Reason.ARTIFACT_INVALID,
                f"the artifact {self._source} has more than the {self._bytes_max} bytes that are taken; "
                "raise INFERMESH_REGISTRY_ARTIFACT_BYTES_MAX if it is meant to be so large",
            )
        self._hash.update(piece)
        with store_errors():
            if self._decided:
                self._add(piece)
                return
            self._sample += piece
            if len(self._sample) >= _SAMPLE_BYTES:
                self._decide()

    def finish(self) -> None:
        """Ends the file; it is not synced yet."""
        with store_errors():
            if not self._decided:
                self._decide()
            if self._frames is not None:
                self._frames.finish(self._hash.digest())
            self._stream.flush()
            self.stored_bytes = self.path.stat().st_size

    def close(self) -> None:
        """Gives the file up unless it was put into its place."""
        with suppress(OSError):
            self._stream.close()
        self.path.unlink(missing_ok=True)

    def _decide(self) -> None:
        encoding = self._encoding
        self._decided = True
        self.begins = bytes(self._sample[:512])
        compress = encoding.compress and pays(self._sample[:_SAMPLE_BYTES])
        if compress or encoding.keys.encrypts or not encoding.plain:
            self._frames = FrameWriter(self._stream, compress=compress, keys=encoding.keys)
        sample, self._sample = self._sample, bytearray()
        self._add(sample)

    def _add(self, piece: bytes | bytearray | memoryview) -> None:
        if self._frames is not None:
            self._frames.write(piece)
        else:
            self._stream.write(piece)


def clear_incoming(folder: Path) -> None:
    """Removes what died half-written: the files whose lock nobody holds."""
    for left in folder.iterdir():
        with suppress(OSError), left.open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            left.unlink()
            log.info("interrupted copy cleared", file=left.name)
