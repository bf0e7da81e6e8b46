"""Folders that exports are written to, on this machine or in a bucket.

A file is written beside its place, or to this machine's temporary folder for a bucket, and appears by one rename or one
upload: nobody ever reads half of one.
"""

import contextlib
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

from services.common.disk import replace_file
from services.common.errors import MeshError, Reason
from services.common.objects import SCHEMES, BucketStore, bucket_of, open_bucket
from services.common.telemetry.logging import get_logger
from services.monitor.adapters.export_formats import row_writer
from services.monitor.domain.log_exports import SUCCESS, Format
from services.monitor.domain.log_rows import LogRow
from services.monitor.ports_log import PartFile

log = get_logger(__name__)

_SENT_BYTES = 8 * 1024 * 1024
_SENT_AT_ONCE = 3
_PREFIX = ".export-"


class Folders:
    """`ExportFiles`. Buckets are opened once. Safe for threads."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, str], BucketStore] = {}
        self._lock = threading.Lock()

    def check(self, folder: str) -> None:
        """Looks whether it is empty, and tries to write."""
        with _refusals(folder):
            if _in_bucket(folder):
                store, prefix = self._bucket(folder)
                for found in obstore.list(store, prefix=f"{prefix}/", chunk_size=1):
                    if found:
                        raise _unwritable(folder, "there is something in it; name another folder")
                probe = f"{prefix}/{_PREFIX}probe"
                obstore.put(store, probe, b"", use_multipart=False)
                obstore.delete(store, probe)
                return
            path = Path(folder)
            if path.exists() and (not path.is_dir() or any(path.iterdir())):
                raise _unwritable(folder, "there is something in it; name another folder")
            if not path.parent.is_dir():
                raise _unwritable(folder, f"there is no folder {str(path.parent)!r}; make it first")
            path.mkdir(exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path, prefix=_PREFIX):
                pass

    def begin(self, folder: str, name: str, kind: Format, *, model: str) -> PartFile:
        """A file of that name."""
        with _refusals(folder):
            if _in_bucket(folder):
                store, prefix = self._bucket(folder)
                send = partial(_send, store, f"{prefix}/{name}")
                return _FilePart(folder, kind, model=model, beside=None, appear=send)
            place = Path(folder)
            return _FilePart(folder, kind, model=model, beside=place, appear=partial(_move, place / name))

    def finish(self, folder: str, summary: str) -> None:
        """Removes what a dead process left half done, and says that all is there."""
        with _refusals(folder):
            if _in_bucket(folder):
                store, prefix = self._bucket(folder)
                obstore.put(store, f"{prefix}/{SUCCESS}", summary.encode(), use_multipart=False)
                return
            path = Path(folder)
            for left in path.glob(f"{_PREFIX}*"):
                left.unlink(missing_ok=True)
            replace_file(path / SUCCESS, (summary.encode(),))

    def _bucket(self, folder: str) -> tuple[BucketStore, str]:
        scheme, bucket, prefix = bucket_of(folder)
        with self._lock:
            store = self._open.get((scheme, bucket))
            if store is None:
                store = self._open[scheme, bucket] = open_bucket(scheme, bucket)
        return store, prefix


class _FilePart:
    """A file that is written on this machine, and appears by `appear`."""

    def __init__(
        self, folder: str, kind: Format, *, model: str, beside: Path | None, appear: Callable[[Path], object]
    ) -> None:
        self._folder = folder
        self._appear = appear
        handle, name = tempfile.mkstemp(dir=beside, prefix=_PREFIX)
        self._path = Path(name)
        self._file = os.fdopen(handle, "wb")
        self._writer = row_writer(kind, self._file, model=model)

    def write(self, rows: Sequence[LogRow], ids: Sequence[str]) -> None:
        """Adds rows."""
        with _refusals(self._folder):
            self._writer.write(rows, ids)

    def place(self) -> None:
        """Makes it appear."""
        with _refusals(self._folder):
            self._writer.close()
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._appear(self._path)

    def discard(self) -> None:
        """Leaves nothing behind."""
        with contextlib.suppress(OSError):
            self._file.close()
        self._path.unlink(missing_ok=True)


def _send(store: BucketStore, key: str, path: Path) -> None:
    obstore.put(store, key, path, chunk_size=_SENT_BYTES, max_concurrency=_SENT_AT_ONCE)


def _move(place: Path, path: Path) -> None:
    path.chmod(0o644)
    path.replace(place)


def _in_bucket(folder: str) -> bool:
    return folder.partition("://")[0] in SCHEMES


def _unwritable(folder: str, why: str) -> MeshError:
    return MeshError(Reason.OUTPUT_UNWRITABLE, f"output_uri {folder!r}: {why}", metadata={"output_uri": folder[:200]})


@contextmanager
def _refusals(folder: str) -> Iterator[None]:
    """What a folder refuses, as OUTPUT_UNWRITABLE; what a bucket does not answer, as DEPENDENCY_UNAVAILABLE."""
    try:
        yield
    except (PermissionDeniedError, UnauthenticatedError) as error:
        log.warning("a bucket refused", uri=folder, error=str(error))
        why = "the bucket denies it; give the monitor's credentials the right to it"
        raise _unwritable(folder, why) from error
    except OSError as error:
        if _in_bucket(folder):
            raise _unwritable(folder, "there is no such bucket, or it is not there any more") from error
        raise _unwritable(folder, f"it cannot be written to ({error.strerror})") from error
    except BaseError as error:
        # Its words have addresses and answers in them that are not the caller's to know.
        log.warning("a bucket refused", uri=folder, error=str(error))
        if "AccessDenied" in str(error):
            raise _unwritable(folder, "the bucket denies it; give the monitor's credentials the right to it") from error
        if "NoSuchBucket" in str(error):
            raise _unwritable(folder, "there is no such bucket") from error
        raise MeshError(
            Reason.DEPENDENCY_UNAVAILABLE,
            f"output_uri {folder!r}: the bucket does not answer as it should; see to it and try again",
            retry_after_s=30.0,
        ) from error
