"""Calls about jobs: make, look, change, stop."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from services.batch.domain.chunks import CHUNK_BYTES_MAX, FailedRow
from services.batch.domain.column_types import check_types
from services.batch.domain.explanations import check_explainable
from services.batch.domain.head import HEAD_CHUNKS, HEAD_ROWS, check_head
from services.batch.domain.job import (
    Job,
    JobSpec,
    Status,
    check_changeable,
    check_not_ended,
    check_retryable,
    job_not_found,
    state_invalid,
)
from services.batch.domain.layout import Layout, check_schema, lay_out
from services.batch.domain.notices import NO_OFFICES, Offices
from services.batch.domain.results import ResultShape
from services.batch.domain.wish import Draft, Wish, check_request_id, draft
from services.batch.ports import Catalogue, Change, JobQuery, JobStore, NewJob, StoreAwayError, StoredChunk
from services.batch.ports_places import Source, Sources, Workspace
from services.common.access.book import EVERYTHING, Sight
from services.common.clock import Clock
from services.common.errors import MeshError, Reason, invalid
from services.common.page import check_page_size, decode_page_token, encode_page_token

_LOOK_PERIOD_S = 0.5
"""The contract's "at most twice a second"."""


@dataclass(frozen=True, slots=True)
class JobPage:
    """Some jobs, and where to go on."""

    jobs: Sequence[Job]
    next_page_token: str


class Jobs:
    """Records wishes; what runs them looks into the same store."""

    def __init__(
        self,
        *,
        store: JobStore,
        catalogue: Catalogue,
        sources: Sources,
        workspace: Workspace,
        clock: Clock,
        wake: Callable[[], None],
        offices: Offices = NO_OFFICES,
        clusters: Collection[str] = (),
        ended: Callable[[str], None] = lambda _status: None,
    ) -> None:
        """`ended` hears of jobs that end here, which is by being cancelled."""
        self._store = store
        self._catalogue = catalogue
        self._sources = sources
        self._workspace = workspace
        self._clock = clock
        self.wake = wake
        """Has whoever runs jobs look at once."""
        self.offices = offices
        """By which means people can be told."""
        self._clusters = clusters
        self._ended = ended

    async def create(self, wish: Wish, *, request_id: str, wish_digest: str, created_by: str, team: str) -> Job:
        """Makes a job, or returns the one that the same call made before."""
        check_request_id(request_id)
        # Before any check: the output of the first call may be there by now, and its version no longer the newest.
        if request_id:
            made = await self._store.repeated(request_id, wish_digest, team=team)
            if made is not None:
                return made
        spec = await self.check(wish)
        job = await self._store.create(NewJob(self.new_id(), spec, created_by, team, request_id, wish_digest))
        self.wake()
        return job

    async def check(self, wish: Wish) -> JobSpec:
        """What the job would be, after every check that can be made without reading the whole input."""
        spec = await self.pin(self.draft(wish))
        await asyncio.to_thread(self._check_files, spec)
        return spec

    def draft(self, wish: Wish) -> Draft:
        """The wish, checked without looking at anything outside."""
        return draft(wish, offices=self.offices, clusters=self._clusters)

    async def pin(self, asked: Draft) -> JobSpec:
        """The wish with its version, which is one that batch jobs can use."""
        version = await self._catalogue.version(asked.model, asked.version)
        check_schema(version.schema)
        ResultShape(version)
        if asked.output.explain:
            check_explainable(version)
        return asked.pinned(version)

    async def get(self, job_id: str, sight: Sight = EVERYTHING) -> Job:
        """One job. What the caller does not see is not found, here and in every call below."""
        return _seen(await self._store.get(job_id), sight)

    async def page(
        self,
        *,
        model: str,
        status: str,
        labels: Sequence[str],
        page_size: int,
        page_token: str,
        schedule_id: str = "",
        sight: Sight = EVERYTHING,
    ) -> JobPage:
        """Jobs, newest first."""
        if status and status not in tuple(Status):
            raise invalid("status", status, "one of " + ", ".join(Status))
        size = check_page_size(page_size)
        query = f"jobs {model!r} {status!r} {sorted(labels)!r} {schedule_id!r}"
        position = decode_page_token(page_token, query=query)
        before = _number(position, page_token)
        found = await self._store.query(
            JobQuery(
                model=model,
                status=status,
                labels=_labels(labels),
                schedule_id=schedule_id,
                before=before,
                limit=size + 1,
                sight=sight,
            )
        )
        jobs = found[:size]
        more = len(found) > size
        return JobPage(jobs, encode_page_token(str(jobs[-1].sequence), query=query) if more else "")

    async def watch(self, job_id: str, sight: Callable[[], Sight] = lambda: EVERYTHING) -> AsyncIterator[Job]:
        """The job as it is, then whenever it changes, until it has ended. A store that is away is waited for."""
        shown = await self.get(job_id, sight())
        yield shown
        while not shown.status.ended:
            await self._clock.sleep(_LOOK_PERIOD_S)
            try:
                job = await self.get(job_id, sight())
            except StoreAwayError:
                continue
            if job != shown:
                yield job
            shown = job

    async def update(
        self, job_id: str, etag: str, change: Callable[[JobSpec], JobSpec], sight: Sight = EVERYTHING
    ) -> Job:
        """Changes what is asked of a job that has not ended, or that may be retried."""

        def decide(job: Job) -> Change | None:
            check_changeable(job)
            if etag and etag != job.etag:
                raise MeshError(
                    Reason.ETAG_MISMATCH,
                    f"job {job_id} is at etag {job.etag!r}, not {etag!r}; read it again and repeat the change",
                )
            spec = change(job.spec)
            return None if spec == job.spec else Change(spec=spec)

        return await self._store.change(job_id, _of_seen(decide, sight))

    async def cancel(self, job_id: str, sight: Sight = EVERYTHING) -> Job:
        """Stops a job for good. Of a cancelled job it returns the same."""

        ends = False

        def decide(job: Job) -> Change | None:
            nonlocal ends
            ends = job.status is not Status.CANCELLED
            if not ends:
                return None
            check_not_ended(job, "cancelled")
            return Change(status=Status.CANCELLED, paused=False, fence=True, ended=True)

        cancelled = await self._store.change(job_id, _of_seen(decide, sight))
        if ends:
            self._ended(Status.CANCELLED)
        self.wake()
        return cancelled

    async def pause(self, job_id: str, sight: Sight = EVERYTHING) -> Job:
        """Stops a job until it is resumed."""

        def decide(job: Job) -> Change | None:
            check_not_ended(job, "paused")
            return None if job.paused else Change(status=Status.PENDING, paused=True, fence=True)

        paused = await self._store.change(job_id, _of_seen(decide, sight))
        self.wake()
        return paused

    async def resume(self, job_id: str, sight: Sight = EVERYTHING) -> Job:
        """Lets a paused job go on."""

        def decide(job: Job) -> Change | None:
            check_not_ended(job, "resumed")
            return Change(paused=False) if job.paused else None

        resumed = await self._store.change(job_id, _of_seen(decide, sight))
        self.wake()
        return resumed

    async def retry(self, job_id: str, sight: Sight = EVERYTHING) -> Job:
        """Begins a failed or cancelled job again: from where it stopped, unless its input or its parts are no more."""

        def decide(job: Job) -> Change:
            check_retryable(job)
            forget = job.status is Status.CANCELLED or job.error_reason == Reason.INPUT_UNREADABLE
            return Change(status=Status.PENDING, fence=True, begin_again=True, forget_progress=forget)

        begun = await self._store.change(job_id, _of_seen(decide, sight))
        self.wake()
        return begun

    async def delete(self, job_id: str, sight: Sight = EVERYTHING) -> None:
        """Forgets a job that has ended. Its output stays."""

        def check(job: Job) -> None:
            if not job.status.ended:
                raise state_invalid(job, "deleted", "cancel it first")

        job = await self.get(job_id, sight)
        check(job)
        # First the files: without the row nobody would know of them. A retry in between finds its parts gone and makes
        # them again.
        await asyncio.to_thread(self._workspace.discard, job_id, job.spec.output)
        await self._store.delete(job_id, check)

    async def failed_rows(
        self, job_id: str, *, page_size: int, page_token: str, sight: Sight = EVERYTHING
    ) -> tuple[Sequence[FailedRow], str]:
        """Rows that failed, by number, and where to go on."""
        size = check_page_size(page_size)
        query = f"failed rows {job_id}"
        after = _number(decode_page_token(page_token, query=query), page_token, first=-1)
        await self.get(job_id, sight)
        rows = await self._store.failed_rows(job_id, after=after, limit=size + 1)
        more = len(rows) > size
        return rows[:size], encode_page_token(str(rows[size - 1].row_number), query=query) if more else ""

    async def chunks(
        self, job_id: str, *, page_size: int, page_token: str, sight: Sight = EVERYTHING
    ) -> tuple[Sequence[StoredChunk], str]:
        """Chunks in order, and where to go on."""
        size = check_page_size(page_size)
        query = f"chunks {job_id}"
        after = _number(decode_page_token(page_token, query=query), page_token, first=-1)
        await self.get(job_id, sight)
        chunks = await self._store.chunks(job_id, after=after, limit=size + 1)
        more = len(chunks) > size
        return chunks[:size], encode_page_token(str(chunks[size - 1].chunk.index), query=query) if more else ""

    def _check_files(self, spec: JobSpec) -> None:
        source = self._sources.open(spec.input)
        layout = lay_out(source.columns(), spec.version, spec.input, spec.output.columns)
        check_types(layout, source.types())
        # Columns with types have just been looked at; of features in other files all would be read for the first rows.
        if not (spec.all_may_fail or source.types() or spec.input.joins):
            _check_rows(source, layout, spec)
        self._workspace.check_output(spec.output, spec.input.path)

    def new_id(self) -> str:
        """Ids of later jobs are larger, so that they sort as they were made."""
        return f"batch_job_{int(self._clock.now().timestamp() * 1000):012x}{secrets.token_hex(4)}"


