"""Buckets as the batch service meets them: opened once, and with errors that say what to do.

What a bucket denies or does not have is the caller's to mend. Anything else is the bucket's, which was tried for half a
minute by then; such a job fails too, and goes on where it stopped once it is retried.
"""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)

from services.batch.domain.places import bucket_key
from services.common.errors import MeshError, Reason
from services.common.objects import BucketStore, open_bucket
from services.common.seekable import SeekableBytes
from services.common.telemetry.logging import get_logger

if TYPE_CHECKING:  # in their stubs alone
    from obstore import GetOptions
    from obstore.store import S3Config

log = get_logger(__name__)

_S3: "S3Config" = {"copy_if_not_exists": "multipart"}
"""How S3 copies only to where nothing is: by a multipart upload whose end has a condition."""


_CODE = re.compile(r"<Code>(\w+)</Code>")
"""How S3 and GCS name what is wrong, where the library has no error of its own for it, as in lists."""
_DENIED = ("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken")


class Buckets:
    """Opens buckets, each once. Safe for threads."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, str], BucketStore] = {}
        self._lock = threading.Lock()

    def at(self, path: str) -> tuple[BucketStore, str]:
        """The bucket of a path, and the key in it."""
        scheme, bucket, key = bucket_key(path)
        with self._lock:
            store = self._open.get((scheme, bucket))
            if store is None:
                store = self._open[scheme, bucket] = open_bucket(scheme, bucket, config=_S3 if scheme == "s3" else None)
        return store, key


@contextmanager
def bucket_errors(uri: str, *, field: str, reason: Reason) -> Iterator[None]:
    """What a bucket denies, as `reason` with the field that named it; what may pass, as DEPENDENCY_UNAVAILABLE. What is
    not there stays FileNotFoundError, what is there already AlreadyExistsError, what is another PreconditionError."""
    try:
        yield
    except (FileNotFoundError, AlreadyExistsError, PreconditionError, InterruptedError):
        raise
    except (BaseError, OSError, ValueError) as error:
        # Its words have addresses and answers in them that are not the caller's to know.
        log.warning("a bucket refused", uri=uri, error=str(error))
        found = _CODE.search(str(error))
        code = found[1] if found is not None else ""
        if isinstance(error, PermissionDeniedError | UnauthenticatedError) or code in _DENIED:
            why = "the bucket denies it; give the batch service's credentials the right to it"
            raise MeshError(reason, f"{field} {uri!r}: {why}", metadata={field: uri}) from error
        if code == "NoSuchBucket":
            raise MeshError(reason, f"{field} {uri!r}: there is no such bucket", metadata={field: uri}) from error
        raise MeshError(
            Reason.DEPENDENCY_UNAVAILABLE,
            f"{field} {uri!r}: the bucket does not answer as it should; see to it and try again",
            metadata={field: uri},
            retry_after_s=30.0,
        ) from error


class ObjectFile(SeekableBytes):
    """An object of an input as a file that is read by ranges, one request for each read. Raises INPUT_UNREADABLE where
    it is no longer the one that was found."""

    def __init__(self, store: BucketStore, key: str, *, uri: str, size_bytes: int, e_tag: str) -> None:
        super().__init__(size_bytes)
        self._uri = uri
        self._store = store
        self._key = key
        self._e_tag = e_tag

    def readall(self) -> bytes:
        """All that is left, in one request too."""
        return self.read(max(0, self._size_bytes - self._at)) or b""

    def _read_at(self, begin: int, wanted: int) -> bytes:
        options: GetOptions = {"range": (begin, begin + wanted)}
        if self._e_tag:
            options["if_match"] = self._e_tag
        try:
            with bucket_errors(self._uri, field="input_uri", reason=Reason.INPUT_UNREADABLE):
                piece = bytes(obstore.get(self._store, self._key, options=options).bytes())
        except (FileNotFoundError, PreconditionError):
            raise changed(self._uri) from None
        if len(piece) != wanted:
            raise changed(self._uri)
        return piece


def changed(uri: str) -> MeshError:
    """INPUT_UNREADABLE for an object that changed while it was read."""
    return MeshError(
        Reason.INPUT_UNREADABLE,
        f"input_uri {uri!r} changed while it was read; retry the job to predict all of what it is now",
        metadata={"input_uri": uri},
    )
