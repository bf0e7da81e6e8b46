"""What batch jobs meet, in memory. The stores pass the contract tests that the real ones pass."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

import numpy as np

from services.batch.domain.chunks import FailedRow, Part, Plan
from services.batch.domain.explanations import Explanation
from services.batch.domain.job import (
    Format,
    Input,
    Job,
    JobSpec,
    Output,
    Spent,
    Status,
    Version,
    job_not_found,
    output_taken,
    request_id_reused,
)
from services.batch.domain.pace import Mark
from services.batch.domain.rows import Tensor
from services.batch.ports import Answer, Change, FencedError, JobQuery, Lease, Leftover, NewJob, StoredChunk
from services.common.clock import Clock
from services.common.errors import MeshError, Reason
from services.common.schema import DataType, ModelSchema, PredictionMapping, TensorSpec
from tests.support.batch_chunk_fakes import MemoryChunks, Row

SUMS = Version(
    model="sums",
    version="v1.0.0",
    artifact_digest="0" * 64,
    schema=ModelSchema(
        inputs=(TensorSpec("a", DataType.FP64), TensorSpec("b", DataType.INT64, maximum=1000)),
        outputs=(TensorSpec("total", DataType.FP64), TensorSpec("shares", DataType.FP64, (2,))),
    ),
    mapping=PredictionMapping("total", "shares", ("small", "large")),
)
"""A model of two numbers: their sum, and how large it is. It refuses rows whose `b` is 666."""


def spec_of(source: str, target: str, **changes: object) -> JobSpec:
    """A job over two files, named by their endings."""
    spec = JobSpec(
        job_name="a job",
        version=SUMS,
        input=Input(source, source, Format(source.rsplit(".", 1)[1])),
        output=Output(target, target, Format(target.rsplit(".", 1)[1])),
        batch_size=3,
        max_parallelism=4,
        timeout_minutes=60,
    )
    return replace(spec, **changes)  # type: ignore[arg-type]  # the fields of a JobSpec


def sums(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What the model answers. Raises MODEL_FAILED where a row is one that it refuses."""
    a, b = tensors["a"].astype(np.float64), tensors["b"].astype(np.float64)
    if np.any(b == 666):
        raise MeshError(Reason.MODEL_FAILED, "the model does not like 666")
    total = a + b
    large = 1 / (1 + np.exp(-np.clip(total, -50, 50)))
    return {"total": total, "shares": np.stack([1 - large, large], axis=1)}


class SumsModel:
    """A `Model`. `trouble` is raised by as many calls as it holds errors, the first one first. More rows than
    `explained_max` are not explained in time."""

    def __init__(self) -> None:
        self.trouble: list[MeshError] = []
        self.explained_max = 1_000_000
        self.calls: list[int] = []
        self.inside = 0
        self.most_inside = 0

    async def infer(
        self, version: Version, tensors: Mapping[str, Tensor], outputs: Sequence[str], parameters: Mapping[str, str]
    ) -> Answer:
        """Sums."""
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        try:
            await asyncio.sleep(0)
            self.calls.append(len(tensors["a"]))
            if self.trouble:
                raise self.trouble.pop(0)
            answer = sums(tensors)
            return Answer({name: answer[name] for name in outputs}, 1.0)
        finally:
            self.inside -= 1

    async def explain(self, version: Version, tensors: Mapping[str, Tensor], parameters: Mapping[str, str]) -> Answer:
        """Sums, whose parts are their explanation. Raises EXPLANATION_UNAVAILABLE where a row's `b` is 667."""
        answer = await self.infer(version, tensors, ("total", "shares"), parameters)
        if np.any(tensors["b"] == 667):
            raise MeshError(Reason.EXPLANATION_UNAVAILABLE, "explain: it answers with NaN")
        if len(tensors["a"]) > self.explained_max:
            raise MeshError(Reason.DEADLINE_TOO_SHORT, "explain: the deadline passed")
        parts = zip(tensors["a"].tolist(), tensors["b"].tolist(), strict=True)
        return replace(answer, explanations=[Explanation({"b": float(b), "a": a}, 0.0) for a, b in parts])


class Catalogue:
    """A `Catalogue` of what it was given, the newest last."""

    def __init__(self, *versions: Version) -> None:
        self.versions = list(versions)

    async def version(self, model: str, version: str) -> Version:
        """The version asked for, else the last."""
        known = [item for item in self.versions if item.model == model]
        if not known:
            raise MeshError(Reason.MODEL_NOT_FOUND, f"there is no model {model!r}")
        found = [item for item in known if version in ("", item.version)]
        if not found:
            raise MeshError(Reason.VERSION_NOT_FOUND, f"model {model!r} has no version {version!r}")
        return found[-1]


