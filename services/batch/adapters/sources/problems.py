"""How all sources say what is wrong."""

from collections.abc import Iterator
from contextlib import contextmanager

from services.batch.adapters.sources.blobs import Blob
from services.batch.adapters.sources.records import RecordError, line_at
from services.batch.domain.job import Input
from services.common.errors import MeshError, Reason


class NoRowsError(MeshError):
    """INPUT_UNREADABLE: a file without rows, which is no problem among others that have some."""

    def __init__(self, wish: Input, why: str = "it has no rows") -> None:
        super().__init__(Reason.INPUT_UNREADABLE, _words(wish, why), metadata={"input_uri": wish.uri})


def unreadable(wish: Input, why: str) -> MeshError:
    """INPUT_UNREADABLE in the usual words."""
    return MeshError(Reason.INPUT_UNREADABLE, _words(wish, why), metadata={"input_uri": wish.uri})


def line_of(blob: Blob, byte: int) -> int:
    """The number of the line that holds a byte of the text."""
    with blob.text() as file:
        return line_at(file, byte)


@contextmanager
def naming_lines(wish: Input, blob: Blob) -> Iterator[None]:
    """Says on which line a record is that cannot be told from the next."""
    try:
        yield
    except RecordError as error:
        raise unreadable(wish, f"line {line_of(blob, error.start)} {error.why}") from None


def _words(wish: Input, why: str) -> str:
    return f"input_uri {wish.uri!r} cannot be read: {why}"
