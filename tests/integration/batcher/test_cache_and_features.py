"""Predictions that are kept and features share no memory: a flood of the ones takes nothing from the others."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
import redis
from infermesh.client.errors import InfermeshError
from infermesh.client.feature_store import FeatureRow, FeatureStore

from services.batcher.adapters.redis_cache import RedisCache
from services.batcher.domain.cache_key import redis_key
from services.batcher.domain.request import InferResult, Tensor
from services.common.clock import SystemClock
from services.common.schema import DataType
from services.supervisor.parts.part import Part
from services.supervisor.ports import MeshPorts
from services.supervisor.settings import SupervisorSettings
from services.supervisor.wiring import build_stages
from tests.support.parts import running
from tests.support.waiting import eventually

MEMORY_MB = 16
ROW_BYTES = 16_384
ROWS_AT_ONCE = 64
FLOODS = 3 * MEMORY_MB * 1024 * 1024 // ROW_BYTES // ROWS_AT_ONCE
USERS = [str(number) for number in range(1000)]
pytestmark = pytest.mark.asyncio(loop_scope="module")


def url_of(part: Part, variable: str) -> str:
    return part.env[f"INFERMESH_BATCHER_{variable}"]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def batcher(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Part]:
    """A mesh's batcher, which is not started, with the stores that it is told of, which are."""
    folder = tmp_path_factory.mktemp("mesh")
    settings = SupervisorSettings(data_dir=folder, batchers=1, feature_memory_mb=MEMORY_MB, cache_memory_mb=MEMORY_MB)
    parts = {
        part.name: part for stage in build_stages(settings, MeshPorts.free(), clock=SystemClock()) for part in stage
    }
    async with running(parts["redis"]), running(parts["redis-cache"]):
        yield parts["batcher"]


def rows_of(url: str) -> list[str]:
    """The users whose features are there."""
    with redis.Redis.from_url(url) as client:
        return [user for user in USERS if client.hexists(f"features:user_id={user}", "stats")]


def evicted(url: str) -> int:
    with redis.Redis.from_url(url) as client:
        return int(client.info("stats")["evicted_keys"])


async def flood(url: str) -> None:
    """Keeps three times as much in predictions as the server may hold."""
    store = RedisCache(url, clock=SystemClock(), read_timeout_s=1.0)
    tasks = [asyncio.create_task(run(), name=run.__name__) for run in (store.serve_reads, store.serve_writes)]
    row = InferResult((Tensor("y", DataType.UINT8, (1, ROW_BYTES), bytes(ROW_BYTES)),))
    try:
        await eventually(lambda: store.writes, what="the server is connected")
        for turn in range(FLOODS):
            for number in range(turn * ROWS_AT_ONCE, (turn + 1) * ROWS_AT_ONCE):
                store.write(redis_key("m", "v1.0.0", number.to_bytes(32, "big")), row, left_s=3600)
            await eventually(lambda: not store.queued, what="a part is taken", every_s=0.001)
        await eventually(lambda: store.counts.written == FLOODS * ROWS_AT_ONCE, what="all is written")
        assert store.counts.dropped == 0
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_flood_of_predictions_takes_no_feature(batcher: Part) -> None:
    features, predictions = url_of(batcher, "FEATURE_REDIS_URL"), url_of(batcher, "REDIS_URL")
    with FeatureStore(features) as store:
        store.put("stats", "user_id", [FeatureRow(user, {"age": 41}) for user in USERS])
    await flood(predictions)
    assert evicted(predictions) > 0, "it was a flood"
    assert rows_of(features) == USERS
    assert evicted(features) == 0


async def test_features_that_fill_their_store_are_refused_and_take_nothing_that_is_there(batcher: Part) -> None:
    features = url_of(batcher, "FEATURE_REDIS_URL")
    with FeatureStore(features) as store:
        store.put("stats", "user_id", [FeatureRow(user, {"age": 41}) for user in USERS])
        large = {"text": "x" * ROW_BYTES}
        too_many = [FeatureRow(f"large-{place}", large) for place in range(2 * MEMORY_MB * 1024 * 1024 // ROW_BYTES)]
        with pytest.raises(InfermeshError, match="memory is full") as caught:
            store.put("stats", "user_id", too_many)
        assert "INFERMESH_FEATURE_MEMORY_MB" in caught.value.advice
        assert "--ttl" in caught.value.advice
        assert rows_of(features) == USERS
        assert evicted(features) == 0
        assert store.delete("user_id", "large-0") == 1, "and what is there may go"
