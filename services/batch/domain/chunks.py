"""How an input is cut into chunks: the steps that are done as a whole or not at all."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.batch.domain.job import Spent

CHUNK_ROWS_MIN = 1_000
"""A chunk costs a synced file and a transaction, which must not outweigh its predictions."""
CHUNK_ROWS_MAX = 20_000
CHUNK_BATCHES = 8
"""Requests in one chunk: enough to keep several in flight, few enough to lose little when a process dies."""
CHUNK_BYTES_MAX = 16 * 1024 * 1024
"""Of the input. A few chunks are in memory at once, each some times larger than in the file."""
CHUNKS_IN_FLIGHT_MAX = 6


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows `first_row` to before `first_row + row_count`, in bytes `start` to before `stop` of a text file."""

    index: int
    first_row: int
    row_count: int
    start: int = 0
    stop: int = 0


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """A file among several of an input: where it is, what tells whether it is still the one that was cut, and the first
    of its chunks and rows among those of the whole input."""

    path: str
    mark: str
    first_chunk: int
    first_row: int


@dataclass(frozen=True, slots=True)
class Plan:
    """An input, cut. `fingerprint` tells whether it is still what was cut. `files` is empty where it is one file; else
    every chunk lies in the last of them that does not begin after it."""

    fingerprint: str
    columns: tuple[str, ...]
    key_is_integer: bool
    chunks: tuple[Chunk, ...]
    files: tuple[PlannedFile, ...] = ()

    @property
    def total_rows(self) -> int:
        """Rows of all chunks."""
        return sum(chunk.row_count for chunk in self.chunks)


@dataclass(frozen=True, slots=True)
class FailedRow:
    """A row that could not be predicted."""

    row_number: int
    key: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Part:
    """The file that holds a chunk's predictions. `name` is in the job's folder."""

    name: str
    size_bytes: int
    row_count: int


@dataclass(frozen=True, slots=True)
class ChunkResult:
    """A chunk that is done."""

    chunk: Chunk
    part: Part
    failed: Sequence[FailedRow]
    spent: Spent


def chunk_rows(batch_size: int, *, least: int = CHUNK_ROWS_MIN, explain: bool = False) -> int:
    """Rows in one chunk of a job, unless its bytes are too many. Rows that are explained take long enough to be worth a
    chunk of their own."""
    least = 1 if explain else least
    return max(batch_size, min(CHUNK_ROWS_MAX, max(least, batch_size * CHUNK_BATCHES)))


def chunks_in_flight(rows: int, batch_size: int, parallelism: int) -> int:
    """How many chunks of `rows` rows a worker does at once, so that `parallelism` requests are in flight while one
    chunk is written."""
    batches = -(-rows // batch_size)
    return min(CHUNKS_IN_FLIGHT_MAX, 1 + -(-parallelism // batches))


def cut_rows(total_rows: int, rows: int) -> tuple[Chunk, ...]:
    """Chunks of `rows` rows, the last one with the rest."""
    return tuple(
        Chunk(index, first, min(rows, total_rows - first)) for index, first in enumerate(range(0, total_rows, rows))
    )
