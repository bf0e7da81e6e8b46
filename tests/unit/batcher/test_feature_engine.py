"""Features are read together, once, kept for as long as they may be, and never waited for beyond the deadline."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from services.batcher.engines.features import FeatureOptions, Features, ViewCounts
from services.batcher.telemetry.feature_families import feature_metrics
from services.batcher.telemetry.labels import LabelSets
from services.common.clock import LoopClock
from services.common.errors import MeshError, Reason
from services.common.feature_view import FeatureStoreKind, OnMissing
from tests.support.batcher_feature_fakes import STATS, VECTORS, MemoryFeatures, joining

pytestmark = pytest.mark.looptime
EPOCH = datetime(2026, 1, 15, tzinfo=UTC)
WITH_DEFAULTS = replace(STATS, on_missing=OnMissing.DEFAULT, defaults={"age": 0, "ctr": 0.5})


class Store:
    """A store with rows of ten users, and the joiner over it."""

    def __init__(self, *, delay_s: float = 0.001, **options: float) -> None:
        self.clock = LoopClock(EPOCH)
        self.memory = MemoryFeatures(self.clock, delay_s=delay_s)
        for user in range(10):
            self.put(user, {"age": 20 + user, "ctr": 0.25})
        self.features = Features(
            stores={FeatureStoreKind.REDIS: self.memory},
            clock=self.clock,
            options=FeatureOptions(**options),  # type: ignore[arg-type]
        )

    def put(self, user: int, values: Mapping[str, object]) -> None:
        self.memory.put("user_stats", "user_id", str(user), values, at_s=self.clock.now().timestamp())

    @property
    def counts(self) -> ViewCounts:
        return self.features.counts["m", "v1.0.0", "user_stats"]

    async def age_of(self, user: object, view: object = STATS) -> object:
        (row,) = await self.features.join(joining(view), [{"user_id": user, "x": 1.0}])  # type: ignore[arg-type]
        assert set(row) == {"x", "age", "ctr"}
        return row["age"]


async def test_what_one_turn_misses_is_read_together_and_each_entity_once() -> None:
    store = Store()
    ages = await asyncio.gather(*(store.age_of(user % 5) for user in range(20)))
    assert ages == [20 + user % 5 for user in range(20)]
    assert store.memory.reads == [["0", "1", "2", "3", "4"]]
    assert (store.counts.fetched, store.counts.hits) == (20, 0)


async def test_whoever_comes_while_a_row_is_on_its_way_waits_for_that_one() -> None:
    store = Store(delay_s=0.008)
    first = asyncio.create_task(store.age_of(3), name="first")
    await asyncio.sleep(0.005)
    assert await store.age_of(3) == 23
    assert asyncio.get_running_loop().time() == pytest.approx(0.008)
    assert await first == 23
    assert len(store.memory.reads) == 1


async def test_a_row_in_memory_costs_no_turn_of_the_loop() -> None:
    store = Store()
    await store.age_of(1)
    with pytest.raises(StopIteration) as ended:
        store.features.join(joining(STATS), [{"user_id": 1, "x": 1.0}]).send(None)
    assert ended.value.value == [{"x": 1.0, "age": 21, "ctr": 0.25}]
    assert store.counts.hits == 1


async def test_a_row_is_kept_for_five_minutes() -> None:
    store = Store()
    await store.age_of(1)
    store.put(1, {"age": 99, "ctr": 0.25})
    await asyncio.sleep(299.9)
    assert await store.age_of(1) == 21
    await asyncio.sleep(0.2)
    assert await store.age_of(1) == 99


async def test_a_row_that_grows_too_old_is_read_again_before_that() -> None:
    store = Store()
    view = replace(STATS, max_age_s=10)
    assert await store.age_of(1, view) == 21
    await asyncio.sleep(5)
    store.put(1, {"age": 99, "ctr": 0.25})
    assert await store.age_of(1, view) == 21
    await asyncio.sleep(5)
    assert await store.age_of(1, view) == 99
    await asyncio.sleep(11)
    with pytest.raises(MeshError, match="holds since 16 s, longer than max_age_s 10"):
        await store.age_of(1, view)


async def test_that_a_row_is_nowhere_is_remembered_for_a_second_only() -> None:
    store = Store()
    for _ in range(2):
        with pytest.raises(MeshError) as caught:
            await store.age_of(77)
        assert caught.value.reason is Reason.FEATURE_MISSING
    assert store.memory.reads == [["77"]]
    store.put(77, {"age": 7, "ctr": 0.0})
    await asyncio.sleep(1)
    assert await store.age_of(77) == 7
    assert (store.counts.absent, store.counts.missing) == (1, 4)


async def test_a_slow_store_is_given_up_at_the_deadline_and_its_late_row_serves_the_next() -> None:
    store = Store(delay_s=0.030)
    with pytest.raises(MeshError) as caught:
        await store.age_of(1)
    assert asyncio.get_running_loop().time() == pytest.approx(0.010)
    assert caught.value.reason is Reason.FEATURE_STORE_UNAVAILABLE
    assert "did not answer within 10 ms" in caught.value.message
    await asyncio.sleep(0.025)
    assert await store.age_of(1) == 21
    assert asyncio.get_running_loop().time() == pytest.approx(0.035)
    assert store.features.waiting == 0


async def test_a_large_request_has_a_tenth_of_a_millisecond_more_for_each_row() -> None:
    store = Store(delay_s=0.0105)
    joined = await store.features.join(joining(STATS), [{"user_id": user, "x": 1.0} for user in range(10)])
    assert [row["age"] for row in joined] == list(range(20, 30))


async def test_defaults_stand_in_for_a_slow_store_at_the_deadline() -> None:
    store = Store(delay_s=1.0)
    assert await store.age_of(1, WITH_DEFAULTS) == 0
    assert asyncio.get_running_loop().time() == pytest.approx(0.010)
    assert (store.counts.unanswered, store.counts.defaults) == (1, 2)


async def test_a_store_that_is_away_is_not_waited_for() -> None:
    store = Store()
    store.memory.problem = "is away"
    assert await store.age_of(1, WITH_DEFAULTS) == 0
    with pytest.raises(MeshError, match=r"its store \(redis\) is away; try again in 0.25 s"):
        await store.age_of(1)
    assert asyncio.get_running_loop().time() == 0
    assert store.memory.reads == []
    store.memory.problem = ""
    assert await store.age_of(1) == 21


async def test_a_store_that_fails_is_said_to_have_failed() -> None:
    store = Store()
    store.memory.fails = True
    with pytest.raises(MeshError, match="did not answer"):
        await store.age_of(1)
    assert asyncio.get_running_loop().time() == pytest.approx(0.001)


async def test_a_store_that_is_not_configured_names_the_setting() -> None:
    features = Features(stores={}, clock=LoopClock(EPOCH))
    with pytest.raises(MeshError, match="is not configured: the operator sets INFERMESH_BATCHER_REDIS_URL"):
        await features.join(joining(STATS), [{"user_id": 1, "x": 1.0}])
    with pytest.raises(MeshError, match="INFERMESH_BATCHER_FEAST_URL"):
        await features.join(joining(replace(STATS, store=FeatureStoreKind.FEAST)), [{"user_id": 1, "x": 1.0}])


async def test_more_rows_than_may_wait_are_not_waited_for() -> None:
    store = Store(waiting_max=2)
    ages = await asyncio.gather(*(store.age_of(user, WITH_DEFAULTS) for user in range(3)))
    assert ages == [20, 21, 0]


async def test_whoever_leaves_takes_nothing_from_those_who_wait_for_the_same_row() -> None:
    store = Store(delay_s=0.005)
    tasks = [asyncio.create_task(store.age_of(1), name=f"caller {number}") for number in range(3)]
    await asyncio.sleep(0.001)
    tasks[0].cancel()
    tasks[2].cancel()
    assert await tasks[1] == 21
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError, int, asyncio.CancelledError]


async def test_several_views_of_an_entity_are_read_together() -> None:
    store = Store()
    store.memory.put("user_vectors", "user_id", "1", {"embedding": [0.5, 0.25]}, at_s=None)
    (row,) = await store.features.join(joining(STATS, VECTORS), [{"user_id": 1, "x": 1.0}])
    assert row == {"x": 1.0, "age": 21, "ctr": 0.25, "embedding": [0.5, 0.25]}
    assert store.memory.reads == [["1", "1"]]


async def test_memory_is_bounded() -> None:
    store = Store(bytes_max=5000)
    await store.features.join(joining(STATS), [{"user_id": user, "x": 1.0} for user in range(10)])
    assert 0 < len(store.features.memory) < 10
    assert store.features.memory.bytes_held <= 5000


async def test_nothing_is_kept_where_keeping_is_off() -> None:
    store = Store(ttl_s=0)
    await store.age_of(1)
    await store.age_of(1)
    assert len(store.memory.reads) == 2


async def test_what_happened_is_counted_by_view() -> None:
    store = Store()
    await store.age_of(1)
    await store.age_of(1)
    await store.age_of(99, WITH_DEFAULTS)
    samples = {
        (sample.name, sample.labels.get("outcome", sample.labels.get("le", ""))): sample.value
        for family in feature_metrics(store.features, LabelSets())()
        for sample in family.samples
    }
    assert samples["model_feature_rows_total", "hits"] == 1
    assert samples["model_feature_rows_total", "fetched"] == 1
    assert samples["model_feature_rows_total", "absent"] == 1
    assert samples["model_feature_gaps_total", "defaults"] == 2
    assert samples["model_feature_retrieval_ms_bucket", "0.05"] == 1
    assert samples["model_feature_retrieval_ms_bucket", "+Inf"] == 3
    assert samples["model_feature_cache_rows", ""] == 2
