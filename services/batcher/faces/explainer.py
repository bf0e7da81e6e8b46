"""`explain`: Shapley values for the instances of a request, through the same engine as every prediction.

Explanations are a caller's work and keep its deadline, but they are thousands of rows: so each has at most one batch on
its way at a time, few run at once and few wait, and the next is refused. Cancelling a request ends its explanation with
the batch that is on its way.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import numpy as np

from services.batcher.domain.explained import (
    Explanation,
    Target,
    check_count,
    check_finite,
    explanation,
    without_sample,
)
from services.batcher.domain.mixing import Mixer
from services.batcher.domain.policy import rows_max_of
from services.batcher.domain.priority import Priority
from services.batcher.domain.refusals import too_late
from services.batcher.domain.request import InferRequest, InferResult, Tensor
from services.batcher.domain.shapley import Design, Floats, Mixtures, plan
from services.batcher.faces.call import Call
from services.batcher.faces.catalog import VersionPlan
from services.batcher.faces.ports import InferEngine, ReferenceSource
from services.batcher.telemetry.explanations import ExplanationStats
from services.common.clock import Clock
from services.common.errors import MeshError, Reason

_BATCH_ROWS_MAX = 1024
_BATCH_BYTES_MAX = 4 * 1024 * 1024
"""Mixing a batch of these sizes holds the loop for about a millisecond."""
_RETRY_MIN_S = 1.0
_MEMORY = 0.8
"""How much of the usual duration is the past."""


@dataclass(frozen=True, slots=True)
class ExplainerOptions:
    """Bounds of what explanations may cost."""

    rows_max: int = 8192
    """Rows for each instance, and 16 more for each feature."""
    at_once_max: int = 2
    """Requests whose explanations are worked on at once. Of batch jobs one is beside these."""
    waiting_max: int = 64
    """Requests that wait for that; one more is refused with QUEUE_FULL. A stream has no more in work. As many of batch
    jobs may wait beside these."""


class Explainer:
    """Explains predictions. One a process."""

    def __init__(
        self,
        *,
        engine: InferEngine,
        references: ReferenceSource,
        clock: Clock,
        stats: ExplanationStats,
        options: ExplainerOptions,
    ) -> None:
        self._engine = engine
        self._references = references
        self._clock = clock
        self._stats = stats
        self._callers = _Desk(options.at_once_max, options.waiting_max)
        self._jobs = _Desk(1, options.waiting_max)
        self._options = options

    def check(self, call: Call, version: VersionPlan, instances: int) -> None:
        """Before anything is spent: raises INVALID_FIELD for too many instances, EXPLANATION_UNAVAILABLE,
        EXPLANATION_NOT_READY, or QUEUE_FULL."""
        check_count(instances)
        Target(version.outputs)
        if not version.served.reference_digest:
            raise without_sample(version.served)
        self._references.check(version.served)
        self._desk(call).check_room(version)

    async def explain(self, call: Call, result: InferResult) -> Sequence[Explanation]:
        """The explanation of each instance, in their order. Raises what `check` raises, QUEUE_FULL, DEADLINE_TOO_SHORT,
        and what the engine raises for the rows it is asked about."""
        version, request = call.plan, call.request
        assert version is not None, "only what was predicted is explained"
        assert request is not None, "only what was predicted is explained"
        served, began_s, desk = version.served, self._clock.monotonic(), self._desk(call)
        call.predicted_s = began_s
        work: _Work | None = None
        explained: Sequence[Explanation] = ()
        try:
            async with desk.turn(version, request.deadline_s - began_s):
                sample = await self._references.sample(version.instances)
                work = _Work(call, result, sample, engine=self._engine, options=self._options, version=version)
                explained = await work.run()
        except MeshError as error:
            if error.reason is not Reason.DEADLINE_TOO_SHORT:
                raise
            raise self._late(version, work, began_s) from error
        finally:
            self._stats.ended(
                served.model_name,
                served.version,
                instances=len(explained),
                rows=work.asked if work is not None else 0,
                seconds=self._clock.monotonic() - began_s,
            )
        desk.took((self._clock.monotonic() - began_s) / len(explained))
        return explained

    def _desk(self, call: Call) -> "_Desk":
        """Rows of jobs wait for what is idle: whoever waits for an answer must not wait behind them."""
        return self._jobs if call.priority.idle_only else self._callers

    def _late(self, version: VersionPlan, work: "_Work | None", began_s: float) -> MeshError:
        served, seconds = version.served, self._clock.monotonic() - began_s
        done = f"{work.asked} of {work.wanted} rows had been asked about" if work is not None else "its turn had come"
        when = "after" if work is not None else "before"
        return MeshError(
            Reason.DEADLINE_TOO_SHORT,
            f"explain: the deadline passed {when} {done}, {seconds * 1000:.0f} ms after the prediction of version "
            f"{served.version} of {served.model_name!r}; allow more time, or send fewer instances",
            metadata={"model": served.model_name, "version": served.version},
        )


class _Desk:
    """So many requests are explained at once, and so many wait."""

    def __init__(self, at_once_max: int, waiting_max: int) -> None:
        self._at_once_max = at_once_max
        self._waiting_max = waiting_max
        self._turns = asyncio.Semaphore(at_once_max)
        self._waiting = 0
        self._usual_s = _RETRY_MIN_S

    @asynccontextmanager
    async def turn(self, version: VersionPlan, left_s: float) -> AsyncIterator[None]:
        """Waits until the request may be explained, at most `left_s`. Raises QUEUE_FULL, DEADLINE_TOO_SHORT."""
        self.check_room(version)
        self._waiting += 1
        try:
            async with asyncio.timeout(max(0.0, left_s)):
                await self._turns.acquire()
        except TimeoutError:
            raise too_late(version.served.model_name, version.served.version, 0.0, sent=False) from None
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._turns.release()

    def took(self, seconds: float) -> None:
        """An instance was explained in so many seconds."""
        self._usual_s = _MEMORY * self._usual_s + (1 - _MEMORY) * seconds

    def check_room(self, version: VersionPlan) -> None:
        """Raises QUEUE_FULL where no more may wait."""
        waiting = self._waiting
        if waiting < self._waiting_max:
            return
        retry_after_s = max(_RETRY_MIN_S, self._usual_s * waiting / self._at_once_max)
        served = version.served
        raise MeshError(
            Reason.QUEUE_FULL,
            f"explain: {waiting} requests wait to be explained, the most that may; come back in {retry_after_s:.0f} s, "
            "or leave `explain` out",
            metadata={"model": served.model_name, "version": served.version, "limit": "explanations"},
            retry_after_s=retry_after_s,
        )


class _Work:
    """The explanation of one request."""

    def __init__(
        self,
        call: Call,
        result: InferResult,
        sample: tuple[Tensor, ...],
        *,
        engine: InferEngine,
        options: ExplainerOptions,
        version: VersionPlan,
    ) -> None:
        self._engine = engine
        self._options = options
        self._call = call
        self._version = version
        self._target = Target(version.outputs)
        assert call.request is not None, "only what was predicted is explained"
        self._request = call.request
        self._result = result
        self._mixer = Mixer(self._request.inputs, sample)
        self._sample_rows = sample[0].shape[0] if sample else 1
        self._instances = call.rows
        batch_rows = min(_BATCH_ROWS_MAX, rows_max_of(version.served.batching))
        self._batch_rows = max(1, min(batch_rows, _BATCH_BYTES_MAX // max(1, self._mixer.row_bytes)))
        self.asked = 0
        """Rows that were answered so far."""
        self.wanted = 0
        """Rows that it takes."""

    async def run(self) -> Sequence[Explanation]:
        """All instances, one after the other."""
        names, rows = self._mixer.players.names, self._instances
        whole = self._target.table(self._version.outputs, self._result, rows)
        designs = [self._design(row) for row in range(rows)]
        used = designs[0].references
        self.wanted = len(used) + sum(design.rows for design in designs)

        def alone(start: int, stop: int) -> Mixtures:
            return Mixtures(np.zeros((stop - start, len(names)), np.bool_), used[start:stop])

        references = await self._ask(0, len(used), alone, slice(None))
        explained = []
        for row, column in enumerate(self._target.columns(self._call.scores, rows)):
            design, baselines = designs[row], references[:, column]
            mixed = await self._ask(row, design.rows, design.mixtures, slice(column, column + 1))
            check_finite(self._version.served, mixed, baselines, whole[row])
            values = design.values(mixed[:, 0], float(whole[row, column]), baselines)
            explained.append(explanation(names, values, float(baselines.mean())))
        return explained

    def _design(self, row: int) -> Design:
        """The same instance is always asked about with the same rows, wherever it stands in whatever request."""
        players = len(self._mixer.players.names)
        seed = hashlib.sha256(self._version.served.reference_digest.encode())
        itself = Mixtures(np.ones((1, players), np.bool_), np.zeros(1, np.intp))
        for tensor in self._mixer.tensors(row, itself):
            seed.update(tensor.data)
        return plan(
            players,
            self._sample_rows,
            rows_max=self._options.rows_max,
            seed=int.from_bytes(seed.digest()[:8], "little"),
        )

    async def _ask(self, row: int, count: int, mixtures: Callable[[int, int], Mixtures], columns: slice) -> Floats:
        """What is explained of so many mixtures of a row of the request: one row for each, one column for each class
        that is asked for. Batch after batch, so that one at most is on its way."""
        tables = [np.zeros((0, 1))] if not count else []
        for start in range(0, count, self._batch_rows):
            stop = min(count, start + self._batch_rows)
            table = await self._infer(stop - start, self._mixer.tensors(row, mixtures(start, stop)))
            tables.append(table[:, columns])
            self.asked += stop - start
        return np.concatenate(tables)

    async def _infer(self, rows: int, inputs: tuple[Tensor, ...]) -> Floats:
        call, outputs = self._call, self._version.outputs
        result = await self._engine.infer(
            InferRequest(
                served=self._version.served,
                rows=rows,
                inputs=inputs,
                deadline_s=self._request.deadline_s,
                outputs=self._target.asked(outputs),
                parameters=self._request.parameters,
                request_id=call.request_id,
                tenant=call.team,
                # After what callers ask to be predicted, whoever asks for the explanation.
                priority=max(call.priority, Priority.EXPLANATION),
            )
        )
        call.compute_s += result.compute_s
        return self._target.table(outputs, result, rows)