def _check_rows(source: Source, layout: Layout, spec: JobSpec) -> None:
    head = source.cut(HEAD_ROWS, bytes_max=CHUNK_BYTES_MAX, key_column=layout.key, chunks_max=HEAD_CHUNKS)
    blocks = source.read(head.chunks, layout.columns, head)
    check_head(blocks, layout, uri=spec.input.uri, whole=len(head.chunks) < HEAD_CHUNKS)


def _seen(job: Job, sight: Sight) -> Job:
    if not job.seen_by(sight):
        raise job_not_found(job.job_id)
    return job


def _of_seen(decide: Callable[[Job], Change | None], sight: Sight) -> Callable[[Job], Change | None]:
    """`decide`, of jobs that the caller sees."""
    return lambda job: decide(_seen(job, sight))


def _number(position: tuple[str, ...], token: str, *, first: int = 0) -> int:
    if not position:
        return first
    if len(position) != 1 or not position[0].isascii() or not position[0].isdigit():
        raise MeshError(Reason.INVALID_PAGE_TOKEN, f"page_token {token!r} is no token; leave it out to begin again")
    return int(position[0])


def _labels(wanted: Sequence[str]) -> Mapping[str, str]:
    pairs = {}
    for label in wanted:
        key, mark, value = label.partition("=")
        if not mark or not key:
            raise invalid("labels", label, "key=value")
        pairs[key] = value
    return pairs
