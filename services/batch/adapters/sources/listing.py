"""Finds the files that an input names: one, those of a folder, or those that a pattern matches, by name.

Passed over are empty files and what is no data by its name: hidden files, marks such as _SUCCESS, and what lies in
folders of such names.
"""

import glob
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import obstore

from services.batch.adapters.objects import Buckets, bucket_errors
from services.batch.adapters.sources.blobs import Blob, LocalBlob, ObjectBlob
from services.batch.adapters.sources.problems import NoRowsError, unreadable
from services.batch.domain.job import Compression, Format, Input
from services.batch.domain.patterns import has_wildcard, is_passed_over, literal_base, matches
from services.batch.domain.places import in_bucket, named_compression, named_format
from services.common.errors import Reason

if TYPE_CHECKING:  # in its stubs alone
    from obstore import ObjectMeta

FILES_MAX = 10_000
_LISTED_MAX = 1_000_000
"""Names that are looked at in a bucket: what lies below the part of a pattern before its first wildcard."""


@dataclass(frozen=True, slots=True)
class Found:
    """The files of an input, by name, and how they are read. `many` is false where the input names one file."""

    blobs: tuple[Blob, ...]
    format: Format
    many: bool


def find(wish: Input, buckets: Buckets) -> Found:
    """The files. Raises INPUT_UNREADABLE where there are none with rows, too many, or of several formats."""
    seek: _Seek = _Bucket(wish, buckets) if in_bucket(wish.path) else _Local(wish)
    one = None if wish.path.endswith("/") else seek.one()
    if one is not None:
        if one.size_bytes == 0:
            raise NoRowsError(wish, "it is empty")
        kind = _format(wish, [one])
        return Found((_unpacking(wish, one, kind),), kind, many=False)
    blobs = sorted(islice(seek.several(), FILES_MAX + 1), key=lambda blob: blob.path)
    if len(blobs) > FILES_MAX:
        raise unreadable(wish, f"it names more than {FILES_MAX} files; make several jobs, or join files")
    if not blobs:
        raise seek.nothing()
    kind = _format(wish, blobs)
    return Found(tuple(_unpacking(wish, blob, kind) for blob in blobs), kind, many=True)


class _Seek(Protocol):
    """Where files are looked for."""

    def one(self) -> LocalBlob | ObjectBlob | None:
        """The file of that very name; None where it is a folder, or a pattern."""
        ...

    def several(self) -> Iterator[LocalBlob | ObjectBlob]:
        """The files with content, in any order."""
        ...

    def nothing(self) -> NoRowsError:
        """What is said where there is none."""
        ...


def _unpacking(wish: Input, blob: "LocalBlob | ObjectBlob", kind: Format) -> Blob:
    if kind is Format.PARQUET:
        return blob
    return replace(
        blob, compression=named_compression(blob.path) if wish.compression is None else Compression(wish.compression)
    )


def _format(wish: Input, blobs: Sequence[LocalBlob | ObjectBlob]) -> Format:
    if wish.format is not None:
        return wish.format
    kinds = [named_format(blob.path) for blob in blobs]
    for blob, kind in zip(blobs, kinds, strict=True):
        if kind is None:
            raise unreadable(wish, f"the name of {blob.path!r} does not say its format; set input.format")
        if kind is not kinds[0]:
            raise unreadable(
                wish,
                f"{blobs[0].path!r} is {kinds[0]} and {blob.path!r} is {kind}; name files of one format by a pattern",
            )
    assert kinds[0] is not None
    return kinds[0]


