"""Folders of other registries, on the registry's host or in a bucket, as far as an import looks into them.

Blocking: for threads other than the event loop's.
"""

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import obstore
from obstore.exceptions import BaseError

from services.common.errors import MeshError, Reason, invalid
from services.common.objects import BucketStore
from services.registry.adapters.artifact_sources import Sources, refused
from services.registry.domain.artifact_uri import ArtifactPlace, parse_artifact_uri

_NAMES_MAX = 100_000


class Tree(Protocol):
    """A folder. Paths are relative to it."""

    def names(self, path: str) -> Sequence[str]:
        """What lies in a folder, in alphabetical order, folders with "/" behind their names; else nothing."""
        ...

    def read(self, path: str, bytes_max: int) -> bytes | None:
        """A small file; None where there is none. Raises ARTIFACT_INVALID for a larger one."""
        ...

    def uri(self, path: str) -> str:
        """Where a file or folder of it can be registered from."""
        ...


def open_tree(uri: str, sources: Sources) -> Tree:
    """The folder at a URI. Raises INVALID_FIELD, and what `sources` has against the place."""
    place = parse_artifact_uri(uri, "uri")
    if place.digest:
        raise invalid("uri", uri, "the place of a folder: file://, s3:// or gs://")
    real = sources.check(place)
    if place.path:
        return LocalTree(Path(real))
    try:
        return BucketTree(place, sources.bucket(place.scheme, place.bucket))
    except (BaseError, OSError, ValueError) as error:
        raise refused(str(place), error) from error


class LocalTree:
    """A folder of this host. Links are not followed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self, path: str) -> Sequence[str]:
        """What lies in a folder."""
        found: list[str] = []
        try:
            with os.scandir(self._folder / path) as entries:
                for entry in entries:
                    if entry.is_symlink() or len(found) >= _NAMES_MAX:
                        continue
                    found.append(f"{entry.name}/" if entry.is_dir(follow_symlinks=False) else entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise refused(str(self._folder / path), error) from error
        return sorted(found)

    def read(self, path: str, bytes_max: int) -> bytes | None:
        """A small file."""
        try:
            descriptor = os.open(self._folder / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise refused(str(self._folder / path), error) from error
        with os.fdopen(descriptor, "rb") as stream:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return None
            return _bounded(stream.read(bytes_max + 1), path, bytes_max)

    def uri(self, path: str) -> str:
        """Where it can be registered from."""
        return (self._folder / path).as_uri()


class BucketTree:
    """A prefix of a bucket."""

    def __init__(self, place: ArtifactPlace, store: BucketStore) -> None:
        self._place = place
        self._store = store

    def names(self, path: str) -> Sequence[str]:
        """What lies in a folder."""
        prefix = self._key(path)
        try:
            listed = obstore.list_with_delimiter(self._store, prefix)
        except BaseError as error:
            raise refused(str(self._place), error) from error
        folders = [f"{one.rstrip('/').rpartition('/')[2]}/" for one in listed["common_prefixes"]]
        files = [one["path"].rpartition("/")[2] for one in listed["objects"]]
        return sorted([*folders, *files])[:_NAMES_MAX]

    def read(self, path: str, bytes_max: int) -> bytes | None:
        """A small file."""
        try:
            got = obstore.get(self._store, self._key(path))
            if got.meta["size"] > bytes_max:
                return _bounded(b"", path, bytes_max, size_bytes=got.meta["size"])
            return bytes(got.bytes())
        except FileNotFoundError:
            return None
        except BaseError as error:
            raise refused(str(self._place), error) from error

    def uri(self, path: str) -> str:
        """Where it can be registered from."""
        return f"{self._place.scheme}://{self._place.bucket}/{self._key(path)}"

    def _key(self, path: str) -> str:
        return "/".join(part for part in (self._place.key.strip("/"), path.strip("/")) if part)


def _bounded(data: bytes, path: str, bytes_max: int, *, size_bytes: int = 0) -> bytes:
    if max(len(data), size_bytes) > bytes_max:
        raise MeshError(Reason.ARTIFACT_INVALID, f"{path} has more than the {bytes_max} bytes that are read of it")
    return data
