"""The prediction cache: answers rows that were answered before, out of the process's memory or Redis.

It stands before the batching engine and works row by row: of a request only the rows that nobody has go to the model,
and the answer is stitched together in the request's order. The batcher joins rows of different requests anyway, so a
row's answer never depends on its neighbours.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from services.batcher.domain.cache_key import CachedRows, CacheKey, common_digest, common_key, redis_key, row_keys
from services.batcher.domain.cached import CacheCounts, CachedAnswer, CacheOptions, CacheOutcome
from services.batcher.domain.lru import ByteLru
from services.batcher.domain.refusals import unreadable
from services.batcher.domain.request import InferRequest, InferResult, Tensor
from services.batcher.domain.rows import RowsError, check_outputs, join_results, split_outputs
from services.batcher.domain.shape import CallShape, call_shape
from services.batcher.engines.cache_ports import Answers, AnswerStore
from services.batcher.engines.flights import Ended, Flight, Flights
from services.common.clock import Clock
from services.common.errors import MeshError, Reason

_COMMONS_MAX = 4096
"""Kinds of requests that are remembered."""
ENTRY_OVERHEAD_BYTES = 350
TENSOR_OVERHEAD_BYTES = 175
"""What Python needs beside the data of an entry and of each of its tensors, measured."""


@dataclass(frozen=True, slots=True)
class _Common:
    """What the requests of one kind have in common."""

    digest: bytes
    shape: CallShape
    counts: CacheCounts


@dataclass(slots=True)
class _Work:
    """A request on its way through the cache."""

    request: InferRequest
    common: _Common
    rows: CachedRows
    began_s: float
    found: dict[CacheKey, InferResult] = field(default_factory=dict)
    missing: dict[CacheKey, int] = field(default_factory=dict)
    """The first row with each key that was not found, in the request's order."""
    whole: InferResult | None = None
    """The answer to the whole request, where the model gave it in one."""
    computed: int = 0
    compute_s: float = 0.0
    """What model servers took for it."""


