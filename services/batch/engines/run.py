"""One lease of one job: from wherever it stopped to its output.

A thread reads chunks in order and hands them over one at a time; a few chunks are predicted and written at once; each is
recorded when its part is safely written. Whatever of this is cut off at any moment is simply done again by whoever leases
the job next, for nothing counts that is not recorded.
"""

import asyncio
from collections.abc import Iterator, Sequence

from services.batch.domain.chunks import (
    CHUNK_BYTES_MAX,
    Chunk,
    ChunkResult,
    FailedRow,
    Part,
    Plan,
    chunk_rows,
    chunks_in_flight,
)
from services.batch.domain.job import Job, Spent, too_many_failed
from services.batch.domain.layout import Layout, lay_out
from services.batch.domain.results import keys_of, misfit_keys
from services.batch.domain.rows import Encoded, RowBlock, encode
from services.batch.engines.predictor import Outcome, Predictor
from services.batch.ports import Board, Lease, Source, Sources, WorkStore, Workspace
from services.common.clock import Clock
from services.common.errors import MeshError, Reason
from services.common.telemetry.logging import get_logger

log = get_logger(__name__)

_FAILED_PAGE = 1000
_PAGE_TIMEOUT_S = 30.0
_KEY_SHOWN_MAX = 256
_MESSAGE_MAX = 1024


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
    ) -> None:
        self._lease = lease
        self._spec = job.spec
        self._store = store
        self._sources = sources
        self._workspace = workspace
        self._predictor = predictor
        self._board = board
        self._clock = clock

    async def adjust(self, job: Job) -> None:
        """Takes changes of the job while it runs."""
        await self._predictor.adjust(batch_size=job.spec.batch_size, max_parallelism=job.spec.max_parallelism)

    async def run(self) -> None:
        """Returns when the output is there and the job is completed."""
        if await self._published_before():
            return
        source = await asyncio.to_thread(self._sources.open, self._spec.input)
        plan = await self._plan(source)
        layout = lay_out(plan.columns, self._spec.version.schema, self._spec.input)
        while pending := await self._pending(plan):
            await self._work(source, plan, layout, pending)
        await self._publish(plan, layout)

    async def _published_before(self) -> bool:
        """Whether an earlier lease died between showing the output and saying so."""
        digest = await self._store.intended(self._lease)
        if not digest or await asyncio.to_thread(self._workspace.digest, self._spec.output.path) != digest:
            return False
        await self._store.finish(self._lease, lambda: None)
        return True

    async def _plan(self, source: Source) -> Plan:
        plan = await self._store.plan(self._lease)
        if plan is not None:
            if await asyncio.to_thread(source.fingerprint) != plan.fingerprint:
                raise MeshError(
                    Reason.INPUT_UNREADABLE,
                    f"input_uri {self._spec.input.uri!r} changed since the job began; make another job for what it "
                    "is now",
                )
            return plan
        columns = await asyncio.to_thread(source.columns)
        layout = lay_out(columns, self._spec.version.schema, self._spec.input)
        plan = await asyncio.to_thread(
            source.cut, chunk_rows(self._spec.batch_size), bytes_max=CHUNK_BYTES_MAX, key_column=layout.key
        )
        await self._store.set_plan(self._lease, plan)
        log.info("job planned", job_id=self._lease.job_id, rows=plan.total_rows, chunks=len(plan.chunks))
        return plan

    async def _pending(self, plan: Plan) -> Sequence[Chunk]:
        """The chunks that are not done, those included whose part has gone."""
        parts = await self._store.parts(self._lease)
        lost = await asyncio.to_thread(
            lambda: [
                index for index, part in parts.items() if not self._workspace.has_part(self._lease.job_id, part)
            ]
        )
        for index in lost:
            log.warning("part is gone; its chunk is done again", job_id=self._lease.job_id, chunk=index)
            await self._store.reopen_chunk(self._lease, index)
        return [chunk for chunk in plan.chunks if chunk.index not in parts or chunk.index in lost]

    async def _work(self, source: Source, plan: Plan, layout: Layout, pending: Sequence[Chunk]) -> None:
        """Reads, predicts and writes the chunks. The queue holds one, so reading waits for predicting."""
        queue: asyncio.Queue[tuple[Chunk, RowBlock, float] | None] = asyncio.Queue(maxsize=1)
        workers = min(len(pending), chunks_in_flight(self._spec.batch_size, self._spec.max_parallelism))
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(workers):
                    group.create_task(self._worker(queue, plan, layout), name=f"batch:chunks:{number}")
                group.create_task(
                    self._reader(queue, source.read(pending, layout.columns, plan), pending, workers),
                    name="batch:reader",
                )
        except BaseExceptionGroup as errors:
            raise _cause(errors) from errors

    async def _reader(
        self,
        queue: "asyncio.Queue[tuple[Chunk, RowBlock, float] | None]",
        blocks: Iterator[RowBlock],
        chunks: Sequence[Chunk],
        workers: int,
    ) -> None:
        for chunk in chunks:
            began_s = self._clock.monotonic()
            block = await asyncio.to_thread(next, blocks, None)
            if block is None or block.first_row != chunk.first_row:
                raise MeshError(
                    Reason.INPUT_UNREADABLE, f"input_uri {self._spec.input.uri!r} ends before row {chunk.first_row}"
                )
            await queue.put((chunk, block, self._clock.monotonic() - began_s))
        for _ in range(workers):
            await queue.put(None)

    async def _worker(
        self, queue: "asyncio.Queue[tuple[Chunk, RowBlock, float] | None]", plan: Plan, layout: Layout
    ) -> None:
        while (item := await queue.get()) is not None:
            chunk, block, read_s = item
            result = await self._chunk(chunk, block, read_s, plan, layout)
            job = await self._store.complete_chunk(self._lease, result)
            version = self._spec.version
            self._board.rows(
                version.model, version.version, predicted=result.part.row_count, failed=len(result.failed)
            )
            if too_many_failed(job.failed_rows, job.total_rows, job.spec.max_failed_fraction):
                raise MeshError(
                    Reason.SCHEMA_VIOLATION,
                    f"{job.failed_rows} of {job.total_rows} rows failed, more than max_failed_fraction "
                    f"{job.spec.max_failed_fraction:g} allows; see the failed rows, and raise it or mend the input",
                )

    async def _chunk(self, chunk: Chunk, block: RowBlock, read_s: float, plan: Plan, layout: Layout) -> ChunkResult:
        encoded = await asyncio.to_thread(_encode, block, layout, plan)
        outcome = await self._predictor.predict(encoded.tensors, encoded.good_rows(block.row_count))
        began_s = self._clock.monotonic()
        part, failed = await asyncio.to_thread(self._write, chunk, block, encoded, outcome, layout, plan)
        write_s = self._clock.monotonic() - began_s
        return ChunkResult(chunk, part, failed, outcome.spent + Spent(read_s=read_s, write_s=write_s))

    def _write(
        self, chunk: Chunk, block: RowBlock, encoded: Encoded, outcome: Outcome, layout: Layout, plan: Plan
    ) -> tuple[Part, Sequence[FailedRow]]:
        keys = keys_of(block, layout, key_is_integer=plan.key_is_integer)
        table = outcome.table(self._predictor.shape, keys, layout.key_name)
        reasons = dict(encoded.bad)
        reasons |= {place: (error.reason, error.message) for place, error in outcome.failed.items()}
        assert table.num_rows + len(reasons) == chunk.row_count, "every row is predicted or failed"
        failed = [
            FailedRow(
                chunk.first_row + place,
                _shown_key(keys[place].as_py()),
                reason,
                message[:_MESSAGE_MAX],
            )
            for place, (reason, message) in sorted(reasons.items())
        ]
        return self._workspace.write_part(self._lease, chunk.index, table, self._spec.output), failed

    async def _publish(self, plan: Plan, layout: Layout) -> None:
        parts = await self._store.parts(self._lease)
        ordered = [parts[chunk.index] for chunk in plan.chunks]
        failed = self._failed_rows(asyncio.get_running_loop())
        columns = self._predictor.shape.columns(layout.key_name)
        assembled = await asyncio.to_thread(
            self._workspace.assemble, self._lease, self._spec.output, ordered, failed, columns
        )
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


def _encode(block: RowBlock, layout: Layout, plan: Plan) -> Encoded:
    encoded = encode(block, layout)
    for place in misfit_keys(block, layout, key_is_integer=plan.key_is_integer):
        message = f"column {layout.key!r} is no whole number, as the first row's is, so the row has no key"
        encoded.bad.setdefault(place, (Reason.SCHEMA_VIOLATION, message))
    return encoded


def _shown_key(key: object) -> str:
    return "" if key is None else str(key)[:_KEY_SHOWN_MAX]


def _cause(errors: BaseException) -> BaseException:
    """The first single error in a group of groups."""
    while isinstance(errors, BaseExceptionGroup):
        errors = errors.exceptions[0]
    return errors
