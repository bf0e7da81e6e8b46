"""Callers who ask for the same row at the same time, in virtual time."""

import asyncio
from datetime import UTC, datetime

import pytest

from services.batcher.domain.cached import CacheCounts, CachedAnswer, CacheOptions, CacheOutcome
from services.batcher.domain.priority import Priority
from services.batcher.domain.request import InferRequest, InferResult
from services.batcher.engines.cache import PredictionCache
from services.common.clock import LoopClock
from services.common.errors import MeshError, Reason
from tests.support.batcher_cache_fakes import FakeModel, FakeStore, answer, numbers_of, request

pytestmark = [pytest.mark.looptime, pytest.mark.asyncio]

CLOCK = LoopClock(datetime(2026, 1, 15, tzinfo=UTC))


def now_s() -> float:
    return asyncio.get_running_loop().time()


def begin(cache: PredictionCache, *asked: InferRequest) -> list["asyncio.Task[CachedAnswer]"]:
    return [asyncio.get_running_loop().create_task(cache.infer(one)) for one in asked]


async def reason_of(task: "asyncio.Task[CachedAnswer]") -> Reason:
    with pytest.raises(MeshError) as caught:
        await task
    return caught.value.reason


async def test_callers_at_the_same_time_share_one_computation() -> None:
    model = FakeModel(CLOCK, latency_s=1.0)
    cache = PredictionCache(engine=model, clock=CLOCK)
    answered = await asyncio.gather(*begin(cache, *[request([5])] * 10))
    assert [one.result for one in answered] == [answer([5])] * 10
    assert [one.outcome for one in answered] == [CacheOutcome.MISS, *[CacheOutcome.HIT] * 9]
    assert (model.asked, now_s()) == ([[5]], 1.0)
    assert cache.counts["m", "v1.0.0"] == CacheCounts(shared=9, missed=1)


async def test_requests_that_overlap_wait_for_each_others_rows() -> None:
    model = FakeModel(CLOCK, latency_s=1.0)
    cache = PredictionCache(engine=model, clock=CLOCK)
    one, other = await asyncio.gather(*begin(cache, request([1, 2]), request([2, 3, 1])))
    assert (one.result, other.result) == (answer([1, 2]), answer([2, 3, 1]))
    assert (model.asked, now_s()) == ([[1, 2], [3]], 1.0)


async def test_when_the_leader_is_cancelled_one_follower_takes_over() -> None:
    model = FakeModel(CLOCK, latency_s=1.0)
    cache = PredictionCache(engine=model, clock=CLOCK)
    leader, *followers = begin(cache, *[request([5])] * 5)
    await CLOCK.sleep(0.5)
    leader.cancel()
    assert [one.result for one in await asyncio.gather(*followers)] == [answer([5])] * 4
    assert (model.asked, now_s()) == ([[5], [5]], 1.5)


async def test_when_leader_after_leader_is_cancelled_the_last_is_answered() -> None:
    model = FakeModel(CLOCK, latency_s=1.0)
    cache = PredictionCache(engine=model, clock=CLOCK)
    tasks = begin(cache, *[request([5])] * 4)
    for task in tasks[:3]:
        await CLOCK.sleep(0.5)
        task.cancel()
    assert (await tasks[3]).result == answer([5])
    assert now_s() == 2.5


async def test_a_leader_and_its_heir_cancelled_in_one_turn_leave_nobody_behind() -> None:
    model = FakeModel(CLOCK, latency_s=1.0)
    cache = PredictionCache(engine=model, clock=CLOCK)
    tasks = begin(cache, *[request([5])] * 3)
    await CLOCK.sleep(0.5)
    tasks[0].cancel()
    tasks[1].cancel()
    assert (await tasks[2]).result == answer([5])
    assert now_s() == 1.5


async def test_when_the_leader_runs_out_of_time_one_follower_takes_over() -> None:
    model = FakeModel(CLOCK, latency_s=1.0)
    cache = PredictionCache(engine=model, clock=CLOCK)
    leader, *followers = begin(cache, request([5], deadline_s=0.3), *[request([5])] * 3)
    assert await reason_of(leader) is Reason.DEADLINE_TOO_SHORT
    assert [one.result for one in await asyncio.gather(*followers)] == [answer([5])] * 3
    assert (model.asked, now_s()) == ([[5], [5]], 1.3)


async def test_a_follower_keeps_its_own_deadline() -> None:
    model = FakeModel(CLOCK, latency_s=1.0)
    cache = PredictionCache(engine=model, clock=CLOCK)
    leader, follower = begin(cache, request([5]), request([5], deadline_s=0.25))
    assert await reason_of(follower) is Reason.DEADLINE_TOO_SHORT
    assert now_s() == 0.25
    assert (await leader).result == answer([5])


