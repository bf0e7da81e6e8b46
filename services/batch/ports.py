"""What the engines need from outside, each port as small as its users allow."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from services.batch.domain.chunks import Chunk, ChunkResult, FailedRow, Part, Plan
from services.batch.domain.job import Input, Job, JobSpec, Output, Status, Version
from services.batch.domain.rows import RowBlock, Tensor
from services.common.access.book import EVERYTHING, Sight
from services.common.errors import MeshError, Reason


class FencedError(Exception):
    """The job is no longer this process's: its lease ran out, or someone cancelled, paused or deleted the job."""


class StoreAwayError(MeshError):
    """The stores cannot be reached. Says nothing about the job: whoever works on it waits, and goes on later."""

    def __init__(self, why: str) -> None:
        super().__init__(
            Reason.DEPENDENCY_UNAVAILABLE,
            f"the batch service's database does not answer ({why}); see whether PostgreSQL runs and try again",
            retry_after_s=2.0,
        )


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on a job. Every later lease of the job has a larger `token`."""

    job_id: str
    owner: str
    token: int


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """A chunk and what became of it. `part` is None until it is done."""

    chunk: Chunk
    part: Part | None
    failed_rows: int = 0
    worker: str = ""
    completed_at: float = 0.0


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be stored. An empty `request_id` makes the call unrepeatable; `wish_digest` tells wishes apart."""

    job_id: str
    spec: JobSpec
    created_by: str
    team: str
    request_id: str = ""
    wish_digest: str = ""


@dataclass(frozen=True, slots=True)
class JobQuery:
    """Which jobs to list, newest first: those made before the one whose sequence is `before`; 0 means all."""

    model: str = ""
    status: str = ""
    labels: Mapping[str, str] | None = None
    before: int = 0
    limit: int = 50
    sight: Sight = EVERYTHING
    """Only jobs that whoever has this sight sees."""


class JobStore(Protocol):
    """Jobs as callers see them. Raises StoreAwayError where it cannot be reached, JOB_NOT_FOUND."""

    async def create(self, job: NewJob) -> Job:
        """Stores a job, or returns the one that its request id made before. Raises REQUEST_ID_REUSED, and
        OUTPUT_UNWRITABLE where a job that has not ended writes the same output."""
        ...

    async def repeated(self, request_id: str, wish_digest: str, *, team: str) -> Job | None:
        """The job that a request id of the team made before. Raises REQUEST_ID_REUSED where it was for another wish."""
        ...

    async def get(self, job_id: str) -> Job:
        """One job."""
        ...

    async def query(self, query: JobQuery) -> Sequence[Job]:
        """Jobs, newest first."""
        ...

    async def change(self, job_id: str, change: Callable[[Job], "Change | None"]) -> Job:
        """Applies what `change` makes of the job as it is; None leaves it. Nothing else changes it meanwhile. Raises
        OUTPUT_UNWRITABLE where the job would begin again and another one writes its output."""
        ...

    async def delete(self, job_id: str, check: Callable[[Job], None]) -> None:
        """Forgets a job, unless `check` raises."""
        ...

    async def failed_rows(self, job_id: str, *, after: int, limit: int) -> Sequence[FailedRow]:
        """Rows that failed, by number, from after number `after`."""
        ...

    async def chunks(self, job_id: str, *, after: int, limit: int) -> Sequence[StoredChunk]:
        """Chunks by index, from after index `after`."""
        ...


@dataclass(frozen=True, slots=True)
class Change:
    """What a call changes of a job. Fields that are None stay. `fence` takes the job away from who works on it."""

    status: Status | None = None
    paused: bool | None = None
    spec: JobSpec | None = None
    fence: bool = False
    ended: bool = False
    begin_again: bool = False
    forget_progress: bool = False


