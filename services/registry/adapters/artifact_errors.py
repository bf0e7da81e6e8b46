"""What goes wrong with stored artifacts, in words that say what to do."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from obstore.exceptions import BaseError

from services.common.errors import MeshError, Reason
from services.common.telemetry.logging import get_logger

log = get_logger(__name__)


def corrupt(digest: str, problem: str) -> MeshError:
    """The store does not hold what was put into it."""
    return MeshError(
        Reason.ARTIFACT_CORRUPT,
        f"the stored artifact {digest} is damaged: {problem}; restore it from a backup of the store, or register it "
        "again from where it came",
        metadata={"artifact_digest": digest},
    )


def unreadable(source: str, why: str) -> MeshError:
    """A source that the registry cannot take an artifact from."""
    return MeshError(
        Reason.ARTIFACT_NOT_FOUND,
        f"the artifact {source} cannot be read by the registry ({why}); give a place that the registry's host can "
        "read, or send the artifact by UploadArtifact",
    )


@contextmanager
def store_errors() -> Iterator[None]:
    """What the disk or the bucket of the store refuses, as an error that says so. What is not there stays
    FileNotFoundError."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, BaseError) as error:
        raise unavailable(error) from error


def unavailable(error: Exception) -> MeshError:
    """The store does not do what it is asked."""
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    log.warning("the artifact store refused", error=str(error))
    why = error.strerror if isinstance(error, OSError) and error.strerror else "the log says more"
    return MeshError(
        Reason.DEPENDENCY_UNAVAILABLE,
        f"the artifact store does not answer as it should ({why}); "
        + ("make room in the registry's data_dir" if full else "see to the registry's data_dir and artifacts_uri")
        + " and try again",
        retry_after_s=30.0,
    )
