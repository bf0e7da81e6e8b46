"""What was last heard of other services, on disk, so that a restart goes on with it while they are away."""

import hashlib
from pathlib import Path

from services.common.disk import replace_file
from services.common.errors import MeshError, Reason

_DIGEST_BYTES = 32


class Snapshot:
    """One file, replaced as a whole."""

    def __init__(self, folder: Path, *, of: str = "serving table") -> None:
        self.path = folder / f"{of.replace(' ', '_')}.bin"
        self._magic = f"infermesh {of} 1\n".encode()

    def load(self) -> bytes | None:
        """What was saved last; None where nothing was. Raises ARTIFACT_CORRUPT where the file is damaged."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return None
        start = len(self._magic) + _DIGEST_BYTES
        body = content[start:]
        if not content.startswith(self._magic) or hashlib.sha256(body).digest() != content[len(self._magic) : start]:
            raise MeshError(Reason.ARTIFACT_CORRUPT, f"{self.path} is damaged; it is left aside until a new one comes")
        return body

    def save(self, body: bytes) -> None:
        """Replaces the file, atomically and durably. Raises OSError."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(self.path, (self._magic, hashlib.sha256(body).digest(), body))
