"""What the engines need from outside, each port as small as its users allow."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.batch.domain.chunks import Chunk, ChunkResult, FailedRow, Part, Plan
from services.batch.domain.explanations import Explanation
from services.batch.domain.job import Job, JobSpec, Output, Status, Version
from services.batch.domain.launched import Bond, Standing
from services.batch.domain.rows import Tensor
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
class ChunkLease:
    """The right to do one chunk. No two leases of any chunk have the same `token`, and a later one has a larger one."""

    job_id: str
    attempt: int
    """Of the job: a job that is begun again may have other chunks."""
    chunk: Chunk
    owner: str
    token: int


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a worker may do a job's chunks."""

    batch_size: int
    """Rows in one request."""
    parallelism: int
    """Requests in flight at once in this worker: its share of what the job may have."""
    silent_s: float = 0.0
    """How long none of the job's workers has had an answer from the model."""


@dataclass(frozen=True, slots=True)
class JobWork:
    """What a worker must know of a job to do its chunks."""

    job_id: str
    attempt: int
    spec: JobSpec
    team: str
    user: str
    plan: Plan


@dataclass(frozen=True, slots=True)
class Shift:
    """What a worker is given to do."""

    leases: Sequence[ChunkLease] = ()
    """Of one job, in order, one following the other."""
    job: JobWork | None = None
    """Their job; None where there are none, or where the worker said that it knows it."""
    pace: Pace | None = None
    renew_every_s: float = 1.0
    """How often leases are to be renewed."""
    over: bool = False
    """Whether nothing is left to do of the job that the worker was started for, nor will be."""


@dataclass(frozen=True, slots=True)
class Renewal:
    """What became of leases."""

    held: frozenset[int]
    """The tokens of those that go on; all others are lost."""
    paces: Mapping[str, Pace]
    """By job."""


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
    schedule_id: str = ""


@dataclass(frozen=True, slots=True)
class JobQuery:
    """Which jobs to list, newest first: those made before the one whose sequence is `before`; 0 means all."""

    model: str = ""
    status: str = ""
    labels: Mapping[str, str] | None = None
    before: int = 0
    limit: int = 50
    schedule_id: str = ""
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


@dataclass(frozen=True, slots=True)
class Leftover:
    """An ended job's files: its parts, and the output with digest `digest` where it must not stay."""

    job_id: str
    status: Status
    output: Output
    digest: str


