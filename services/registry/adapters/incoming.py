"""An artifact on its way into the store: a locked file, hashed as it is written, synced before it is named."""

import errno
import fcntl
import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from services.common.disk import sync_folder
from services.common.errors import MeshError, Reason
from services.common.telemetry.logging import get_logger

log = get_logger(__name__)


class Incoming:
    """One such file. Its owner closes it; what has not been put into its place by then is gone.

    Blocking: for threads other than the event loop's.
    """

    def __init__(self, folder: Path, *, source: str, bytes_max: int) -> None:
        self._path = folder / secrets.token_hex(16)
        self._source = source
        self._bytes_max = bytes_max
        self._hash = hashlib.sha256()
        self.size_bytes = 0
        with store_errors():
            self._stream = self._path.open("xb")
            fcntl.flock(self._stream, fcntl.LOCK_EX)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def digest(self) -> str:
        """SHA-256 of what was written so far."""
        return self._hash.hexdigest()

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
            self._stream.write(piece)

    def put(self, place: Path) -> None:
        """Gives the file its place, for good: its bytes and its name are on disk when this returns."""
        with store_errors():
            self._stream.flush()
            os.fsync(self._stream.fileno())
            new_folder = not place.parent.is_dir()
            place.parent.mkdir(parents=True, exist_ok=True)
            self._path.chmod(0o444)
            self._path.replace(place)
            # The names must be as durable as the bytes before a row speaks of them.
            above = (place.parent.parent, place.parent.parent.parent) if new_folder else ()
            for folder in (place.parent, *above):
                sync_folder(folder)

    def close(self) -> None:
        """Gives the file up unless it was put into its place."""
        with suppress(OSError):
            self._stream.close()
        self._path.unlink(missing_ok=True)


def clear_incoming(folder: Path) -> None:
    """Removes what died half-written: the files whose lock nobody holds."""
    for left in folder.iterdir():
        with suppress(OSError), left.open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            left.unlink()
            log.info("interrupted copy cleared", file=left.name)


@contextmanager
def store_errors() -> Iterator[None]:
    """What the disk of the store refuses, as an error that says so."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise MeshError(
            Reason.DEPENDENCY_UNAVAILABLE,
            f"the artifact store cannot be written ({error.strerror}); "
            + ("make room in the registry's data_dir" if full else "see to the registry's data_dir")
            + " and try again",
            retry_after_s=30.0,
        ) from error
