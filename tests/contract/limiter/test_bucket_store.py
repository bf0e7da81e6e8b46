"""One set of rules for stores of buckets: the one in memory, and the one in a real Redis that the test starts."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.common.clock import SystemClock
from services.limiter.adapters.redis_buckets import RedisBuckets
from services.limiter.domain.buckets import Limit
from services.limiter.ports import BucketStore
from services.supervisor.parts.valkey import valkey_part
from tests.support.limiter_buckets import MemoryBuckets
from tests.support.parts import free_port, running

SLOW = Limit(0.01, 3)
"""Nothing comes back while a test runs."""


@pytest.fixture(params=["memory", "redis"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[BucketStore]:
    clock = SystemClock()
    if request.param == "memory":
        yield MemoryBuckets(clock.monotonic)
        return
    part = valkey_part(port=free_port(), data_dir=tmp_path, log_path=tmp_path / "redis.log")
    async with running(part):
        found = RedisBuckets(f"redis://127.0.0.1:{part.ports['redis']}/0", clock=clock, timeout_s=10)
        yield found
        await found.close()


async def test_a_burst_passes_and_then_the_rate(store: BucketStore) -> None:
    assert [(await store.take("a", SLOW, 1)).allowed for _ in range(5)] == [True, True, True, False, False]
    refused = await store.take("a", SLOW, 1)
    assert refused.retry_after_s == pytest.approx(100, abs=5)
    assert (await store.take("b", SLOW, 1)).allowed, "others have buckets of their own"
    # Long enough that two calls on a busy machine are within one interval.
    quick = Limit(1, 1)
    assert (await store.take("c", quick, 1)).allowed
    waited = await store.take("c", quick, 1)
    assert not waited.allowed
    await asyncio.sleep(waited.retry_after_s + 0.01)
    assert (await store.take("c", quick, 1)).allowed


async def test_a_call_may_cost_several_and_a_refused_one_costs_nothing(store: BucketStore) -> None:
    assert (await store.take("a", SLOW, 2)).allowed
    assert not (await store.take("a", SLOW, 2)).allowed
    assert (await store.take("a", SLOW, 1)).allowed
    assert (await store.take("d", SLOW, 100)).allowed, "more than a bucket holds takes a full one"
    assert not (await store.take("d", SLOW, 1)).allowed


async def test_of_many_at_once_no_more_pass_than_there_are_tokens(store: BucketStore) -> None:
    decisions = await asyncio.gather(*(store.take("a", Limit(0.01, 7), 1) for _ in range(30)))
    assert sum(decision.allowed for decision in decisions) == 7


async def test_a_limit_that_grows_holds_at_once(store: BucketStore) -> None:
    for _ in range(3):
        assert (await store.take("a", SLOW, 1)).allowed
    assert not (await store.take("a", SLOW, 1)).allowed
    assert (await store.take("a", Limit(1000, 1000), 1)).allowed
