"""Where inputs are and outputs go, as the engines need it."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import pyarrow as pa

from services.batch.domain.chunks import Chunk, FailedRow, Part, Plan
from services.batch.domain.job import Input, Output
from services.batch.domain.rows import RowBlock
from services.batch.ports import Lease


class Source(Protocol):
    """One input. Its methods block and are called from a thread. Raises INPUT_UNREADABLE with what is wrong."""

    def columns(self) -> tuple[str, ...]:
        """The columns, from the header, the file's schema or the first row."""
        ...

    def types(self) -> Mapping[str, pa.DataType]:
        """The columns' types, as far as the format has any."""
        ...

    def cut(self, rows: int, *, bytes_max: int, key_column: str, chunks_max: int = 0) -> Plan:
        """Counts the rows and cuts them into chunks of at most so many rows and about so many bytes; only the first
        `chunks_max` chunks where that is not 0."""
        ...

    def fingerprint(self) -> str:
        """Differs where the file was changed."""
        ...

    def read(self, chunks: Sequence[Chunk], columns: Sequence[str], plan: Plan) -> Iterator[RowBlock]:
        """The rows of the chunks, one block for each, in order; bounded memory whatever the file's size."""
        ...


class Sources(Protocol):
    """Opens inputs."""

    def open(self, wish: Input) -> Source:
        """The input. Raises INPUT_UNREADABLE where it is missing, no file, empty or of another format."""
        ...


class Workspace(Protocol):
    """Where a job's parts are, and how they become the output. Methods block and are called from a thread."""

    def check_output(self, output: Output, input_path: str) -> None:
        """Raises OUTPUT_UNWRITABLE where the output cannot be written there, or exists and may not be replaced."""
        ...

    def write_part(self, lease: Lease, index: int, table: pa.Table, output: Output) -> Part:
        """Writes and syncs a chunk's rows under a name that no other lease uses."""
        ...

    def has_part(self, job_id: str, part: Part) -> bool:
        """Whether a part is there, whole."""
        ...

    def assemble(
        self,
        lease: Lease,
        output: Output,
        parts: Sequence[Part],
        failed: Iterator[FailedRow],
        columns: Sequence[str],
        *,
        stop: threading.Event,
    ) -> "Assembled":
        """Puts the parts together beside the output, under a hidden name, together with the failed rows. Gives up, and
        leaves nothing, soon after `stop` is set."""
        ...

    def digest(self, path: str) -> str:
        """The SHA-256 of a file, empty where there is none."""
        ...

    def withdraw(self, output: Output, digest: str) -> None:
        """Removes an output that appeared, with its failed rows, where it still is the one with that digest."""
        ...

    def discard(self, job_id: str, output: Output) -> None:
        """Removes a job's parts and hidden files."""
        ...


class Assembled(Protocol):
    """An output that is written and not yet visible."""

    @property
    def digest(self) -> str:
        """Its SHA-256."""
        ...

    def publish(self) -> None:
        """Makes it visible at once. Raises OUTPUT_UNWRITABLE where something else is there meanwhile."""
        ...
