"""Predicts the first rows of an input now, without a job."""

import asyncio
import random
from dataclasses import dataclass

import pyarrow as pa

from services.batch.domain.chunks import CHUNK_BYTES_MAX, FailedRow
from services.batch.domain.column_types import check_types
from services.batch.domain.explanations import ROWS_MAX as EXPLAINED_MAX
from services.batch.domain.job import JobSpec
from services.batch.domain.layout import Layout, lay_out
from services.batch.domain.results import keys_of, with_copies
from services.batch.domain.rows import RowBlock
from services.batch.engines.predictor import Predictor
from services.batch.engines.step import Predicted, encoded, failures
from services.batch.ports import Board, Model
from services.batch.ports_places import Sources
from services.common.clock import Clock
from services.common.errors import invalid

ROWS_DEFAULT, ROWS_MAX = 100, 1000
_EXPLAINED_DEFAULT = 10
"""Of rows that are explained, each of which takes thousands of the model."""
_OUTAGE_TIMEOUT_S = 2.0
"""A caller waits for a sample: what does not answer is said, not waited for."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The first rows of what the output would be."""

    table: pa.Table
    failed: tuple[FailedRow, ...]


class Sampler:
    """Tries inputs."""

    def __init__(self, *, model: Model, sources: Sources, board: Board, clock: Clock, rng: random.Random) -> None:
        self._model = model
        self._sources = sources
        self._board = board
        self._clock = clock
        self._rng = rng

    async def sample(self, spec: JobSpec, row_count: int) -> Sample:
        """Predicts at most `row_count` rows, fewer where they are very large."""
        usual, most = (_EXPLAINED_DEFAULT, EXPLAINED_MAX) if spec.output.explain else (ROWS_DEFAULT, ROWS_MAX)
        if not 0 <= row_count <= most:
            raise invalid("row_count", row_count, f"1 to {most}; 0 means {usual}")
        block, layout, key_is_integer = await asyncio.to_thread(self._read, spec, row_count or usual)
        ready = await asyncio.to_thread(encoded, block, layout, key_is_integer=key_is_integer)
        predictor = Predictor(
            model=self._model,
            board=self._board,
            clock=self._clock,
            rng=self._rng,
            outage_timeout_s=_OUTAGE_TIMEOUT_S,
            spec=spec,
        )
        outcome = await predictor.predict(ready.tensors, ready.good_rows(block.row_count))
        keys = keys_of(block, layout, key_is_integer=key_is_integer)
        table = outcome.table(predictor.shape, keys, layout.key_name)
        table = with_copies(table, block, layout, outcome.places, spec.output.format)
        return Sample(table, tuple(failures(Predicted(block, ready, outcome), keys)))

    def _read(self, spec: JobSpec, rows: int) -> tuple[RowBlock, Layout, bool]:
        source = self._sources.open(spec.input)
        layout = lay_out(source.columns(), spec.version, spec.input, spec.output.columns)
        check_types(layout, source.types())
        plan = source.cut(rows, bytes_max=CHUNK_BYTES_MAX, key_column=layout.key, chunks_max=1)
        return next(iter(source.read(plan.chunks, layout.columns, plan))), layout, plan.key_is_integer
