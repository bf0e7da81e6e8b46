"""The last good serving table on disk, so that a restart serves while the router is away."""

import hashlib
from pathlib import Path

from services.common.disk import replace_file
from services.common.errors import MeshError, Reason

_MAGIC = b"infermesh serving table 1\n"
_DIGEST_BYTES = 32
_NAME = "serving_table.bin"


class Snapshot:
    """One file, replaced as a whole."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / _NAME

    def load(self) -> bytes | None:
        """What was saved last; None where nothing was. Raises ARTIFACT_CORRUPT where the file is damaged."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return None
        start = len(_MAGIC) + _DIGEST_BYTES
        body = content[start:]
        if not content.startswith(_MAGIC) or hashlib.sha256(body).digest() != content[len(_MAGIC) : start]:
            raise MeshError(
                Reason.ARTIFACT_CORRUPT, f"{self.path} is damaged; it is left aside until the router hands over a table"
            )
        return body

    def save(self, body: bytes) -> None:
        """Replaces the file, atomically and durably. Raises OSError."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(self.path, (_MAGIC, hashlib.sha256(body).digest(), body))