class CountingBoard:
    """A `Board` that can be read."""

    def __init__(self) -> None:
        self.running = 0
        self.ended: list[str] = []
        self.predicted = 0
        self.failed = 0
        self.retries: list[str] = []
        self.tellings: list[tuple[str, str]] = []
        self.letters = 0
        self.schedule_runs: list[str] = []
        self.leased: Counter[str] = Counter()

    def jobs_running(self, count: int) -> None:
        """So many."""
        self.running = count

    def job_ended(self, status: str) -> None:
        """Another."""
        self.ended.append(status)

    def leases(self, outcome: str, count: int) -> None:
        """So many."""
        self.leased[outcome] += count

    def rows(self, model: str, version: str, *, predicted: int, failed: int) -> None:
        """Adds them."""
        self.predicted += predicted
        self.failed += failed

    def retried(self, reason: str, count: int = 1) -> None:
        """Others."""
        self.retries += [reason] * count

    def told(self, means: str, outcome: str) -> None:
        """Another."""
        self.tellings.append((means, outcome))

    def schedule_ran(self, outcome: str) -> None:
        """Another."""
        self.schedule_runs.append(outcome)

    def letters_waiting(self, count: int) -> None:
        """So many."""
        self.letters = count


class MemoryBatchStore(MemoryChunks):
    """A `JobStore` and a `WorkStore`. With `away` set nothing answers."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self._made = 0

    async def create(self, job: NewJob) -> Job:
        """Stores it."""
        made = await self.repeated(job.request_id, job.wish_digest, team=job.team) if job.request_id else None
        if made is not None:
            return made
        self._check_output_free(job.spec, "", named=True)
        self._made += 1
        now = self._clock.now()
        stored = Job(
            job_id=job.job_id,
            spec=job.spec,
            status=Status.PENDING,
            created_at=now,
            updated_at=now,
            created_by=job.created_by,
            team=job.team,
            sequence=self._made,
            schedule_id=job.schedule_id,
        )
        self._rows[job.job_id] = Row(stored, job.request_id, job.wish_digest)
        return stored

    async def repeated(self, request_id: str, wish_digest: str, *, team: str) -> Job | None:
        """By request."""
        self._reach()
        row = next(
            (row for row in self._rows.values() if request_id and (row.request_id, row.job.team) == (request_id, team)),
            None,
        )
        if row is None:
            return None
        if row.wish_digest != wish_digest:
            raise request_id_reused(request_id, row.job.job_id)
        return row.job

    async def get(self, job_id: str) -> Job:
        """By id."""
        return self._row(job_id).job

    async def query(self, query: JobQuery) -> Sequence[Job]:
        """Newest first."""
        self._reach()
        found = [
            row.job
            for row in self._rows.values()
            if (not query.model or row.job.spec.version.model == query.model)
            and (not query.status or row.job.status == query.status)
            and (query.labels or {}).items() <= row.job.spec.labels.items()
            and (not query.schedule_id or row.job.schedule_id == query.schedule_id)
            and (not query.before or row.job.sequence < query.before)
            and row.job.seen_by(query.sight)
        ]
        return sorted(found, key=lambda job: -job.sequence)[: query.limit]

    async def change(self, job_id: str, change: Callable[[Job], Change | None]) -> Job:
        """Applies it."""
        row = self._row(job_id)
        wanted = change(row.job)
        if wanted is None:
            return row.job
        now, job = self._clock.now(), row.job
        if wanted.status is not None:
            if not wanted.status.ended:
                self._check_output_free(job.spec, job_id, named=False)
            job = replace(job, status=wanted.status)
        if wanted.paused is not None:
            job = replace(job, paused=wanted.paused)
        if wanted.spec is not None:
            job = replace(job, spec=wanted.spec)
        if wanted.ended:
            job = replace(job, completed_at=now)
        if wanted.begin_again:
            job = replace(
                job, completed_at=None, attempt=job.attempt + 1, error_reason="", error_message="", running_s=0.0
            )
            job = replace(job, spent=Spent())
            job = replace(job, pace=())
            row.cleaned, row.digest = False, ""
        if wanted.forget_progress:
            job = replace(job, total_rows=0, processed_rows=0, failed_rows=0, total_chunks=0, completed_chunks=0)
            job = replace(job, pace=())
            row.forget()
        if wanted.fence:
            row.token, row.owner, row.until = row.token + 1, "", None
        before, row.job = row.job, replace(job, revision=job.revision + 1, updated_at=now)
        self.outbox.tell(before, row.job)
        return row.job

    async def delete(self, job_id: str, check: Callable[[Job], None]) -> None:
        """Forgets it."""
        check(self._row(job_id).job)
        del self._rows[job_id]

    async def failed_rows(self, job_id: str, *, after: int, limit: int) -> Sequence[FailedRow]:
        """By number."""
        self._reach()
        row = self._rows.get(job_id)
        if row is None:
            return []
        return [failed for number, (_, failed) in sorted(row.failed.items()) if number > after][:limit]

    async def chunks(self, job_id: str, *, after: int, limit: int) -> Sequence[StoredChunk]:
        """By index."""
        row = self._row(job_id)
        chunks = row.plan.chunks if row.plan is not None else ()
        return [row.done.get(chunk.index, StoredChunk(chunk, None)) for chunk in chunks if chunk.index > after][:limit]

    async def claim(
        self, owner: str, *, lease_s: float, limit: int, concurrency: Mapping[str, int] | None = None
    ) -> Sequence[Lease]:
        """Leases."""
        self._reach()
        now = self._clock.now()
        leases: list[Lease] = []
        free = [row for row in self._rows.values() if row.until is None or row.until < now]
        waiting = [row for row in free if not row.job.status.ended and not row.job.paused]
        taken: dict[str, int] = {}
        for row in self._rows.values():
            if row.job.status is Status.RUNNING and row not in free:
                taken[row.job.team] = taken.get(row.job.team, 0) + 1
        turns: dict[str, int] = {}
        for row in sorted(waiting, key=lambda row: (row.job.status is not Status.RUNNING, row.job.sequence)):
            taken[row.job.team] = taken.get(row.job.team, 0) + 1
            if taken[row.job.team] <= (concurrency or {}).get(row.job.team, len(self._rows)):
                turns[row.job.job_id] = taken[row.job.team]
        first = [row for row in waiting if row.job.job_id in turns]
        for row in sorted(first, key=lambda row: (turns[row.job.job_id], row.job.sequence)):
            if len(leases) < limit:
                row.token, row.owner = row.token + 1, owner
                row.silent_since = None
                row.until, row.counted_at = now + timedelta(seconds=lease_s), now
                before = row.job
                row.job = replace(before, status=Status.RUNNING, started_at=before.started_at or now, updated_at=now)
                self.outbox.tell(before, row.job)
                leases.append(Lease(row.job.job_id, owner, row.token))
        return leases

    async def renew(self, lease: Lease, *, lease_s: float) -> Job:
        """Prolongs."""
        row = self._held(lease)
        row.until = self._clock.now() + timedelta(seconds=lease_s)
        return self._counted(row)

    async def release(self, lease: Lease) -> None:
        """Gives back."""
        row = self._held(lease)
        row.owner, row.until = "", None
        self._counted(row)
        row.job = replace(row.job, status=Status.PENDING)

    async def plan(self, lease: Lease) -> Plan | None:
        """What was planned."""
        return self._held(lease).plan

    async def set_plan(self, lease: Lease, plan: Plan) -> None:
        """Plans."""
        row = self._held(lease)
        row.plan = plan
        self._counted(row)
        mark = Mark(row.job.running_s, row.job.processed_rows)
        row.job = replace(row.job, total_rows=plan.total_rows, total_chunks=len(plan.chunks), pace=(mark,))

    async def parts(self, lease: Lease) -> Mapping[int, Part]:
        """What is done."""
        return {index: done.part for index, done in self._held(lease).done.items() if done.part is not None}

    async def reopen_chunk(self, lease: Lease, index: int) -> None:
        """Takes it back."""
        row = self._held(lease)
        done = row.done.pop(index, None)
        if done is not None:
            row.holds.pop(index, None)
            row.failed = {number: item for number, item in row.failed.items() if item[0] != index}
            self._progress(row, done.chunk, done.failed_rows, -1)
            self._marked(row, -1)

    async def intend(self, lease: Lease, digest: str) -> None:
        """Keeps it."""
        self._held(lease).digest = digest

    async def intended(self, lease: Lease) -> str:
        """What was kept."""
        return self._held(lease).digest

    async def finish(self, lease: Lease, publish: Callable[[], None]) -> None:
        """Publishes."""
        self._held(lease)
        publish()
        self._finish(self._held(lease), Status.COMPLETED, "", "")

    async def fail(self, lease: Lease, *, reason: str, message: str) -> None:
        """Fails it."""
        self._finish(self._held(lease), Status.FAILED, reason, message)

    async def leftovers(self, *, settle_s: float, limit: int) -> Sequence[Leftover]:
        """What is not clean."""
        self._reach()
        latest = self._clock.now() - timedelta(seconds=settle_s)
        return [
            Leftover(row.job.job_id, row.job.status, row.job.spec.output, row.digest)
            for row in self._rows.values()
            if self._unclean(row) and row.job.completed_at is not None and row.job.completed_at <= latest
        ][:limit]

    async def clean(self, job_id: str, discard: Callable[[], None]) -> None:
        """Cleans."""
        self._reach()
        row = self._rows.get(job_id)
        if row is not None and self._unclean(row):
            discard()
            row.cleaned = True

    async def failed_after(self, job_id: str, row_number: int, limit: int) -> Sequence[FailedRow]:
        """By number."""
        return await self.failed_rows(job_id, after=row_number, limit=limit)

    @staticmethod
    def _unclean(row: Row) -> bool:
        return not row.cleaned and row.job.status in (Status.COMPLETED, Status.CANCELLED)

    def _check_output_free(self, spec: JobSpec, own: str, *, named: bool) -> None:
        for row in self._rows.values():
            same = row.job.spec.output.path == spec.output.path and row.job.job_id != own
            if same and not row.job.status.ended:
                raise output_taken(spec.output.uri if named else "")

    def _held(self, lease: Lease) -> Row:
        self._reach()
        row = self._rows.get(lease.job_id)
        if row is None or row.token != lease.token:
            raise FencedError(lease.job_id)
        return row

    def _row(self, job_id: str) -> Row:
        self._reach()
        if job_id not in self._rows:
            raise job_not_found(job_id)
        return self._rows[job_id]
