"""Where artifacts are taken from: files and folders of the registry's host, objects and prefixes of buckets.

A folder becomes a tar that is the same whichever way its files came. Blocking: for threads other than the event loop's.
"""

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, PreconditionError, UnauthenticatedError

from services.common.artifacts.tar import canonical_tar
from services.common.artifacts.unpacking import Limits, Unpacking
from services.common.errors import MeshError, Reason
from services.common.objects import BucketStore
from services.common.telemetry.logging import get_logger
from services.registry.adapters.artifact_errors import unreadable
from services.registry.domain.artifact_uri import ArtifactPlace, filename_of, is_within

if TYPE_CHECKING:  # in its stubs alone
    from obstore import GetOptions

log = get_logger(__name__)

_PIECE_BYTES = 1024 * 1024
_RANGE_BYTES = 8 * 1024 * 1024
_NEVER = ("/proc", "/sys")
"""Where a system shows what its processes hold, the registry's own environment and memory among it."""
OpenBucket = Callable[[str, str], BucketStore]
"""A bucket by its scheme and name."""


@dataclass(frozen=True, slots=True)
class Source:
    """An artifact to take: the bytes that it will have, and whether they are those of a folder."""

    pieces: Iterator[bytes]
    filename: str
    folder: bool = False


class Sources:
    """Opens places."""

    def __init__(
        self,
        *,
        open_bucket: OpenBucket,
        own_folder: Path | None,
        own_uri: str,
        allowed: Sequence[str],
        closed: Sequence[Path] = (),
    ) -> None:
        """`closed`: folders and files of the registry beside its store, such as its keys."""
        self.bucket = open_bucket
        own = [own_folder] if own_folder is not None else [own_uri]
        self._closed = [*_NEVER, *(os.path.realpath(one) if isinstance(one, Path) else one for one in (*own, *closed))]
        self._allowed = tuple(prefix.removeprefix("file://") for prefix in allowed)

    def open(self, place: ArtifactPlace, limits: Limits) -> Source:
        """What is there. Raises ARTIFACT_NOT_FOUND, ARTIFACT_INVALID for folders that hold more than files, and
        PERMISSION_DENIED for places that the registry's settings close; reading raises them too."""
        real = self.check(place)
        if place.bucket:
            return self._of_bucket(place, limits)
        path = Path(real)
        descriptor = _opened(path)
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISREG(mode):
            return Source(_file(descriptor, place.path), filename_of(place))
        os.close(descriptor)
        if stat.S_ISDIR(mode):
            files = _folder_files(path, Unpacking(place.path, limits))
            return Source(canonical_tar(files), filename_of(place), folder=True)
        raise unreadable(place.path, "it is no plain file and no folder")

    def check(self, place: ArtifactPlace) -> str:
        """The place itself, behind all links. What the store holds is named by its digest, for which there are rights;
        its files are not, nor its keys, nor a folder in which they are. Raises PERMISSION_DENIED for those, and
        ARTIFACT_NOT_FOUND where nothing is taken from."""
        shown = str(place)
        real = os.path.realpath(place.path) if place.path else shown
        if is_within(real, self._closed) or any(is_within(closed, [real]) for closed in self._closed):
            raise MeshError(
                Reason.PERMISSION_DENIED,
                f"the artifact {shown} is in the registry's own store or holds what is the registry's alone; name what "
                "is stored as artifact://sha256/<digest>",
            )
        if self._allowed and not is_within(real, self._allowed):
            raise MeshError(
                Reason.ARTIFACT_NOT_FOUND,
                f"the artifact {shown} is in no place that the registry takes artifacts from "
                f"({', '.join(self._allowed)}); put it there, or send it by UploadArtifact",
            )
        return real

    def _of_bucket(self, place: ArtifactPlace, limits: Limits) -> Source:
        shown = str(place)
        try:
            bucket = self.bucket(place.scheme, place.bucket)
            try:
                meta = obstore.head(bucket, place.key)
            except FileNotFoundError:
                found = self._below(bucket, place, limits)
                return Source(canonical_tar(found), filename_of(place), folder=True)
        except (BaseError, OSError, ValueError) as error:
            raise refused(shown, error) from error
        return Source(_object(bucket, place.key, meta["size"], meta["e_tag"], shown), filename_of(place))

    def _below(
        self, bucket: BucketStore, place: ArtifactPlace, limits: Limits
    ) -> Sequence[tuple[str, int, Iterator[bytes]]]:
        unpacking, found = Unpacking(str(place), limits), []
        for page in obstore.list(bucket, place.key):
            for meta in page:
                name = meta["path"].removeprefix(place.key + "/")
                if meta["path"].endswith("/"):
                    # How consoles of buckets mark folders.
                    continue
                unpacking.admit(name, size_bytes=meta["size"], folder=False)
                found.append((name, meta["size"], meta["path"], meta["e_tag"]))
        if not found:
            raise unreadable(str(place), "there is nothing of that name")
        return [
            (name, size, _object(bucket, key, size, e_tag, f"{place.scheme}://{place.bucket}/{key}"))
            for name, size, key, e_tag in sorted(found, key=lambda one: one[0].encode())
        ]


