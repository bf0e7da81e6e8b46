"""One lease of one job, carried: it is planned, its chunks are done by workers, and their parts become the output.

Whatever of this is cut off at any moment is simply done again by whoever leases the job next, for nothing counts that
is not recorded; workers do not notice.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence

from services.batch.domain.chunks import CHUNK_BYTES_MAX, CHUNK_ROWS_MIN, FailedRow, Plan, chunk_rows
from services.batch.domain.job import Job, none_predicted, too_many_failed
from services.batch.domain.layout import Layout, lay_out
from services.batch.domain.results import ResultShape
from services.batch.engines.launch import Launch
from services.batch.engines.threads import in_thread
from services.batch.ports import Lease, WorkStore
from services.batch.ports_places import Source, Sources, Workspace
from services.common.errors import MeshError, Reason
from services.common.telemetry.logging import get_logger

log = get_logger(__name__)

_FAILED_PAGE = 1000
_PAGE_TIMEOUT_S = 30.0


class JobRun:
    """Carries one job on under one lease. `run` raises FencedError, or MeshError where the job must fail."""

    def __init__(
        self,
        *,
        lease: Lease,
        job: Job,
        store: WorkStore,
        sources: Sources,
        workspace: Workspace,
        offer: Callable[[], None],
        launch: Launch | None = None,
        chunk_rows_min: int = CHUNK_ROWS_MIN,
    ) -> None:
        """`offer` is called when there are chunks to do. `launch` sees to workers elsewhere; None: they are here."""
        self._lease = lease
        self._job = job
        self._spec = job.spec
        self._store = store
        self._sources = sources
        self._workspace = workspace
        self._offer = offer
        self._launch = launch
        self._chunk_rows_min = chunk_rows_min
        self._changed = asyncio.Event()

    def adjust(self, job: Job) -> None:
        """Takes what became of the job meanwhile."""
        before, self._job = self._job.spec, job
        self._changed.set()
        if self._launch is not None and job.spec != before:
            self._launch.wake()

    async def run(self) -> None:
        """Returns when the output is there and the job is completed."""
        if await self._published_before():
            return
        try:
            source = await in_thread(lambda: self._sources.open(self._spec.input))
            plan = await self._plan(source)
            layout = lay_out(plan.columns, self._spec.version, self._spec.input, self._spec.output.columns)
            if not await self._all_done(plan):
                await self._work(plan)
            self._check_failed(plan)
            await self._check_predicted(plan)
            await self._check_unchanged(source, plan)
        except OSError as error:
            raise MeshError(
                Reason.INPUT_UNREADABLE, f"input_uri {self._spec.input.uri!r} cannot be read: {error.strerror or error}"
            ) from error
        await self._publish(plan, layout)

    async def _published_before(self) -> bool:
        """Whether an earlier lease died between showing the output and saying so."""
        digest = await self._store.intended(self._lease)
        if not digest or await in_thread(lambda: self._workspace.digest(self._spec.output.path)) != digest:
            return False
        await self._store.finish(self._lease, _nothing)
        return True

    async def _plan(self, source: Source) -> Plan:
        plan = await self._store.plan(self._lease)
        if plan is not None:
            await self._check_unchanged(source, plan)
            return plan
        columns = await in_thread(source.columns)
        layout = lay_out(columns, self._spec.version, self._spec.input, self._spec.output.columns)
        rows = chunk_rows(self._spec.batch_size, least=self._chunk_rows_min, explain=self._spec.output.explain)
        plan = await in_thread(lambda: source.cut(rows, bytes_max=CHUNK_BYTES_MAX, key_column=layout.key))
        await self._store.set_plan(self._lease, plan)
        log.info("job planned", job_id=self._lease.job_id, rows=plan.total_rows, chunks=len(plan.chunks))
        return plan

    async def _check_unchanged(self, source: Source, plan: Plan) -> None:
        if await in_thread(source.fingerprint) != plan.fingerprint:
            raise MeshError(
                Reason.INPUT_UNREADABLE,
                f"input_uri {self._spec.input.uri!r} changed since the job began; retry the job to predict all of what "
                "it is now",
            )

    async def _work(self, plan: Plan) -> None:
        """Returns when workers have done all chunks. Raises what keeps the launch from going on."""
        if self._launch is None:
            return await self._until_done(plan)
        launch = asyncio.create_task(self._launch.keep(lambda: self._job, len(plan.chunks)))
        done = asyncio.create_task(self._until_done(plan))
        try:
            await asyncio.wait([launch, done], return_when=asyncio.FIRST_COMPLETED)
            await (done if done.done() else launch)
        finally:
            launch.cancel()
            done.cancel()
            await asyncio.gather(launch, done, return_exceptions=True)

    async def _until_done(self, plan: Plan) -> None:
        while True:
            self._offer()
            await self._progress(plan)
            if await self._all_done(plan):
                return

    async def _all_done(self, plan: Plan) -> bool:
        """Whether every chunk is; those whose part has gone are to be done again."""
        # What is said of the job from now on is later than what is looked at here.
        self._changed.clear()
        parts = await self._store.parts(self._lease)
        job_id = self._lease.job_id
        lost = await in_thread(
            lambda: {index for index, part in parts.items() if not self._workspace.has_part(job_id, part)}
        )
        for index in sorted(lost):
            log.warning("part is gone; its chunk is done again", job_id=job_id, chunk=index)
            await self._store.reopen_chunk(self._lease, index)
        return len(parts) - len(lost) == len(plan.chunks)

    async def _progress(self, plan: Plan) -> None:
        """Returns when all chunks are said to be done. Raises where too many rows have failed."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            self._check_failed(plan)
            if self._job.completed_chunks >= len(plan.chunks):
                return

    def _check_failed(self, plan: Plan) -> None:
        job = self._job
        if too_many_failed(job.failed_rows, plan.total_rows, job.spec.max_failed_fraction):
            raise MeshError(
                Reason.SCHEMA_VIOLATION,
                f"{job.failed_rows} of {plan.total_rows} rows failed, more than max_failed_fraction "
                f"{job.spec.max_failed_fraction:g} allows; see the failed rows, and make another job of a mended "
                "input, or raise it and retry the job, which goes on where it stopped",
            )

    async def _check_predicted(self, plan: Plan) -> None:
        """Raises where no row at all was predicted: what would be published is an empty file, and nobody would know."""
        job = self._job
        if job.spec.all_may_fail or not none_predicted(job.failed_rows, plan.total_rows):
            return
        (first, *_) = await self._store.failed_after(self._lease.job_id, -1, 1)
        raise MeshError(
            Reason.SCHEMA_VIOLATION,
            f"none of {plan.total_rows} rows was predicted; row {first.row_number}: {first.message}. See the failed "
            "rows, and make another job of an input that fits, or set max_failed_fraction to 1, which lets all fail, "
            "and retry the job",
        )

    async def _publish(self, plan: Plan, layout: Layout) -> None:
        parts = await self._store.parts(self._lease)
        ordered = [parts[chunk.index] for chunk in plan.chunks]
        failed = self._failed_rows(asyncio.get_running_loop())
        shape = ResultShape(self._spec.version, explain=self._spec.output.explain)
        columns = shape.columns(layout.key_name, layout.copied)
        stop = threading.Event()
        work = asyncio.ensure_future(
            in_thread(
                lambda: self._workspace.assemble(self._lease, self._spec.output, ordered, failed, columns, stop=stop)
            )
        )
        try:
            assembled = await asyncio.shield(work)
        except asyncio.CancelledError:
            stop.set()
            work.cancel()
            await asyncio.wait([work])
            raise
        await self._store.intend(self._lease, assembled.digest)
        await self._store.finish(self._lease, assembled.publish)

    def _failed_rows(self, loop: asyncio.AbstractEventLoop) -> Iterator[FailedRow]:
        """The failed rows in order, page by page, for a thread that writes them."""
        after = -1
        while True:
            page = asyncio.run_coroutine_threadsafe(self._failed_page(after), loop).result(_PAGE_TIMEOUT_S)
            if not page:
                return
            yield from page
            after = page[-1].row_number

    async def _failed_page(self, after: int) -> Sequence[FailedRow]:
        return await self._store.failed_after(self._lease.job_id, after, _FAILED_PAGE)


def _nothing() -> None:
    """The output is there already."""
