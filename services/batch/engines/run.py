"""One lease of one job: from wherever it stopped to its output.

A thread reads chunks in order and hands them over one at a time; a few chunks are predicted and written at once; each
is recorded when its part is safely written. Whatever of this is cut off at any moment is simply done again by whoever
leases the job next, for nothing counts that is not recorded.
"""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from services.batch.domain.chunks import (
    CHUNK_BYTES_MAX,
    CHUNK_ROWS_MIN,
    Chunk,
    ChunkResult,
    FailedRow,
    Plan,
    chunk_rows,
    chunks_in_flight,
)
from services.batch.domain.job import Job, Spent, too_many_failed
from services.batch.domain.layout import Layout, lay_out
from services.batch.domain.results import keys_of
from services.batch.domain.rows import RowBlock
from services.batch.engines.predictor import Predictor
from services.batch.engines.step import Predicted, encoded, failures
from services.batch.engines.threads import in_thread
from services.batch.ports import Board, Lease, Source, Sources, Workspace, WorkStore
from services.common.clock import Clock
from services.common.errors import MeshError, Reason
from services.common.telemetry.logging import get_logger

log = get_logger(__name__)

_FAILED_PAGE = 1000
_PAGE_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class _Read:
    chunk: Chunk
    block: RowBlock
    read_s: float


_Queue = asyncio.Queue[_Read | None]


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
        predictor: Predictor,
        board: Board,
        clock: Clock,
        chunk_rows_min: int = CHUNK_ROWS_MIN,
    ) -> None:
        self._lease = lease
        self._spec = job.spec
        self._store = store
        self._sources = sources
        self._workspace = workspace
        self._predictor = predictor
        self._board = board
        self._clock = clock
        self._chunk_rows_min = chunk_rows_min

    async def adjust(self, job: Job) -> None:
        """Takes changes of the job while it runs."""
        await self._predictor.adjust(batch_size=job.spec.batch_size, max_parallelism=job.spec.max_parallelism)

    async def run(self) -> None:
        """Returns when the output is there and the job is completed."""
        if await self._published_before():
            return
        try:
            source = await in_thread(lambda: self._sources.open(self._spec.input))
            plan = await self._plan(source)
            layout = lay_out(plan.columns, self._spec.version, self._spec.input)
            while pending := await self._pending(plan):
                await self._work(source, plan, layout, pending)
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
        layout = lay_out(columns, self._spec.version, self._spec.input)
        rows = chunk_rows(self._spec.batch_size, least=self._chunk_rows_min)
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

    async def _pending(self, plan: Plan) -> Sequence[Chunk]:
        """The chunks that are not done, those included whose part has gone."""
        parts = await self._store.parts(self._lease)
        job_id = self._lease.job_id
        lost = await in_thread(
            lambda: {index for index, part in parts.items() if not self._workspace.has_part(job_id, part)}
        )
        for index in sorted(lost):
            log.warning("part is gone; its chunk is done again", job_id=job_id, chunk=index)
            await self._store.reopen_chunk(self._lease, index)
        return [chunk for chunk in plan.chunks if chunk.index not in parts or chunk.index in lost]

    async def _work(self, source: Source, plan: Plan, layout: Layout, pending: Sequence[Chunk]) -> None:
        """Reads, predicts and writes the chunks. The queue holds one, so reading waits for predicting."""
        queue: _Queue = asyncio.Queue(maxsize=1)
        most = chunks_in_flight(self._spec.batch_size, self._spec.max_parallelism, least=self._chunk_rows_min)
        workers = min(len(pending), most)
        blocks = source.read(pending, layout.columns, plan)
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(workers):
                    group.create_task(self._worker(queue, plan, layout), name=f"batch:chunks:{number}")
                group.create_task(self._reader(queue, blocks, pending, workers), name="batch:reader")
        except BaseExceptionGroup as errors:
            raise _cause(errors) from errors

    async def _reader(self, queue: _Queue, blocks: Iterator[RowBlock], chunks: Sequence[Chunk], workers: int) -> None:
        for chunk in chunks:
            began_s = self._clock.monotonic()
            block = await in_thread(lambda: next(blocks, None))
            if block is None or block.first_row != chunk.first_row:
                raise MeshError(
                    Reason.INPUT_UNREADABLE, f"input_uri {self._spec.input.uri!r} ends before row {chunk.first_row}"
                )
            await queue.put(_Read(chunk, block, self._clock.monotonic() - began_s))
        for _ in range(workers):
            await queue.put(None)

    async def _worker(self, queue: _Queue, plan: Plan, layout: Layout) -> None:
        while (read := await queue.get()) is not None:
            result = await self._chunk(read, plan, layout)
            job = await self._store.complete_chunk(self._lease, result)
            version = self._spec.version
            self._board.rows(version.model, version.version, predicted=result.part.row_count, failed=len(result.failed))
            if too_many_failed(job.failed_rows, job.total_rows, job.spec.max_failed_fraction):
                raise MeshError(
                    Reason.SCHEMA_VIOLATION,
                    f"{job.failed_rows} of {job.total_rows} rows failed, more than max_failed_fraction "
                    f"{job.spec.max_failed_fraction:g} allows; see the failed rows, and raise it or mend the input",
                )

    async def _chunk(self, read: _Read, plan: Plan, layout: Layout) -> ChunkResult:
        ready = await in_thread(lambda: encoded(read.block, layout, key_is_integer=plan.key_is_integer))
        outcome = await self._predictor.predict(ready.tensors, ready.good_rows(read.block.row_count))
        began_s = self._clock.monotonic()
        result = await in_thread(lambda: self._written(read.chunk, Predicted(read.block, ready, outcome), layout, plan))
        spent = Spent(read_s=read.read_s, write_s=self._clock.monotonic() - began_s)
        return ChunkResult(result.chunk, result.part, result.failed, outcome.spent + spent)

    def _written(self, chunk: Chunk, predicted: Predicted, layout: Layout, plan: Plan) -> ChunkResult:
        keys = keys_of(predicted.block, layout, key_is_integer=plan.key_is_integer)
        table = predicted.outcome.table(self._predictor.shape, keys, layout.key_name)
        failed = failures(predicted, keys)
        assert table.num_rows + len(failed) == chunk.row_count, "every row is predicted or failed"
        part = self._workspace.write_part(self._lease, chunk.index, table, self._spec.output)
        return ChunkResult(chunk, part, failed, Spent())

    async def _publish(self, plan: Plan, layout: Layout) -> None:
        parts = await self._store.parts(self._lease)
        ordered = [parts[chunk.index] for chunk in plan.chunks]
        failed = self._failed_rows(asyncio.get_running_loop())
        columns = self._predictor.shape.columns(layout.key_name)
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


def _cause(errors: BaseException) -> BaseException:
    """The first single error in a group of groups."""
    while isinstance(errors, BaseExceptionGroup):
        errors = errors.exceptions[0]
    return errors