def _opened(path: Path, flags: int = 0) -> int:
    try:
        # Without blocking, so that no pipe or device can hold a thread for good.
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | flags)
    except (OSError, ValueError) as error:
        raise refused(str(path), error) from error


def _file(descriptor: int, shown: str, size: int = -1) -> Iterator[bytes]:
    """The bytes of a file, which must be `size` where that is stated."""
    with closing(FileIO(descriptor)) as stream:
        seen = 0
        try:
            while piece := stream.read(_PIECE_BYTES):
                seen += len(piece)
                if seen > size >= 0:
                    break
                yield piece
        except OSError as error:
            raise refused(shown, error) from error
    if size >= 0 and seen != size:
        raise _changed(shown)


def _folder_files(folder: Path, unpacking: Unpacking) -> Sequence[tuple[str, int, Iterator[bytes]]]:
    found: list[tuple[str, int]] = []
    waiting = [folder]
    while waiting:
        above = waiting.pop()
        try:
            for entry in sorted(os.scandir(above), key=lambda one: one.name):
                name = str(Path(entry.path).relative_to(folder))
                if entry.is_symlink():
                    raise unpacking.refused(f"its entry {name!r} is a link")
                if entry.is_dir():
                    unpacking.admit(name, size_bytes=0, folder=True)
                    waiting.append(Path(entry.path))
                elif entry.is_file():
                    size = entry.stat().st_size
                    found.append((unpacking.admit(name, size_bytes=size, folder=False), size))
                else:
                    raise unpacking.refused(f"its entry {name!r} is no plain file")
        except OSError as error:
            raise refused(str(above), error) from error
    if not found:
        raise unpacking.refused("it holds no file")
    return [(name, size, _later(folder / name, size)) for name, size in sorted(found, key=lambda one: one[0].encode())]


def _later(path: Path, size: int) -> Iterator[bytes]:
    """A file that is opened when its turn comes."""
    descriptor = _opened(path, os.O_NOFOLLOW)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _changed(str(path))
    yield from _file(descriptor, str(path), size)


def _object(bucket: BucketStore, key: str, size: int, e_tag: str | None, shown: str) -> Iterator[bytes]:
    """The bytes of an object, a stretch at a time, so that none takes long and each is tried again by itself."""
    for begin in range(0, size, _RANGE_BYTES):
        end = min(size, begin + _RANGE_BYTES)
        try:
            options: GetOptions = {"range": (begin, end)}
            if e_tag:
                options["if_match"] = e_tag
            piece = bytes(obstore.get(bucket, key, options=options).bytes())
        except (PreconditionError, FileNotFoundError):
            raise _changed(shown) from None
        except (BaseError, OSError) as error:
            raise refused(shown, error) from error
        if len(piece) != end - begin:
            raise _changed(shown)
        yield piece


def refused(shown: str, error: Exception) -> MeshError:
    """What a caller is told of a place that could not be read."""
    if isinstance(error, BaseError):
        # Its words have addresses and answers in them that are not the caller's to know.
        log.warning("a bucket refused", source=shown, error=str(error))
        denied = isinstance(error, PermissionDeniedError | UnauthenticatedError)
        return unreadable(shown, "the bucket denies it" if denied else "the bucket does not give it out")
    return unreadable(shown, error.strerror if isinstance(error, OSError) and error.strerror else "it has no such name")


def _changed(shown: str) -> MeshError:
    return MeshError(
        Reason.ARTIFACT_INVALID, f"the artifact {shown} changed while it was read; register it again once it stays"
    )
