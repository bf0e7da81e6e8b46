"""Jobs and chunks as the tests of stores make them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from services.batch.domain.chunks import ChunkResult, FailedRow, Part, Plan, cut_rows
from services.batch.domain.job import Input, Job, Spent
from services.batch.ports import ChunkLease, JobStore, Lease, NewJob, WorkStore
from services.batch.ports_outbox import JobOutbox
from services.batch.ports_schedules import ScheduleStore
from tests.support.batch_fakes import spec_of

LONG_S = 60.0
PLAN = Plan("10:1", ("id", "a", "b"), key_is_integer=True, chunks=cut_rows(10, 4))


@dataclass(frozen=True)
class Stores:
    """One store, or one for each of these, over the same jobs."""

    jobs: JobStore
    work: WorkStore
    outbox: JobOutbox
    schedules: ScheduleStore


def new(
    number: int, *, output: str = "", request_id: str = "", digest: str = "d", team: str = "red", **changes: object
) -> NewJob:
    """A job to store."""
    spec = spec_of("/in.csv", output or f"/out-{number}.csv", **changes)
    return NewJob(f"batch_job_{number}", spec, "ann", team, request_id, digest)


async def claimed(stores: Stores, *, lease_s: float = LONG_S) -> Lease:
    """The job that waits, carried by somebody."""
    (lease,) = await stores.work.claim("one", lease_s=lease_s, limit=1)
    return lease


async def running(stores: Stores, *, plan: Plan = PLAN, read: Input | None = None) -> Lease:
    """Job 1, carried, with a plan."""
    job = new(1)
    await stores.jobs.create(job if read is None else replace(job, spec=replace(job.spec, input=read)))
    lease = await claimed(stores)
    await stores.work.set_plan(lease, plan)
    return lease


def done(index: int, failed: Sequence[FailedRow] = ()) -> ChunkResult:
    """A chunk of the plan that is done."""
    chunk = PLAN.chunks[index]
    part = Part(f"{index}.part", 10, chunk.row_count - len(failed))
    return ChunkResult(chunk, part, failed, Spent(requests=1, latency_ms_sum=2.0))


async def leased(stores: Stores, index: int, *, owner: str = "one", lease_s: float = LONG_S) -> ChunkLease:
    """One chunk of job 1."""
    (lease,), _ = await stores.work.lease_chunks(owner, lease_s=lease_s, limit=1, after={"batch_job_1": index - 1})
    assert lease.chunk == PLAN.chunks[index]
    return lease


async def record(stores: Stores, result: ChunkResult) -> Job:
    """Leases a chunk and records it."""
    return await stores.work.complete_chunk(await leased(stores, result.chunk.index), result)
