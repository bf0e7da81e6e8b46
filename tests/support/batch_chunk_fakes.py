"""Chunks as workers see them, in memory: part of the store that passes the contract tests of the real one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from services.batch.domain.chunks import Chunk, ChunkResult, FailedRow, Plan
from services.batch.domain.job import Job, Status
from services.batch.domain.launched import Standing
from services.batch.domain.pace import MARKS_MAX, Mark
from services.batch.domain.shards import choose, packed_spans, share
from services.batch.ports import ChunkLease, FencedError, JobWork, Pace, Renewal, StoreAwayError, StoredChunk
from services.common.clock import Clock
from tests.support.batch_outbox import MemoryOutbox


@dataclass
class Hold:
    """Who has a chunk."""

    owner: str
    token: int
    until: datetime | None


@dataclass
class Row:
    """A job with all that belongs to it."""

    job: Job
    request_id: str
    wish_digest: str
    token: int = 0
    owner: str = ""
    until: datetime | None = None
    counted_at: datetime | None = None
    plan: Plan | None = None
    done: dict[int, StoredChunk] = field(default_factory=dict)
    failed: dict[int, tuple[int, FailedRow]] = field(default_factory=dict)
    holds: dict[int, Hold] = field(default_factory=dict)
    digest: str = ""
    silent_since: datetime | None = None
    cleaned: bool = False

    def forget(self) -> None:
        """As if it had never been planned."""
        self.plan, self.done, self.failed, self.holds = None, {}, {}, {}


class MemoryChunks:
    """The part of a `WorkStore` that workers use."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rows: dict[str, Row] = {}
        self._leases_made = 0
        self.away = False
        self.outbox = MemoryOutbox(clock)

    async def lease_chunks(
        self, owner: str, *, lease_s: float, limit: int, after: Mapping[str, int], job_id: str = ""
    ) -> tuple[Sequence[ChunkLease], Pace | None]:
        """Of the job of which the fewest are being done."""
        self._reach()
        now = self._clock.now()
        for row in sorted(self._rows.values(), key=lambda row: (len(self._taken(row)), row.job.sequence)):
            taken = self._taken(row)
            owners = {row.holds[index].owner for index in taken} | {owner}
            if row.job.job_id != job_id if job_id else row.job.spec.runtime != "local":
                continue
            if not self._carried(row) or row.plan is None or len(owners) > row.job.spec.max_parallelism:
                continue
            free = [chunk.index for chunk in row.plan.chunks if chunk.index not in row.done.keys() | taken]
            leases, packed = [], packed_spans(row.plan.files, len(row.plan.chunks), row.job.spec.input)
            for index in choose(free, taken, after=after.get(row.job.job_id), limit=limit, packed=packed):
                self._leases_made += 1
                row.holds[index] = Hold(owner, self._leases_made, now + timedelta(seconds=lease_s))
                chunk = row.plan.chunks[index]
                leases.append(ChunkLease(row.job.job_id, row.job.attempt, chunk, owner, self._leases_made))
            if leases:
                spec = row.job.spec
                return leases, Pace(spec.batch_size, share(spec.max_parallelism, len(owners)), self._silent_s(row))
        return (), None

    async def renew_chunks(
        self, leases: Sequence[ChunkLease], *, lease_s: float, heard: Mapping[str, bool] | None = None
    ) -> Renewal:
        """Prolongs."""
        self._reach()
        for job_id, answered in (heard or {}).items():
            told = self._rows.get(job_id)
            if told is not None and self._goes_on(told):
                told.silent_since = None if answered else told.silent_since or self._clock.now()
        held, paces = set(), {}
        for lease in leases:
            row, hold = self._rows.get(lease.job_id), self._hold(lease)
            if row is None:
                continue
            if hold is not None and self._goes_on(row):
                hold.until = self._clock.now() + timedelta(seconds=lease_s)
                held.add(lease.token)
            owners = {row.holds[index].owner for index in self._taken(row)}
            spec = row.job.spec
            paces[lease.job_id] = Pace(spec.batch_size, share(spec.max_parallelism, len(owners)), self._silent_s(row))
        return Renewal(frozenset(held), paces)

    async def complete_chunk(self, lease: ChunkLease, result: ChunkResult) -> Job:
        """Records it, once."""
        self._reach()
        row, index = self._rows.get(lease.job_id), lease.chunk.index
        if row is None or not self._goes_on(row):
            raise FencedError(lease.job_id)
        hold, done = row.holds.get(index), row.done.get(index)
        if hold is None or hold.token != lease.token:
            raise FencedError(lease.job_id)
        if done is not None:
            return row.job
        moment = self._clock.now().timestamp()
        row.done[index] = StoredChunk(lease.chunk, result.part, len(result.failed), lease.owner, moment)
        row.failed |= {failed.row_number: (index, failed) for failed in result.failed}
        row.job = replace(row.job, spent=row.job.spent + result.spent)
        self._progress(row, lease.chunk, len(result.failed), 1)
        return self._marked(row, 1)

    async def fail_chunk(self, lease: ChunkLease, *, reason: str, message: str) -> None:
        """Fails its job."""
        self._reach()
        row = self._rows.get(lease.job_id)
        if row is None or not self._goes_on(row) or self._hold(lease) is None:
            raise FencedError(lease.job_id)
        self._finish(row, Status.FAILED, reason, message)

    async def give_back_chunks(self, leases: Sequence[ChunkLease]) -> None:
        """Frees them."""
        self._reach()
        for lease in leases:
            hold = self._hold(lease)
            if hold is not None:
                hold.until = None

    async def free_chunks(self, owner: str) -> None:
        """Frees all of somebody's."""
        self._reach()
        for row in self._rows.values():
            for hold in row.holds.values():
                if hold.owner == owner:
                    hold.until = None

    async def ever_leased(self, job_id: str) -> bool:
        """Whether any chunk has or had an owner."""
        self._reach()
        return job_id in self._rows and bool(self._rows[job_id].holds)

    async def standings(self, job_ids: Sequence[str]) -> Mapping[str, Standing]:
        """How they stand."""
        self._reach()
        jobs = [self._rows[job_id].job for job_id in job_ids if job_id in self._rows]
        return {
            job.job_id: Standing(job.status, job.paused, job.attempt, job.total_chunks, job.completed_chunks)
            for job in jobs
        }

    async def work_of(self, job_id: str) -> JobWork | None:
        """What there is to know."""
        self._reach()
        row = self._rows.get(job_id)
        if row is None or row.plan is None:
            return None
        return JobWork(job_id, row.job.attempt, row.job.spec, row.job.team, row.job.user, row.plan)

    @staticmethod
    def _goes_on(row: Row) -> bool:
        return row.job.status in (Status.PENDING, Status.RUNNING) and not row.job.paused

    def _silent_s(self, row: Row) -> float:
        return (self._clock.now() - row.silent_since).total_seconds() if row.silent_since else 0.0

    def _carried(self, row: Row) -> bool:
        leased = row.until is not None and row.until >= self._clock.now()
        return leased and row.job.status is Status.RUNNING and not row.job.paused

    def _taken(self, row: Row) -> set[int]:
        now = self._clock.now()
        return {
            index
            for index, hold in row.holds.items()
            if index not in row.done and hold.until is not None and hold.until >= now
        }

    def _hold(self, lease: ChunkLease) -> Hold | None:
        row = self._rows.get(lease.job_id)
        hold = row.holds.get(lease.chunk.index) if row is not None else None
        if row is None or hold is None or hold.token != lease.token or lease.chunk.index in row.done:
            return None
        return hold

    def _finish(self, row: Row, status: Status, reason: str, message: str) -> None:
        self._counted(row)
        row.token, row.owner, row.until = row.token + 1, "", None
        before = row.job
        row.job = replace(
            before, status=status, error_reason=reason, error_message=message, completed_at=self._clock.now()
        )
        self.outbox.tell(before, row.job)

    @staticmethod
    def _progress(row: Row, chunk: Chunk, failed: int, sign: int) -> None:
        row.job = replace(
            row.job,
            processed_rows=row.job.processed_rows + sign * chunk.row_count,
            failed_rows=row.job.failed_rows + sign * failed,
            completed_chunks=row.job.completed_chunks + sign,
        )

    def _marked(self, row: Row, sign: int) -> Job:
        job = self._counted(row)
        marks = (*(job.pace if sign > 0 else ()), Mark(job.running_s, job.processed_rows))
        row.job = replace(job, pace=marks[-MARKS_MAX:])
        return row.job

    def _counted(self, row: Row) -> Job:
        now = self._clock.now()
        ran_s = (now - (row.counted_at or now)).total_seconds()
        row.counted_at = now
        row.job = replace(row.job, running_s=row.job.running_s + max(0.0, ran_s), updated_at=now)
        return row.job

    def _reach(self) -> None:
        if self.away:
            raise StoreAwayError("it is away")