class PredictionCache:
    """Answers requests of deterministic versions. One a process, on one event loop."""

    def __init__(
        self, *, engine: Answers, clock: Clock, options: CacheOptions | None = None, store: AnswerStore | None = None
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._options = options or CacheOptions()
        self._store = store
        self.flights = Flights(followers_max=self._options.followers_max)
        self._commons: dict[tuple[object, ...], _Common] = {}
        self.memory: ByteLru[CacheKey, InferResult] = ByteLru(bytes_max=self._options.bytes_max)
        self.counts: dict[tuple[str, str], CacheCounts] = {}
        """By model name and version."""
        self.bypassed = 0
        """Requests of deterministic versions that are none to cache."""

    def shown(self) -> dict[str, int]:
        """What it found so far, over all versions, and what it holds, for the operators' page."""
        counts = list(self.counts.values())
        return {
            "rows_from_memory": sum([one.memory for one in counts]),
            "rows_from_redis": sum([one.store for one in counts]),
            "rows_shared": sum([one.shared for one in counts]),
            "rows_missed": sum([one.missed for one in counts]),
            "entries": len(self.memory),
            "bytes": self.memory.bytes_held,
        }

    async def infer(self, request: InferRequest) -> CachedAnswer:
        """The request's own rows. What is kept comes at once, without a turn of the loop.

        Cancelling the caller is free at any time. Raises what the engine raises, and DEADLINE_TOO_SHORT.
        """
        if not self._caches(request):
            self.bypassed += 1
            return CachedAnswer(await self._engine.infer(request), CacheOutcome.BYPASS)
        common = self._common(request)
        try:
            rows = row_keys(common.digest, request)
        except RowsError as error:
            raise unreadable(request.served.model_name, str(error)) from error
        now_s = self._clock.monotonic()
        work = _Work(request, common, rows, now_s)
        memory, found, missing = self.memory, work.found, work.missing
        for index, key in enumerate(rows.keys):
            kept = memory.get(key, now_s)
            if kept is not None:
                common.counts.memory += 1
                found[key] = kept
            elif key not in missing:
                missing[key] = index
        if not missing:
            outcome = CacheOutcome.HIT
        else:
            await self._fill(work)
            outcome = CacheOutcome.PARTIAL if work.computed else CacheOutcome.HIT
            if work.computed == len(found):
                outcome = CacheOutcome.MISS
        return await self._stitched(work, outcome)

    def _caches(self, request: InferRequest) -> bool:
        options = self._options
        return (
            0 < request.rows <= options.rows_max
            and request.inputs != ()
            # Without it, what was redeployed under the same version would be answered from what was there before.
            and request.served.artifact_digest != ""
            and sum([len(tensor.data) for tensor in request.inputs]) <= options.input_bytes_max
        )

    def _common(self, request: InferRequest) -> _Common:
        key = common_key(request)
        common = self._commons.get(key)
        if common is None:
            if len(self._commons) >= _COMMONS_MAX:
                self._commons.clear()
            served = request.served
            counts = self.counts.setdefault((served.model_name, served.version), CacheCounts())
            common = self._commons[key] = _Common(common_digest(request), call_shape(request), counts)
        return common

    async def _stitched(self, work: _Work, outcome: CacheOutcome) -> CachedAnswer:
        keys, found = work.rows.keys, work.found
        if len(keys) == 1:
            return CachedAnswer(found[keys[0]], outcome)  # kept ones say that they took nothing
        if work.whole is not None:
            return CachedAnswer(work.whole, outcome)
        try:
            joined = join_results([found[key] for key in keys])
        except RowsError:
            # Rows of outputs of any size need not fit together: then they have to come out of one batch.
            joined, outcome = await self._engine.infer(work.request), CacheOutcome.MISS
            work.compute_s += joined.compute_s
        joined.compute_s = work.compute_s
        return CachedAnswer(joined, outcome)

    async def _fill(self, work: _Work) -> None:
        """Finds or computes what is missing."""
        while work.missing:
            mine, others = self.flights.claim(work.missing, work.request.priority)
            try:
                if mine:
                    await self._lead(work, mine)
                ended = {await self._follow(work, key, future) for key, future in others}
            finally:
                self.flights.leave(others)
            if Ended.FAILED in ended:
                await self._compute(work, list(work.missing))

    async def _lead(self, work: _Work, mine: Sequence[Flight]) -> None:
        """Answers the caller and all who follow."""
        try:
            await self._find(work, mine)
            rest = [flight.key for flight in mine if flight.key in work.missing]
            if rest:
                await self._compute(work, rest)
        except MeshError as error:
            late = error.reason is Reason.DEADLINE_TOO_SHORT
            self.flights.end(mine, Ended.ABANDONED if late else Ended.FAILED)
            raise
        except Exception:
            self.flights.end(mine, Ended.FAILED)
            raise
        except BaseException:
            self.flights.end(mine, Ended.ABANDONED)
            raise
        for flight in mine:
            # The tensors alone: how the leader's batch went is no matter of those who follow.
            self.flights.land(flight, InferResult(work.found[flight.key].outputs))

    async def _find(self, work: _Work, mine: Sequence[Flight]) -> None:
        """Takes from the second layer what it has."""
        if self._store is None:
            return
        served = work.request.served
        reading = self._store.read([redis_key(served.model_name, served.version, flight.key) for flight in mine])
        if reading is None:
            return
        now_s = self._clock.monotonic()
        for flight, stored in zip(mine, await reading, strict=True):
            if stored is None or not _fits(work.common.shape, stored.result):
                continue
            work.common.counts.store += 1
            self._keep(flight.key, stored.result, now_s + min(stored.left_s, self._options.ttl_s))
            self._found(work, flight.key, stored.result)
            self.flights.land(flight, stored.result)

    async def _compute(self, work: _Work, keys: Sequence[CacheKey]) -> None:
        """Asks the model for the rows with these keys, and keeps them."""
        indices = [work.missing[key] for key in keys]
        request = work.request
        if len(indices) == request.rows:
            result = work.whole = await self._engine.infer(request)
        else:
            result = await self._engine.infer(_part(request, work.rows, indices))
        work.compute_s += result.compute_s
        work.computed += len(keys)
        work.common.counts.missed += len(keys)
        parts = split_outputs(result.outputs, [1] * len(keys), len(keys)) if len(keys) > 1 else [result]
        options, served = self._options, request.served
        expires_s = self._clock.monotonic() + options.ttl_s
        for key, part in zip(keys, parts, strict=True):
            self._found(work, key, part)
            kept = self._keep(key, part, expires_s)
            if kept is not None and self._store is not None:
                self._store.write(redis_key(served.model_name, served.version, key), kept, left_s=options.ttl_s)

    def _found(self, work: _Work, key: CacheKey, result: InferResult) -> None:
        work.found[key] = result
        del work.missing[key]

    def _keep(self, key: CacheKey, result: InferResult, expires_s: float) -> InferResult | None:
        """Puts a row into memory. What was kept; None where it is too large."""
        size = sum([len(tensor.data) for tensor in result.outputs])
        if size > self._options.entry_bytes_max:
            return None
        # A view would keep the whole batch alive.
        outputs = tuple(
            [
                tensor
                if isinstance(tensor.data, bytes)
                else Tensor(tensor.name, tensor.data_type, tensor.shape, bytes(tensor.data))
                for tensor in result.outputs
            ]
        )
        kept = InferResult(outputs)
        size += ENTRY_OVERHEAD_BYTES + TENSOR_OVERHEAD_BYTES * len(outputs)
        self.memory.put(key, kept, size_bytes=size, expires_s=expires_s)
        return kept

    async def _follow(self, work: _Work, key: CacheKey, future: "asyncio.Future[InferResult | Ended]") -> Ended | None:
        """Waits for another's computation, within the caller's own deadline. None: the row is there."""
        left_s = work.request.deadline_s - self._clock.monotonic()
        try:
            async with asyncio.timeout(left_s):
                outcome = await future
        except TimeoutError:
            raise self._engine.late(work.request, self._clock.monotonic() - work.began_s) from None
        if isinstance(outcome, Ended):
            return outcome
        work.common.counts.shared += 1
        self._found(work, key, outcome)
        return None


def _part(request: InferRequest, rows: CachedRows, indices: Sequence[int]) -> InferRequest:
    """The request with these rows alone."""
    inputs = tuple(
        [
            Tensor(
                tensor.name,
                tensor.data_type,
                (len(indices), *tensor.shape[1:]),
                b"".join([column[index] for index in indices]),
            )
            for tensor, column in zip(request.inputs, rows.columns, strict=True)
        ]
    )
    return replace(request, rows=len(indices), inputs=inputs)


def _fits(shape: CallShape, result: InferResult) -> bool:
    """Whether what was stored is what the version answers to such a request."""
    try:
        return len(check_outputs(shape, result.outputs, 1)) == len(result.outputs)
    except RowsError:
        return False
