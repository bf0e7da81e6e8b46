"""One job at one worker: its chunks are read in order, predicted some at once, and written."""

import asyncio
from collections.abc import Iterator

from services.batch.domain.chunks import Chunk, ChunkResult, chunks_in_flight
from services.batch.domain.job import Spent
from services.batch.domain.layout import lay_out
from services.batch.domain.results import keys_of, with_copies
from services.batch.domain.rows import RowBlock
from services.batch.engines.predictor import Predictor
from services.batch.engines.step import Predicted, encoded, failures
from services.batch.engines.threads import in_thread
from services.batch.ports import ChunkLease, JobWork, Lease, Pace
from services.batch.ports_places import Sources, Workspace
from services.common.clock import Clock
from services.common.errors import MeshError, Reason


class Desk:
    """What a worker has open of a job."""

    def __init__(
        self, work: JobWork, *, sources: Sources, workspace: Workspace, predictor: Predictor, clock: Clock
    ) -> None:
        self.work = work
        self._sources = sources
        self._workspace = workspace
        self._predictor = predictor
        self.silence = predictor.silence
        self._clock = clock
        self._layout = lay_out(work.plan.columns, work.spec.version, work.spec.input, work.spec.output.columns)
        self._reading = asyncio.Lock()
        self._blocks: Iterator[RowBlock] = iter(())
        self._next = -1
        """The chunk that `_blocks` gives next."""
        self._pace = Pace(work.spec.batch_size, work.spec.max_parallelism)

    @property
    def room(self) -> int:
        """Chunks that are worth doing at once."""
        rows = max(chunk.row_count for chunk in self.work.plan.chunks)
        return chunks_in_flight(rows, self._pace.batch_size, self._pace.parallelism)

    def adjust(self, pace: Pace) -> None:
        """Takes how fast the job may be done from now on."""
        self._pace = pace
        self._predictor.adjust(batch_size=pace.batch_size, max_parallelism=pace.parallelism)
        self.silence.tell(pace.silent_s)

    async def done(self, lease: ChunkLease) -> ChunkResult:
        """Does a chunk; what is left is to record it. Raises MeshError where nothing of the job can be done."""
        plan, spec = self.work.plan, self.work.spec
        try:
            block, read_s = await self._read(lease.chunk)
            ready = await in_thread(lambda: encoded(block, self._layout, key_is_integer=plan.key_is_integer))
            outcome = await self._predictor.predict(ready.tensors, ready.good_rows(block.row_count))
        except OSError as error:
            raise MeshError(
                Reason.INPUT_UNREADABLE, f"input_uri {spec.input.uri!r} cannot be read: {error.strerror or error}"
            ) from error
        began_s = self._clock.monotonic()
        result = await in_thread(lambda: self._written(lease, Predicted(block, ready, outcome)))
        spent = Spent(read_s=read_s, write_s=self._clock.monotonic() - began_s)
        return ChunkResult(result.chunk, result.part, result.failed, outcome.spent + spent)

    async def close(self) -> None:
        """Lets go of the input."""
        async with self._reading:
            blocks, self._blocks, self._next = self._blocks, iter(()), -1
            del blocks

    async def _read(self, chunk: Chunk) -> tuple[RowBlock, float]:
        """Reads on where the chunk follows the last one, else from there. Locks are fair: first come, first read."""
        async with self._reading:
            began_s = self._clock.monotonic()
            following, self._next = self._next == chunk.index, -1
            block = await in_thread(lambda: self._block(chunk, opened=following))
            self._next = chunk.index + 1
            return block, self._clock.monotonic() - began_s

    def _block(self, chunk: Chunk, *, opened: bool) -> RowBlock:
        work = self.work
        if not opened:
            source = self._sources.open(work.spec.input)
            if source.fingerprint() != work.plan.fingerprint:
                raise MeshError(
                    Reason.INPUT_UNREADABLE,
                    f"input_uri {work.spec.input.uri!r} changed since the job began; retry the job to predict all of "
                    "what it is now",
                )
            self._blocks = source.read(work.plan.chunks[chunk.index :], self._layout.columns, work.plan)
        block = next(self._blocks, None)
        if block is None or block.first_row != chunk.first_row:
            raise MeshError(
                Reason.INPUT_UNREADABLE, f"input_uri {work.spec.input.uri!r} ends before row {chunk.first_row}"
            )
        return block

    def _written(self, lease: ChunkLease, predicted: Predicted) -> ChunkResult:
        chunk, plan = lease.chunk, self.work.plan
        keys = keys_of(predicted.block, self._layout, key_is_integer=plan.key_is_integer)
        outcome, output = predicted.outcome, self.work.spec.output
        table = outcome.table(self._predictor.shape, keys, self._layout.key_name)
        table = with_copies(table, predicted.block, self._layout, outcome.places, output.format)
        failed = failures(predicted, keys)
        assert table.num_rows + len(failed) == chunk.row_count, "every row is predicted or failed"
        named = Lease(lease.job_id, lease.owner, lease.token)
        part = self._workspace.write_part(named, chunk.index, table, output)
        return ChunkResult(chunk, part, failed, Spent())