async def test_a_followers_cancellation_harms_nobody() -> None:
    model = FakeModel(CLOCK, latency_s=1.0)
    cache = PredictionCache(engine=model, clock=CLOCK)
    leader, first, second = begin(cache, *[request([5])] * 3)
    await CLOCK.sleep(0.5)
    first.cancel()
    assert [(await leader).result, (await second).result] == [answer([5])] * 2
    assert first.cancelled()
    assert model.asked == [[5]]


@pytest.mark.parametrize(
    "failure", [MeshError(Reason.MODEL_FAILED, "not this one"), RuntimeError("a fault of the batcher")]
)
async def test_a_failed_leader_fails_nobody_else(failure: Exception) -> None:
    fails = [failure]

    def once(asked: InferRequest) -> InferResult:
        if fails:
            raise fails.pop()
        return answer(numbers_of(asked))

    model = FakeModel(CLOCK, latency_s=1.0, answers=once)
    cache = PredictionCache(engine=model, clock=CLOCK)
    leader, *followers = begin(cache, *[request([5])] * 4)
    with pytest.raises(type(failure)):
        await leader
    assert [one.result for one in await asyncio.gather(*followers)] == [answer([5])] * 3
    # Each on its own, at the same time, as if there were no cache: the engine joins them into one batch.
    assert (model.asked, now_s()) == ([[5]] * 4, 2.0)


async def test_what_always_fails_fails_each_with_its_own_error_in_two_rounds() -> None:
    def never(_: InferRequest) -> InferResult:
        raise MeshError(Reason.MODEL_FAILED, "not this one")

    model = FakeModel(CLOCK, latency_s=1.0, answers=never)
    cache = PredictionCache(engine=model, clock=CLOCK)
    tasks = begin(cache, *[request([5])] * 50)
    assert {await reason_of(task) for task in tasks} == {Reason.MODEL_FAILED}
    assert now_s() == 2.0


async def test_whoever_has_a_caller_waiting_does_not_wait_for_background_work() -> None:
    model = FakeModel(CLOCK, latency_s=1.0)
    cache = PredictionCache(engine=model, clock=CLOCK)
    background = begin(cache, request([5], priority=Priority.BACKGROUND))
    await CLOCK.sleep(0.5)
    first, second, also_background = begin(
        cache, request([5]), request([5]), request([5], priority=Priority.BACKGROUND)
    )
    assert [(await task).result for task in (*background, first, second, also_background)] == [answer([5])] * 4
    assert model.asked == [[5], [5]]
    assert now_s() == 1.5


async def test_no_more_than_the_bound_wait_for_others() -> None:
    model = FakeModel(CLOCK, latency_s=1.0)
    cache = PredictionCache(engine=model, clock=CLOCK, options=CacheOptions(followers_max=2))
    answered = await asyncio.gather(*begin(cache, *[request([5])] * 5))
    assert [one.result for one in answered] == [answer([5])] * 5
    assert len(model.asked) == 3
    # The bound counts who waits, not who ever waited.
    await asyncio.gather(*begin(cache, *[request([6])] * 3))
    assert len(model.asked) == 4


async def test_the_second_layer_is_asked_once_for_all() -> None:
    model, store = FakeModel(CLOCK), FakeStore(CLOCK)
    cache = PredictionCache(engine=model, clock=CLOCK, store=store)
    await asyncio.gather(*begin(cache, *[request([5, 6])] * 4))
    assert [len(keys) for keys in store.reads] == [2]
    assert model.asked == [[5, 6]]


async def test_a_leader_cancelled_at_the_second_layer_hands_over() -> None:
    model, store = FakeModel(CLOCK), FakeStore(CLOCK, latency_s=0.5)
    cache = PredictionCache(engine=model, clock=CLOCK, store=store)
    leader, follower = begin(cache, *[request([5])] * 2)
    await CLOCK.sleep(0.2)
    leader.cancel()
    assert (await follower).result == answer([5])
    assert leader.cancelled()


async def test_who_is_overtaken_and_leaves_does_not_take_the_others_flight_along() -> None:
    model = FakeModel(CLOCK, latency_s=1.0)
    cache = PredictionCache(engine=model, clock=CLOCK)
    (background,) = begin(cache, request([5], priority=Priority.BACKGROUND))
    await CLOCK.sleep(0.1)
    (first,) = begin(cache, request([5]))
    await CLOCK.sleep(0.1)
    background.cancel()
    await CLOCK.sleep(0.1)
    (second,) = begin(cache, request([5]))
    assert [(await first).result, (await second).result] == [answer([5])] * 2
    assert (model.asked, now_s()) == ([[5], [5]], 1.1)
