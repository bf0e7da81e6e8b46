"""The prediction cache driven through whatever may happen, in virtual time, with its promises checked after every step.

Few rows are asked for by many, so that callers meet all the time. What the model says depends on the team that asks and
on the artifact that runs, so that an answer in wrong hands is seen.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TypeVar

import looptime
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.batcher.domain.cached import CachedAnswer, CacheOptions
from services.batcher.domain.priority import Priority
from services.batcher.domain.request import InferRequest, InferResult
from services.batcher.engines.cache import PredictionCache
from services.common.clock import LoopClock
from services.common.errors import MeshError, Reason
from tests.support.batcher_cache_fakes import VERSION, FakeModel, FakeStore, answer, numbers_of, request

T = TypeVar("T")
BYTES_MAX = 20_000
LATE_S = 0.001
TENANTS = ("", "a", "b")
DIGESTS = ("a" * 64, "b" * 64)


def said(asked: InferRequest, numbers: list[int]) -> InferResult:
    """What that artifact says to that team."""
    shift = 1000 * TENANTS.index(asked.tenant) + 100_000 * DIGESTS.index(asked.served.artifact_digest)
    return answer([number + shift for number in numbers], asked.outputs)


@dataclass(eq=False)
class Asked:
    """One caller."""

    request: InferRequest
    numbers: list[int]
    task: "asyncio.Task[CachedAnswer]"
    cancelled: bool = False
    poisoned: bool = False
    """Whether a row of its own was refused by the model since it asked."""


class CacheMachine(RuleBasedStateMachine):
    """One process, its model and its second layer."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = looptime.new_event_loop()
        self.clock = LoopClock(datetime(2026, 1, 15, tzinfo=UTC))
        self.model = FakeModel(self.clock, answers=self.answers)
        self.store = FakeStore(self.clock)
        self.poison: set[int] = set()
        self.asked: list[Asked] = []
        self.cache = self.process()

    def process(self) -> PredictionCache:
        options = CacheOptions(bytes_max=BYTES_MAX, ttl_s=10.0, rows_max=4, followers_max=6)
        return PredictionCache(engine=self.model, clock=self.clock, options=options, store=self.store)

    def answers(self, asked: InferRequest) -> InferResult:
        numbers = numbers_of(asked)
        if self.poison.intersection(numbers):
            raise MeshError(Reason.MODEL_FAILED, "poison")
        return said(asked, numbers)

    def run(self, work: Coroutine[None, None, T]) -> T:
        return self.loop.run_until_complete(work)

    @rule(
        requests=st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=5), min_size=1, max_size=5),
        patience_s=st.sampled_from((0.002, 0.02, 0.2, 5.0)),
        tenant=st.sampled_from(TENANTS),
        digest=st.sampled_from(DIGESTS),
        outputs=st.sampled_from(((), ("y",))),
        priority=st.sampled_from(Priority),
    )
    def arrive(
        self,
        *,
        requests: list[list[int]],
        patience_s: float,
        tenant: str,
        digest: str,
        outputs: tuple[str, ...],
        priority: Priority,
    ) -> None:
        for numbers in requests:
            asked = request(
                numbers,
                served=replace(VERSION, artifact_digest=digest),
                deadline_s=self.loop.time() + patience_s,
                outputs=outputs,
                tenant=tenant,
                priority=priority,
            )
            poisoned = bool(self.poison.intersection(numbers))
            self.asked.append(Asked(asked, numbers, self.loop.create_task(self.cache.infer(asked)), poisoned=poisoned))
        self.run(asyncio.sleep(0))

    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        waiting = [one for one in self.asked if not one.task.done()]
        for one in data.draw(st.lists(st.sampled_from(waiting), max_size=4, unique=True)) if waiting else []:
            one.task.cancel()
            one.cancelled = True
        self.run(asyncio.sleep(0))

    @rule(seconds=st.sampled_from((0.0, 0.001, 0.005, 0.01, 0.1, 6.0)))
    def pass_time(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))

    @rule(numbers=st.sets(st.integers(0, 5), max_size=2))
    def refuse(self, numbers: set[int]) -> None:
        self.poison = numbers
        for one in self.asked:
            one.poisoned = one.poisoned or bool(numbers.intersection(one.numbers))

    @rule(latency_s=st.sampled_from((0.001, 0.01, 0.3)))
    def slow_down(self, latency_s: float) -> None:
        self.model.latency_s = latency_s

    @rule(away=st.booleans(), latency_s=st.sampled_from((0.0, 0.001, 0.005)))
    def lose_or_find_the_second_layer(self, away: bool, latency_s: float) -> None:
        self.store.away, self.store.latency_s = away, latency_s

    @rule()
    def restart(self) -> None:
        """Another process with the same second layer takes over; who waits at the old one is answered there."""
        self.cache = self.process()

    @invariant()
    def everybody_gets_their_own_answer_or_an_error_of_their_own(self) -> None:
        for one in [one for one in self.asked if one.task.done()]:
            self.asked.remove(one)
            if one.task.cancelled():
                assert one.cancelled
                continue
            error = one.task.exception()
            if error is None:
                assert one.task.result().result == said(one.request, one.numbers)
                continue
            assert isinstance(error, MeshError), error
            if error.reason is Reason.MODEL_FAILED:
                assert one.poisoned, "another's failure"
            else:
                assert error.reason is Reason.DEADLINE_TOO_SHORT
                assert one.request.deadline_s <= self.loop.time() + LATE_S, "too early"

    @invariant()
    def nobody_waits_beyond_the_deadline(self) -> None:
        for one in self.asked:
            # Reading the second layer has a bound of its own.
            assert one.request.deadline_s + LATE_S + self.store.latency_s + 0.005 >= self.loop.time()

    @invariant()
    def memory_is_bounded(self) -> None:
        assert self.cache.memory.bytes_held <= BYTES_MAX
        assert 0 <= self.cache.flights.followers <= 6

    def teardown(self) -> None:
        try:
            self.run(asyncio.sleep(6))
            self.everybody_gets_their_own_answer_or_an_error_of_their_own()
            assert self.asked == []
            assert len(self.cache.flights) == 0
            assert self.cache.flights.followers == 0
        finally:
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self.run(asyncio.sleep(0))
            self.loop.close()


TestCache = CacheMachine.TestCase
TestCache.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
