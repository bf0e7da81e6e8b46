"""What all sources share: how they say what is wrong, and what identifies a file's content."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.batch.adapters.sources.records import RecordError, line_at
from services.batch.domain.job import Input
from services.common.errors import MeshError, Reason


def unreadable(wish: Input, why: str) -> MeshError:
    """INPUT_UNREADABLE in the usual words."""
    return MeshError(
        Reason.INPUT_UNREADABLE, f"input_uri {wish.uri!r} cannot be read: {why}", metadata={"input_uri": wish.uri}
    )


@contextmanager
def naming_lines(wish: Input) -> Iterator[None]:
    """Says on which line a record is that cannot be told from the next."""
    try:
        yield
    except RecordError as error:
        raise unreadable(wish, f"line {line_at(Path(wish.path), error.start)} {error.why}") from None


def fingerprint_of(path: str) -> str:
    """Size and time of the last change: what a file that was replaced or written to does not keep."""
    status = Path(path).stat()
    return f"{status.st_size}:{status.st_mtime_ns}"
