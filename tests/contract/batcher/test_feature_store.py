"""What joining features relies on in a store: the same of Redis, written to by the client, and of the fake."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol

import pytest
import redis
from infermesh.client.feature_store import FeatureRow, FeatureStore

from services.batcher.adapters.redis_features import RedisFeatures
from services.batcher.domain.feature_views import Lookup, StoredRow
from services.batcher.engines.feature_ports import FeatureStore as Port
from services.common.clock import SystemClock
from services.common.feature_view import FeatureView
from tests.support.batcher_feature_fakes import STATS, VECTORS, MemoryFeatures, joining
from tests.support.waiting import eventually

CLOCK = SystemClock()


class Stage(Protocol):
    """A store, ready, and a way to write to it."""

    store: Port

    def put(
        self, view: FeatureView, entity_id: str, values: Mapping[str, object], *, at_s: float = ..., team: str = ...
    ) -> None: ...


class FakeStage:
    """In memory."""

    def __init__(self) -> None:
        self._memory = MemoryFeatures(CLOCK)
        self.store: Port = self._memory

    def put(
        self, view: FeatureView, entity_id: str, values: Mapping[str, object], *, at_s: float = 1.0, team: str = ""
    ) -> None:
        self._memory.put(view.name, view.entity, entity_id, values, at_s=at_s, team=team)


class RealStage:
    """Valkey."""

    def __init__(self, store: RedisFeatures, url: str) -> None:
        self.store: Port = store
        self._url = url

    def put(
        self, view: FeatureView, entity_id: str, values: Mapping[str, object], *, at_s: float = 1.0, team: str = ""
    ) -> None:
        with FeatureStore(self._url, team=team) as writer:
            assert writer.put(view.name, view.entity, [FeatureRow(entity_id, values, at_s)]) == 1


@pytest.fixture
async def redis_store(redis_url: str) -> AsyncIterator[RedisFeatures]:
    """Over Valkey, connected."""
    store = RedisFeatures(redis_url, clock=CLOCK)
    assert store.problem == "is away", "nobody is kept waiting before it is connected"
    task = asyncio.create_task(store.serve(), name="features")
    await eventually(lambda: not store.problem, what="the connection is up")
    yield store
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.fixture(params=["fake", "redis"])
def stage(request: pytest.FixtureRequest, redis_url: str, redis_store: RedisFeatures) -> Stage:
    return FakeStage() if request.param == "fake" else RealStage(redis_store, redis_url)


def lookups(*ids: str, team: str = "", views: Sequence[FeatureView] = (STATS,)) -> list[Lookup]:
    rows = [{"user_id": entity_id, "x": 1.0} for entity_id in ids]
    return joining(*views, team=team).lookups(rows)


async def read(store: Port, wanted: Sequence[Lookup]) -> list[tuple[Mapping[str, object], float | None] | None]:
    rows = await store.read(wanted)
    assert rows is not None
    return [(row.values, row.at_s) if row is not None else None for row in rows]


def new_id() -> str:
    return secrets.token_hex(8)


async def test_rows_come_in_the_order_that_was_asked_for_and_none_where_there_is_none(stage: Stage) -> None:
    one, two, nobody = new_id(), new_id(), new_id()
    stage.put(STATS, one, {"age": 41, "ctr": 0.25}, at_s=1000.5)
    stage.put(STATS, two, {"age": 7})
    assert await read(stage.store, lookups(two, nobody, one)) == [
        ({"age": 7}, 1.0),
        None,
        ({"age": 41, "ctr": 0.25}, 1000.5),
    ]


async def test_views_of_one_entity_are_rows_of_their_own(stage: Stage) -> None:
    one = new_id()
    stage.put(STATS, one, {"age": 1, "ctr": 1.0}, at_s=5.0)
    stage.put(VECTORS, one, {"embedding": [0.5, 0.25]}, at_s=6.0)
    stage.put(STATS, one, {"age": 2, "ctr": 1.0}, at_s=7.0)
    assert await read(stage.store, lookups(one, views=(STATS, VECTORS))) == [
        ({"age": 2, "ctr": 1.0}, 7.0),
        ({"embedding": [0.5, 0.25]}, 6.0),
    ]


async def test_teams_and_entities_do_not_see_each_other(stage: Stage) -> None:
    one = new_id()
    stage.put(STATS, one, {"age": 1}, team="blue")
    item = FeatureView("user_stats", "item_id", {"age": "int"})
    stage.put(item, one, {"age": 3})
    assert await read(stage.store, lookups(one)) == [None]
    assert await read(stage.store, lookups(one, team="red")) == [None]
    assert await read(stage.store, lookups(one, team="blue")) == [({"age": 1}, 1.0)]


@pytest.mark.parametrize("entity_id", ["a=b", "blue/user_id=1", "ünïcode", "with space", "x" * 512, "*"])
async def test_any_text_is_an_id(stage: Stage, entity_id: str) -> None:
    unique = f"{entity_id[:500]}{new_id()[:6]}"
    stage.put(STATS, unique, {"age": 1})
    assert await read(stage.store, lookups(unique)) == [({"age": 1}, 1.0)]


async def test_reads_of_any_size_come_whole_and_to_whom_they_belong(stage: Stage) -> None:
    base = new_id()
    for number in range(300):
        stage.put(STATS, f"{base}-{number}", {"age": number})
    small = [stage.store.read(lookups(f"{base}-{number}")) for number in range(300)]
    large = stage.store.read(lookups(*(f"{base}-{number}" for number in range(300))))
    for number, future in enumerate(small):
        rows = await future
        assert rows is not None
        assert [row.values for row in rows if row] == [{"age": number}]
    assert [row.values for row in await large or () if row] == [{"age": number} for number in range(300)]


async def test_whoever_leaves_harms_nobody(stage: Stage) -> None:
    one = new_id()
    stage.put(STATS, one, {"age": 1})
    gone, stays = stage.store.read(lookups(one)), stage.store.read(lookups(one))
    gone.cancel()
    rows = await stays
    assert rows is not None
    assert [row.values for row in rows if row] == [{"age": 1}]


async def test_what_is_no_row_counts_as_none(redis_store: RedisFeatures, redis_url: str) -> None:
    one, two, three = new_id(), new_id(), new_id()
    with redis.Redis.from_url(redis_url) as client:
        client.set(f"features:user_id={one}", "a text")
        client.hset(f"features:user_id={two}", "user_stats", "no JSON")
        client.hset(f"features:user_id={three}", "user_stats", '{"features": [1]}')
    assert await read(redis_store, lookups(one, two, three)) == [None, None, None]
    assert redis_store.foreign == 3
    assert not redis_store.problem


async def test_a_row_that_an_operator_wrote_by_hand_is_read(redis_store: RedisFeatures, redis_url: str) -> None:
    one = new_id()
    with redis.Redis.from_url(redis_url) as client:
        client.execute_command(
            "HSET", f"features:user_id={one}", "user_stats", '{"at": 1769000000, "features": {"age": 41}}'
        )
    (row,) = await redis_store.read(lookups(one)) or ()
    assert isinstance(row, StoredRow)
    assert (row.values, row.at_s) == ({"age": 41}, 1769000000.0)


def test_the_writer_sets_a_lifetime_and_never_shortens_it(redis_url: str) -> None:
    one = new_id()
    with redis.Redis.from_url(redis_url) as client, FeatureStore(redis_url) as writer:
        key = f"features:user_id={one}"
        writer.put("a", "user_id", [FeatureRow(one, {"age": 1})])
        assert 295 <= client.ttl(key) <= 300
        writer.put("b", "user_id", [FeatureRow(one, {"age": 1})], ttl_s=1000)
        writer.put("a", "user_id", [FeatureRow(one, {"age": 2})], ttl_s=10)
        assert 995 <= client.ttl(key) <= 1000
        writer.put("a", "user_id", [FeatureRow(one, {"age": 3})], ttl_s=0)
        assert client.ttl(key) == -1
        stored = writer.get("user_id", one)
        assert {view: row.features for view, row in stored.items()} == {"a": {"age": 3}, "b": {"age": 1}}
        assert 0 <= stored["a"].age_s < 60
        assert writer.delete("user_id", one, "a") == 1
        assert writer.delete("user_id", one) == 1
        assert writer.get("user_id", one) == {}
