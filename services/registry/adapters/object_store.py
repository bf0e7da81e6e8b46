"""Where stored artifacts lie: a folder, or a bucket of S3 or GCS. Objects are put whole and never changed.

A folder is written here and not through the object-store library, which syncs nothing: an artifact must be as durable
as the row that names it. Blocking: for threads other than the event loop's.
"""

import fcntl
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError

from services.common.disk import sync_folder
from services.common.objects import BucketStore, bucket_of, open_bucket
from services.registry.adapters.artifact_errors import store_errors
from services.registry.adapters.frames import Stretch

if TYPE_CHECKING:  # in their stubs alone
    from obstore.store import S3Config

_PART_BYTES = 16 * 1024 * 1024
_PARTS_AT_ONCE = 3


@dataclass(frozen=True, slots=True)
class Listed:
    """An object that is there."""

    name: str
    size_bytes: int
    modified_at: datetime


class Objects(Protocol):
    """Named bytes. Calls raise DEPENDENCY_UNAVAILABLE where disk or bucket refuse."""

    @property
    def folder(self) -> Path | None:
        """Where the objects are plain files; None: they are not on a disk of this machine."""
        ...

    def put_file(self, name: str, staged: Path) -> None:
        """Makes a file of this machine an object, for good once this returns. The file may be gone then."""
        ...

    def put(self, name: str, content: bytes) -> None:
        """Makes bytes an object, for good once this returns."""
        ...

    def open(self, name: str) -> Stretch:
        """An object to read. Raises FileNotFoundError."""
        ...

    def listed(self, prefix: str) -> Iterator[Listed]:
        """The objects whose names begin with the folder `prefix`."""
        ...

    def remove(self, names: Sequence[str]) -> None:
        """Takes objects away; those that are not there are no failure."""
        ...

    def remove_same(self, name: str, mark: object) -> None:
        """Takes an object away unless another was put under its name since `mark`."""
        ...

    def mark(self, name: str) -> object:
        """Tells one object of a name from another; None: there is none."""
        ...

    def uri(self, name: str) -> str:
        """Its URI."""
        ...


class FileStretch:
    """A plain file as a `Stretch`."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        # So that nobody closes it while another reads, and the number becomes another file's.
        self._lock = threading.Lock()
        self.size_bytes = os.fstat(self._descriptor).st_size

    def read_at(self, offset: int, size: int) -> bytes:
        """Those bytes."""
        pieces = []
        with store_errors(), self._lock:
            while size > 0 and (piece := os.pread(self._descriptor, size, offset)):
                pieces.append(piece)
                offset, size = offset + len(piece), size - len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1


class FolderObjects:
    """`Objects` as files of a folder. A lock makes "put again" and "away with the old one" exclude each other."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "lock").touch()
        sync_folder(folder)

    @property
    def folder(self) -> Path | None:
        """It."""
        return self._folder

    def put_file(self, name: str, staged: Path) -> None:
        """Syncs the file and gives it its name."""
        place = self._folder / name
        with store_errors(), self._locked(fcntl.LOCK_SH):
            with staged.open("rb") as stream:
                os.fsync(stream.fileno())
            staged.chmod(0o444)
            made = _made_folders(place.parent)
            staged.replace(place)
            # The names must be as durable as the bytes before a row speaks of them.
            for folder in (place.parent, *made):
                sync_folder(folder)

    def put(self, name: str, content: bytes) -> None:
        """Writes them beside their place first."""
        place = self._folder / name
        with store_errors():
            made = _made_folders(place.parent)
            staged = place.with_name(place.name + ".new")
            staged.write_bytes(content)
        try:
            self.put_file(name, staged)
            for folder in made:
                sync_folder(folder)
        finally:
            staged.unlink(missing_ok=True)

    def open(self, name: str) -> Stretch:
        """The file."""
        with store_errors():
            return FileStretch(self._folder / name)

    def listed(self, prefix: str) -> Iterator[Listed]:
        """The files below a folder."""
        for above, _, names in os.walk(self._folder / prefix):
            for name in sorted(names):
                path = Path(above, name)
                try:
                    status = path.stat()
                except FileNotFoundError:
                    continue
                modified_at = datetime.fromtimestamp(status.st_mtime, UTC)
                yield Listed(str(path.relative_to(self._folder)), status.st_size, modified_at)

    def remove(self, names: Sequence[str]) -> None:
        """Unlinks them."""
        with store_errors():
            for name in names:
                (self._folder / name).unlink(missing_ok=True)

    def remove_same(self, name: str, mark: object) -> None:
        """Unlinks the file if it is still that one."""
        with store_errors(), self._locked(fcntl.LOCK_EX):
            if mark is not None and self.mark(name) == mark:
                (self._folder / name).unlink(missing_ok=True)

    def mark(self, name: str) -> object:
        """Its inode and when it was written: an inode's number is used again."""
        with store_errors():
            try:
                status = (self._folder / name).stat()
            except FileNotFoundError:
                return None
            return status.st_ino, status.st_mtime_ns, status.st_ctime_ns

    def uri(self, name: str) -> str:
        """file://…"""
        return (self._folder / name).as_uri()

    @contextmanager
    def _locked(self, kind: int) -> Iterator[None]:
        with (self._folder / "lock").open("rb") as stream:
            fcntl.flock(stream, kind)
            yield


