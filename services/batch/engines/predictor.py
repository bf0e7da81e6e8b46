"""Sends rows to the model: bounded parallelism, retries with a budget, and the bad row found among the good ones."""

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from services.batch.domain.job import JobSpec, Spent
from services.batch.domain.results import ResultShape, select
from services.batch.domain.retry import Verdict, delay_s, judge, patience
from services.batch.domain.rows import Tensor
from services.batch.ports import Board, Model
from services.common.clock import Clock
from services.common.errors import MeshError

Places = npt.NDArray[np.int64]
REQUEST_BYTES_MAX = 8 * 1024 * 1024


@dataclass
class Outcome:
    """What became of some rows: their predictions, the failures by place, and what it took."""

    answers: list[tuple[Places, Mapping[str, Tensor]]] = field(default_factory=list)
    failed: dict[int, MeshError] = field(default_factory=dict)
    spent: Spent = field(default_factory=Spent)

    def table(self, shape: ResultShape, keys: pa.Array, key_name: str) -> pa.Table:
        """The predictions in the order of the rows."""
        ordered = sorted(self.answers, key=lambda answer: int(answer[0][0]))
        tables = [shape.table(keys.take(pa.array(places)), key_name, tensors) for places, tensors in ordered]
        return pa.concat_tables(tables) if tables else shape.empty(keys.slice(0, 0), key_name)


class Gate:
    """Lets so many requests through at once; how many may change while some are inside."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._inside = 0
        self._changed = asyncio.Condition()

    async def resize(self, limit: int) -> None:
        """Changes the limit; those inside stay."""
        async with self._changed:
            self._limit = limit
            self._changed.notify_all()

    async def __aenter__(self) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._inside < self._limit)
            self._inside += 1

    async def __aexit__(self, *_: object) -> None:
        self._inside -= 1
        async with self._changed:
            self._changed.notify()


class Predictor:
    """One job's way to the model. `outage_timeout_s` is the budget of its retries: so long without any answer."""

    def __init__(
        self, *, model: Model, board: Board, clock: Clock, rng: random.Random, outage_timeout_s: float, spec: JobSpec
    ) -> None:
        self._model = model
        self._board = board
        self._clock = clock
        self._rng = rng
        self._outage_timeout_s = outage_timeout_s
        self._spec = spec
        self._batch_size = spec.batch_size
        self._gate = Gate(spec.max_parallelism)
        self._silent_since_s: float | None = None
        self.shape = ResultShape(spec.version)

    async def adjust(self, *, batch_size: int, max_parallelism: int) -> None:
        """Takes changes of the job for the requests to come."""
        self._batch_size = batch_size
        await self._gate.resize(max_parallelism)

    async def predict(self, tensors: Mapping[str, Tensor], places: Places) -> Outcome:
        """Predicts some rows of a chunk. Raises MeshError where nothing of the job can be predicted."""
        outcome = Outcome()
        rows = min(self._batch_size, _rows_that_fit(tensors))
        pieces = [places[at : at + rows] for at in range(0, len(places), rows)]
        try:
            async with asyncio.TaskGroup() as group:
                for number, piece in enumerate(pieces):
                    group.create_task(self._piece(tensors, piece, outcome), name=f"batch:request:{number}")
        except BaseExceptionGroup as errors:
            known = errors.subgroup(MeshError)
            raise _first(known) if known is not None else errors from None
        return outcome

    async def _piece(self, tensors: Mapping[str, Tensor], places: Places, outcome: Outcome) -> None:
        """Predicts rows, halving them around those that the model refuses. A stack: depth has no bound to hit."""
        left = [places]
        while left:
            piece = left.pop()
            try:
                answer = await self._ask(select(tensors, piece), len(piece), outcome)
            except MeshError as error:
                if judge(error) is not Verdict.HALVE:
                    raise
                if len(piece) == 1:
                    outcome.failed[int(piece[0])] = error
                    continue
                middle = len(piece) // 2
                left += [piece[middle:], piece[:middle]]
                continue
            outcome.answers.append((piece, answer))

    async def _ask(self, tensors: Mapping[str, Tensor], row_count: int, outcome: Outcome) -> Mapping[str, Tensor]:
        attempt = 0
        while True:
            attempt += 1
            try:
                async with self._gate:
                    began_s = self._clock.monotonic()
                    answer = await self._model.infer(
                        self._spec.version, tensors, self.shape.tensors, self._spec.parameters
                    )
            except MeshError as error:
                if judge(error) is Verdict.HALVE:
                    # It answers, if not as one would wish.
                    self._silent_since_s = None
                    raise
                silent_s, patience_s = self._silent_s(), patience(error, self._outage_timeout_s)
                if judge(error) is Verdict.GIVE_UP or silent_s >= patience_s:
                    raise
                self._board.retried(error.reason)
                outcome.spent = replace(outcome.spent, retries=outcome.spent.retries + 1)
                # A budget may not cover one more whole wait, and then the last attempt is at its end.
                pause_s = delay_s(attempt, error.retry_after_s, self._rng.random())
                await self._clock.sleep(min(patience_s - silent_s, pause_s))
                continue
            self._silent_since_s = None
            self.shape.check(answer.tensors, row_count)
            outcome.spent += Spent(
                requests=1, latency_ms_sum=answer.latency_ms, predict_s=self._clock.monotonic() - began_s
            )
            return answer.tensors

    def _silent_s(self) -> float:
        """Seconds since the first failure after the last answer to any request of the job."""
        now_s = self._clock.monotonic()
        self._silent_since_s = now_s if self._silent_since_s is None else self._silent_since_s
        return now_s - self._silent_since_s


def _rows_that_fit(tensors: Mapping[str, Tensor]) -> int:
    """Rows whose request stays within the bound, by the mean size of a row."""
    rows = max((len(tensor) for tensor in tensors.values()), default=1) or 1
    size = sum(_size_bytes(tensor) for tensor in tensors.values())
    return max(1, int(REQUEST_BYTES_MAX // max(1.0, size / rows)))


def _size_bytes(tensor: Tensor) -> int:
    if tensor.dtype == np.object_:
        return sum(4 + len(item) for item in tensor.ravel().tolist())
    return tensor.nbytes


def _first(group: BaseExceptionGroup[MeshError]) -> MeshError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, MeshError)
    return error