class _Local:
    """Files of this machine."""

    def __init__(self, wish: Input) -> None:
        self._wish = wish
        self._path = wish.path.rstrip("/") or "/"

    def one(self) -> LocalBlob | None:
        """The file of that very name; None where it is a folder, or a pattern."""
        try:
            status = Path(self._path).stat()
        except FileNotFoundError:
            if has_wildcard(self._path):
                return None
            raise self.nothing() from None
        except OSError as error:
            raise unreadable(self._wish, f"{error.strerror}") from None
        if stat.S_ISDIR(status.st_mode):
            return None
        if not stat.S_ISREG(status.st_mode):
            raise unreadable(self._wish, "it is no plain file and no folder")
        try:
            with Path(self._path).open("rb"):
                pass
        except OSError as error:
            raise unreadable(self._wish, f"{error.strerror}") from None
        return LocalBlob(self._path, status.st_size, status.st_mtime_ns)

    def several(self) -> Iterator[LocalBlob]:
        """The files with content."""
        if Path(self._path).is_dir():
            yield from self._below(self._path)
            return
        base = len(literal_base(self._path))
        for path in glob.iglob(self._path, recursive=True):  # noqa: PTH207 - Path takes no absolute pattern
            if Path(path).is_dir():
                yield from self._below(path)
            elif not is_passed_over(path[base:]) or self._names_hidden():
                yield from self._blob(path)

    def _names_hidden(self) -> bool:
        """Whether the pattern itself asks for names that are passed over."""
        return self._path.rsplit("/", 1)[1].startswith((".", "_"))

    def _below(self, folder: str) -> Iterator[LocalBlob]:
        def refused(error: OSError) -> None:
            raise unreadable(self._wish, f"{error.filename}: {error.strerror}") from None

        for above, folders, names in os.walk(folder, onerror=refused):
            folders[:] = [name for name in folders if not is_passed_over(name)]
            for name in names:
                if not is_passed_over(name):
                    yield from self._blob(f"{above.rstrip('/')}/{name}")

    def _blob(self, path: str) -> Iterator[LocalBlob]:
        try:
            status = Path(path).stat()
        except OSError as error:
            raise unreadable(self._wish, f"{path}: {error.strerror}") from None
        if stat.S_ISREG(status.st_mode) and status.st_size:
            yield LocalBlob(path, status.st_size, status.st_mtime_ns)

    def nothing(self) -> NoRowsError:
        """What is said where there is no file."""
        if has_wildcard(self._path) and not Path(self._path).exists():
            return NoRowsError(self._wish, "no file with rows matches the pattern on the machine of the batch service")
        if Path(self._path).is_dir():
            return NoRowsError(self._wish, "the folder holds no file with rows")
        return NoRowsError(self._wish, "there is no such file on the machine of the batch service")


class _Bucket:
    """Objects of a bucket."""

    def __init__(self, wish: Input, buckets: Buckets) -> None:
        self._wish = wish
        self._store, self._key = buckets.at(wish.path)
        self._root = wish.path.removesuffix(self._key)

    def one(self) -> ObjectBlob | None:
        """The object of that very name."""
        if has_wildcard(self._key):
            return None
        try:
            with self._refused():
                meta = obstore.head(self._store, self._key)
        except FileNotFoundError:
            return None
        return self._blob(meta)

    def several(self) -> Iterator[ObjectBlob]:
        """Those with content."""
        wild = has_wildcard(self._key)
        base = literal_base(self._key) if wild else self._key.rstrip("/") + "/" if self._key else ""
        with self._refused():
            looked_at = 0
            for page in obstore.list(self._store, base.rstrip("/") or None):
                for meta in page:
                    looked_at += 1
                    name = meta["path"]
                    rest = name[len(base) :]
                    if meta["size"] and not is_passed_over(rest) and (not wild or matches(name, self._key)):
                        yield self._blob(meta)
                if looked_at > _LISTED_MAX:
                    raise unreadable(
                        self._wish, f"{self._root}{base} holds more than {_LISTED_MAX} objects; name a narrower folder"
                    )

    def nothing(self) -> NoRowsError:
        """What is said where there is no object."""
        what = "no object with rows matches the pattern" if has_wildcard(self._key) else "there is no such object"
        return NoRowsError(self._wish, f"{what} in the bucket, and no folder of that name with rows")

    def _blob(self, meta: "ObjectMeta") -> ObjectBlob:
        key = meta["path"]
        return ObjectBlob(f"{self._root}{key}", meta["size"], meta["e_tag"] or "", self._store, key)

    def _refused(self) -> AbstractContextManager[None]:
        return bucket_errors(self._wish.uri, field="input_uri", reason=Reason.INPUT_UNREADABLE)