class WorkStore(Protocol):
    """Jobs as workers see them. Calls that take a lease raise FencedError once it is no longer the job's newest."""

    async def claim(
        self, owner: str, *, lease_s: float, limit: int, concurrency: Mapping[str, int] | None = None
    ) -> Sequence[Lease]:
        """Leases jobs that wait or whose lease ran out; each goes to one caller alone. Teams take turns, by how many
        jobs of theirs run; a team's own go oldest first. Of a team in
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

    async def lease_chunks(
        self, owner: str, *, lease_s: float, limit: int, after: Mapping[str, int], job_id: str = ""
    ) -> tuple[Sequence[ChunkLease], Pace | None]:
        """Leases at most `limit` chunks, one following the other, of a job that somebody carries; none where there is
        nothing to do. Of each job not more owners do chunks than it may have requests in flight. `after`: the last
        chunk that the owner was given, by job: what follows it is cheapest for him. `job_id`: of this job alone; of
        none: of those whose work runs on this machine."""
        ...

    async def standings(self, job_ids: Sequence[str]) -> Mapping[str, Standing]:
        """How those of these jobs stand that there are."""
        ...

    async def ever_leased(self, job_id: str) -> bool:
        """Whether any worker ever had a chunk of the job."""
        ...

    async def renew_chunks(
        self, leases: Sequence[ChunkLease], *, lease_s: float, heard: Mapping[str, bool] | None = None
    ) -> Renewal:
        """Prolongs leases. Those are lost that are not the newest of their chunk, or whose chunk is done, or whose job
        does not go on. `heard`: of jobs whose requests came back to this worker since it last said so, whether the
        model answered any."""
        ...

    async def complete_chunk(self, lease: ChunkLease, result: ChunkResult) -> Job:
        """Records a chunk as done, with its failed rows and the job's progress: all or nothing. Repeated it does no
        more. Raises FencedError where the lease is lost."""
        ...

    async def fail_chunk(self, lease: ChunkLease, *, reason: str, message: str) -> None:
        """Records the job as failed, because nothing of it can be done. Raises FencedError where the lease is lost."""
        ...

    async def give_back_chunks(self, leases: Sequence[ChunkLease]) -> None:
        """Lets the chunks be leased at once; leases that are lost change nothing."""
        ...

    async def free_chunks(self, owner: str) -> None:
        """Lets all that this owner has be leased at once."""
        ...

    async def work_of(self, job_id: str) -> JobWork | None:
        """What a worker must know of a job that has a plan; None where there is none."""
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

    async def leftovers(self, *, settle_s: float, limit: int) -> Sequence[Leftover]:
        """Jobs that are completed or cancelled for `settle_s` seconds and whose files have not been cleaned up."""
        ...

    async def clean(self, job_id: str, discard: Callable[[], None]) -> None:
        """Calls `discard` and records the job as clean, while nobody can begin it again."""
        ...

    async def failed_after(self, job_id: str, row_number: int, limit: int) -> Sequence[FailedRow]:
        """Rows that failed, by number."""
        ...


class Work(Protocol):
    """Chunks to do, as a worker sees them: in this process, or over the network. Raises FencedError where a lease is
    lost, DEPENDENCY_UNAVAILABLE where nobody is there to ask, which passes."""

    async def lease(
        self,
        worker: str,
        *,
        limit: int,
        after: Mapping[str, int],
        known: Mapping[str, int],
        begins: bool = False,
        bond: Bond | None = None,
    ) -> Shift:
        """Chunks to do; waits for some for a while. `after`: the last chunk that it was given, by job; `known`: the
        attempts of the jobs that need not be told again; `begins`: whoever had this name before is no more; `bond`: the
        one job that it is there for."""
        ...

    async def renew(
        self, leases: Sequence[ChunkLease], retries: Mapping[str, int], heard: Mapping[str, bool]
    ) -> Renewal:
        """The heartbeat. `retries`: requests that were sent again since the last one, by reason; `heard`: whether the
        model answered any since, by job."""
        ...

    async def complete(self, lease: ChunkLease, result: ChunkResult) -> None:
        """Records a chunk as done."""
        ...

    async def fail(self, lease: ChunkLease, *, reason: str, message: str) -> None:
        """Says that nothing of the job can be done."""
        ...

    async def give_back(self, leases: Sequence[ChunkLease]) -> None:
        """Leaves chunks to others."""
        ...


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model made of some rows."""

    tensors: Mapping[str, Tensor]
    latency_ms: float
    explanations: Sequence[Explanation] = ()
    """One for each row, where they were asked for."""


class Model(Protocol):
    """A model version that answers."""

    async def infer(
        self, version: Version, tensors: Mapping[str, Tensor], outputs: Sequence[str], parameters: Mapping[str, str]
    ) -> Answer:
        """Predicts rows, in the name of the current identity. Raises MeshError."""
        ...

    async def explain(self, version: Version, tensors: Mapping[str, Tensor], parameters: Mapping[str, str]) -> Answer:
        """Predicts rows, with the outputs of predictions and an explanation of each. Raises MeshError."""
        ...


class Catalogue(Protocol):
    """What is registered."""

    async def version(self, model: str, version: str) -> Version:
        """A version; for an empty one the version to take. Raises MODEL_NOT_FOUND or VERSION_NOT_FOUND."""
        ...


class RetryBoard(Protocol):
    """Counts requests that are sent again. Never fails and never waits."""

    def retried(self, reason: str, count: int = 1) -> None:
        """Requests are sent again."""
        ...


class Board(RetryBoard, Protocol):
    """Shows operators what goes on. Never fails and never waits."""

    def jobs_running(self, count: int) -> None:
        """So many jobs run in this process."""
        ...

    def job_ended(self, status: str) -> None:
        """A job ended here."""
        ...

    def leases(self, outcome: str, count: int) -> None:
        """So many leases of chunks were "given", or ended: "done", "failed", "given_back", or "lost", which are those
        that were over when they were to be prolonged."""
        ...

    def rows(self, model: str, version: str, *, predicted: int, failed: int) -> None:
        """A chunk was done."""
        ...

    def told(self, means: str, outcome: str) -> None:
        """A notification was tried: "sent", "postponed" or "given_up"."""
        ...

    def schedule_ran(self, outcome: str) -> None:
        """A moment of a schedule came: "made", "skipped" or "failed"."""
        ...

    def letters_waiting(self, count: int) -> None:
        """So many notifications have not ended, over all processes."""
        ...