class WorkStore(Protocol):
    """Jobs as workers see them. Calls that take a lease raise FencedError once it is no longer the job's newest."""

    async def claim(
        self, owner: str, *, lease_s: float, limit: int, concurrency: Mapping[str, int] | None = None
    ) -> Sequence[Lease]:
        """Leases jobs that wait or whose lease ran out, oldest first; each goes to one caller alone. Of a team in
        `concurrency` no more run at one time, over all callers, and its others wait without holding up anybody."""
        ...

    async def renew(self, lease: Lease, *, lease_s: float) -> Job:
        """Prolongs a lease and counts the time that the job ran."""
        ...

    async def release(self, lease: Lease) -> None:
        """Gives a job back, so that it may be claimed at once."""
        ...

    async def plan(self, lease: Lease) -> Plan | None:
        """The job's plan, None before there is one."""
        ...

    async def set_plan(self, lease: Lease, plan: Plan) -> None:
        """Stores a plan; the job had none."""
        ...

    async def parts(self, lease: Lease) -> Mapping[int, Part]:
        """The parts of the chunks that are done, by index."""
        ...

    async def complete_chunk(self, lease: Lease, result: ChunkResult) -> Job:
        """Records a chunk as done, with its failed rows and the job's progress: all or nothing."""
        ...

    async def reopen_chunk(self, lease: Lease, index: int) -> None:
        """Takes back that a chunk is done, because its part is gone."""
        ...

    async def intend(self, lease: Lease, digest: str) -> None:
        """Records the digest of the output that is about to appear."""
        ...

    async def intended(self, lease: Lease) -> str:
        """The digest recorded by `intend`, empty where there is none."""
        ...

    async def finish(self, lease: Lease, publish: Callable[[], None]) -> None:
        """Calls `publish` and records the job as completed, while nobody else can change the job."""
        ...

    async def fail(self, lease: Lease, *, reason: str, message: str) -> None:
        """Records the job as failed."""
        ...

    async def leftovers(self, *, settle_s: float, limit: int) -> Sequence["Leftover"]:
        """Jobs that are completed or cancelled for `settle_s` seconds and whose files have not been cleaned up."""
        ...

    async def clean(self, job_id: str, discard: Callable[[], None]) -> None:
        """Calls `discard` and records the job as clean, while nobody can begin it again."""
        ...

    async def failed_after(self, job_id: str, row_number: int, limit: int) -> Sequence[FailedRow]:
        """Rows that failed, by number."""
        ...


@dataclass(frozen=True, slots=True)
class Leftover:
    """An ended job's files: its parts, and the output with digest `digest` where it must not stay."""

    job_id: str
    status: Status
    output: Output
    digest: str


class Source(Protocol):
    """One input. Its methods block and are called from a thread. Raises INPUT_UNREADABLE with what is wrong."""

    def columns(self) -> tuple[str, ...]:
        """The columns, from the header, the file's schema or the first row."""
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


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model made of some rows."""

    tensors: Mapping[str, Tensor]
    latency_ms: float


class Model(Protocol):
    """A model version that answers."""

    async def infer(
        self, version: Version, tensors: Mapping[str, Tensor], outputs: Sequence[str], parameters: Mapping[str, str]
    ) -> Answer:
        """Predicts rows, in the name of the current identity. Raises MeshError."""
        ...


class Catalogue(Protocol):
    """What is registered."""

    async def version(self, model: str, version: str) -> Version:
        """A version; for an empty one the version to take. Raises MODEL_NOT_FOUND or VERSION_NOT_FOUND."""
        ...


class Board(Protocol):
    """Shows operators what goes on. Never fails and never waits."""

    def jobs_running(self, count: int) -> None:
        """So many jobs run in this process."""
        ...

    def job_ended(self, status: str) -> None:
        """A job ended here."""
        ...

    def rows(self, model: str, version: str, *, predicted: int, failed: int) -> None:
        """A chunk was done."""
        ...

    def retried(self, reason: str) -> None:
        """A request is sent again."""
        ...