class BucketStretch:
    """An object of a bucket as a `Stretch`, one request for each read."""

    def __init__(self, store: BucketStore, name: str) -> None:
        self._store, self._name = store, name
        meta = obstore.head(store, name)
        self.size_bytes = meta["size"]

    def read_at(self, offset: int, size: int) -> bytes:
        """Those bytes."""
        end = min(self.size_bytes, offset + size)
        if offset >= end:
            return b""
        with store_errors():
            return bytes(obstore.get_range(self._store, self._name, start=offset, end=end))

    def close(self) -> None:
        """Nothing is held."""


class BucketObjects:
    """`Objects` in a bucket. Every artifact has a name of its own there, so nothing is ever put twice."""

    def __init__(self, store: BucketStore, uri: str) -> None:
        self._store = store
        self._uri = uri.rstrip("/")

    @property
    def folder(self) -> Path | None:
        """None."""
        return None

    def put_file(self, name: str, staged: Path) -> None:
        """Sends the file, in parts where it is large; it is there whole or not at all."""
        with store_errors():
            obstore.put(self._store, name, staged, chunk_size=_PART_BYTES, max_concurrency=_PARTS_AT_ONCE)

    def put(self, name: str, content: bytes) -> None:
        """Sends them in one request, and never over something that is there."""
        with store_errors(), suppress(AlreadyExistsError):
            # There already: an attempt whose answer was lost, since no two puts have the same name.
            obstore.put(self._store, name, content, mode="create", use_multipart=False)

    def open(self, name: str) -> Stretch:
        """Asks how large it is."""
        with store_errors():
            return BucketStretch(self._store, name)

    def listed(self, prefix: str) -> Iterator[Listed]:
        """What the bucket lists, a page at a time."""
        with store_errors():
            for page in obstore.list(self._store, prefix):
                for meta in page:
                    yield Listed(meta["path"], meta["size"], meta["last_modified"])

    def remove(self, names: Sequence[str]) -> None:
        """Deletes them."""
        with store_errors():
            for name in names:
                try:
                    obstore.delete(self._store, name)
                except FileNotFoundError:
                    continue

    def remove_same(self, name: str, mark: object) -> None:
        """Deletes it: names are used once."""
        if mark is not None:
            self.remove([name])

    def mark(self, name: str) -> object:
        """Its name says it."""
        return name

    def uri(self, name: str) -> str:
        """s3://… or gs://…"""
        return f"{self._uri}/{name}"


def open_objects(uri: str, *, default: Path, encryption: "S3Config | None" = None) -> Objects:
    """The store that the setting names. Raises SystemExit with one sentence where it names none."""
    if not uri:
        return FolderObjects(default)
    if uri.startswith("file:///"):
        return FolderObjects(Path(urlsplit(uri).path))
    try:
        scheme, bucket, prefix = bucket_of(uri)
    except ValueError:
        raise SystemExit(
            f"INFERMESH_REGISTRY_ARTIFACTS_URI is {uri!r}; allowed: file:///folder, s3://bucket/prefix or gs://bucket/prefix"
        ) from None
    return BucketObjects(open_bucket(scheme, bucket, prefix=prefix, config=encryption), uri)


def _made_folders(folder: Path) -> Sequence[Path]:
    """Makes a folder and those above it. Those in which names are new then, the deepest first."""
    changed = []
    missing = folder
    while not missing.is_dir():
        missing = missing.parent
        changed.append(missing)
    folder.mkdir(parents=True, exist_ok=True)
    return changed
