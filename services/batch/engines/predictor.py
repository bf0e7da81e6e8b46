"""Sends rows to the model: no more at once than helps, retries with a budget, the bad row found among the good ones."""

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from services.batch.domain.bite import Bite
from services.batch.domain.explanations import Explanation
from services.batch.domain.flow import Flow
from services.batch.domain.job import JobSpec, Spent
from services.batch.domain.results import ResultShape, select
from services.batch.domain.retry import Verdict, delay_s, judge, patience
from services.batch.domain.rows import Tensor
from services.batch.engines.silence import Silence
from services.batch.ports import Answer, Model, RetryBoard
from services.common.clock import Clock
from services.common.errors import MeshError, Reason
from services.common.signals import Signal

Places = npt.NDArray[np.int64]
REQUEST_BYTES_MAX = 8 * 1024 * 1024
_PAUSE_MIN_S = 0.05
"""How long others have been silent is known as of the last heartbeat, and not asked about all the time."""


@dataclass
class Outcome:
    """What became of some rows: their predictions, the failures by place, and what it took."""

    answers: list[tuple[Places, Mapping[str, Tensor]]] = field(default_factory=list)
    explanations: dict[int, Explanation] = field(default_factory=dict)
    """By place, where they were asked for."""
    failed: dict[int, MeshError] = field(default_factory=dict)
    spent: Spent = field(default_factory=Spent)

    @property
    def places(self) -> list[int]:
        """The places of the rows of `table`, in its order."""
        ordered = sorted(self.answers, key=lambda answer: int(answer[0][0]))
        return [place for places, _ in ordered for place in places.tolist()]

    def table(self, shape: ResultShape, keys: pa.Array, key_name: str) -> pa.Table:
        """The predictions in the order of the rows."""
        if not self.answers:
            return shape.empty(keys.slice(0, 0), key_name)
        ordered = sorted(self.answers, key=lambda answer: int(answer[0][0]))
        places = np.concatenate([places for places, _ in ordered])
        tensors = {name: np.concatenate([answer[name] for _, answer in ordered]) for name in shape.tensors}
        keys = keys if len(places) == len(keys) else keys.take(pa.array(places))
        explained = [self.explanations[place] for place in places.tolist()] if shape.explain else ()
        return shape.table(keys, key_name, tensors, explained)


class Predictor:
    """One job's way to the model. `outage_timeout_s` is the budget of its retries: so long without any answer."""

    def __init__(
        self,
        *,
        model: Model,
        board: RetryBoard,
        clock: Clock,
        rng: random.Random,
        outage_timeout_s: float,
        spec: JobSpec,
    ) -> None:
        self._model = model
        self._board = board
        self._clock = clock
        self._rng = rng
        self._outage_timeout_s = outage_timeout_s
        self._spec = spec
        self._batch_size = spec.batch_size
        self._bite = Bite(spec.batch_size) if spec.output.explain else None
        self._flow = Flow(spec.max_parallelism)
        self._under_way = 0
        self._ended = Signal()
        self.silence = Silence(clock)
        self.shape = ResultShape(spec.version, explain=spec.output.explain)

    def adjust(self, *, batch_size: int, max_parallelism: int) -> None:
        """Takes changes of the job for the requests to come."""
        self._batch_size = batch_size
        if self._bite is not None:
            self._bite.resize(batch_size)
        self._flow.resize(max_parallelism)
        self._ended.fire()

    async def predict(self, tensors: Mapping[str, Tensor], places: Places) -> Outcome:
        """Predicts some rows of a chunk. Raises MeshError where nothing of the job can be predicted."""
        outcome, fitting, at = Outcome(), _rows_that_fit(tensors), 0
        try:
            async with asyncio.TaskGroup() as group:
                while at < len(places):
                    ended = self._ended.current
                    if self._under_way >= self._flow.limit:
                        await ended.wait()
                        continue
                    # Cut only now: the job's batch_size may have changed.
                    piece = places[at : at + min(self._request_rows, fitting)]
                    at += len(piece)
                    self._under_way += 1
                    task = group.create_task(self._piece(tensors, piece, outcome), name=f"batch:request:{at}")
                    task.add_done_callback(self._left)
        except BaseExceptionGroup as errors:
            known = errors.subgroup(MeshError)
            raise _first(known) if known is not None else errors from None
        return outcome

    @property
    def _request_rows(self) -> int:
        return self._batch_size if self._bite is None else self._bite.size

    def _left(self, _: asyncio.Task[None]) -> None:
        self._under_way -= 1
        self._ended.fire()

    async def _piece(self, tensors: Mapping[str, Tensor], places: Places, outcome: Outcome) -> None:
        """Predicts rows, halving them around those that the model refuses. A stack: depth has no bound to hit."""
        left = [places]
        while left:
            piece = left.pop()
            try:
                answer = await self._ask(select(tensors, piece), len(piece), outcome)
            except MeshError as error:
                if judge(error) is not Verdict.HALVE and not self._was_too_much(error, len(piece)):
                    raise
                if len(piece) == 1:
                    outcome.failed[int(piece[0])] = error
                    continue
                middle = len(piece) // 2
                left += [piece[middle:], piece[:middle]]
                continue
            outcome.answers.append((piece, answer.tensors))
            outcome.explanations |= zip(piece.tolist(), answer.explanations, strict=self.shape.explain)

    def _was_too_much(self, error: MeshError, row_count: int) -> bool:
        """Whether fewer rows might be explained in the time that these were not."""
        return self._bite is not None and error.reason is Reason.DEADLINE_TOO_SHORT and row_count > 1

    async def _ask(self, tensors: Mapping[str, Tensor], row_count: int, outcome: Outcome) -> Answer:
        attempt = 0
        while True:
            attempt += 1
            try:
                began_s = self._clock.monotonic()
                answer = await self._sent(tensors)
            except MeshError as error:
                if self._bite is not None and error.reason is Reason.DEADLINE_TOO_SHORT:
                    self._bite.late(row_count)
                if judge(error) is Verdict.HALVE:
                    # It answers, if not as one would wish.
                    self.silence.answered()
                    raise
                self.silence.failed()
                silent_s, patience_s = self.silence.seconds, patience(error, self._outage_timeout_s)
                too_much = self._was_too_much(error, row_count)
                # Fewer rows are tried before anything is given up.
                if judge(error) is Verdict.GIVE_UP or (silent_s >= patience_s and not too_much):
                    raise
                self._board.retried(error.reason)
                outcome.spent = replace(outcome.spent, retries=outcome.spent.retries + 1)
                if too_much:
                    raise
                # A budget may not cover one more whole wait, and then the last attempt is at its end.
                pause_s = delay_s(attempt, error.retry_after_s, self._rng.random())
                await self._clock.sleep(max(_PAUSE_MIN_S, min(patience_s - silent_s, pause_s)))
                continue
            self.silence.answered()
            self.shape.check(answer.tensors, row_count)
            took_s = self._clock.monotonic() - began_s
            outcome.spent += Spent(requests=1, latency_ms_sum=answer.latency_ms, predict_s=took_s)
            self._flow.answered(took_s / row_count)
            if self._bite is not None:
                self._bite.answered(row_count)
            return answer

    async def _sent(self, tensors: Mapping[str, Tensor]) -> Answer:
        spec = self._spec
        if not self.shape.explain:
            return await self._model.infer(spec.version, tensors, self.shape.tensors, spec.parameters)
        return await self._model.explain(spec.version, tensors, spec.parameters)


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
