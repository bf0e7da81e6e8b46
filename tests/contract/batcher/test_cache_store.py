"""What the prediction cache relies on in its second layer: the same of Redis and of the fake."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

import pytest

from services.batcher.adapters.redis_cache import RedisCache
from services.batcher.domain.request import InferResult, Tensor
from services.batcher.engines.cache_ports import AnswerStore, Stored
from services.common.clock import SystemClock
from services.common.schema import DataType
from tests.support.batcher_cache_fakes import FakeStore, answer
from tests.support.waiting import eventually

CLOCK = SystemClock()


class Stage(Protocol):
    """A store, ready."""

    store: AnswerStore


class FakeStage:
    """In memory."""

    def __init__(self) -> None:
        self.store: AnswerStore = FakeStore(CLOCK)


class RealStage:
    """Valkey."""

    def __init__(self, store: RedisCache) -> None:
        self.store: AnswerStore = store


@pytest.fixture(params=["fake", "redis"])
async def stage(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[Stage]:
    if request.param == "fake":
        yield FakeStage()
        return
    store = RedisCache(redis_url, clock=CLOCK, read_timeout_s=5.0)
    tasks = [asyncio.create_task(run(), name=run.__name__) for run in (store.serve_reads, store.serve_writes)]
    await eventually(lambda: store.reads and store.writes, what="both connections are up")
    yield RealStage(store)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def new_key() -> str:
    return f"pred:m:v1.0.0:{secrets.token_hex(32)}"


async def read(stage: Stage, *keys: str) -> Sequence[Stored | None]:
    reading = stage.store.read(keys)
    assert reading is not None
    return await reading


async def stored(stage: Stage, key: str) -> Stored:
    async def look() -> Stored | None:
        return (await read(stage, key))[0]

    found = await eventually(look, what="it is stored")
    assert found is not None
    return found


async def test_what_nobody_wrote_is_missing(stage: Stage) -> None:
    assert await read(stage, new_key(), new_key()) == [None, None]


async def test_what_was_written_comes_back_with_the_time_it_has_left(stage: Stage) -> None:
    key = new_key()
    stage.store.write(key, answer([3]), left_s=100.0)
    found = await stored(stage, key)
    assert found.result == answer([3])
    assert 0 < found.left_s <= 100.0


async def test_every_key_gets_its_own(stage: Stage) -> None:
    keys = [new_key() for _ in range(40)]
    for number, key in enumerate(keys[:30]):
        stage.store.write(key, answer([number]), left_s=100.0)
    for key in keys[:30]:
        await stored(stage, key)
    reads = [read(stage, key, keys[39 - place]) for place, key in enumerate(keys)]
    for place, found in enumerate(await asyncio.gather(*reads)):
        wanted = [answer([number]) if number < 30 else None for number in (place, 39 - place)]
        assert [one.result if one is not None else None for one in found] == wanted


async def test_later_writes_replace_earlier_ones(stage: Stage) -> None:
    key = new_key()
    stage.store.write(key, answer([1]), left_s=100.0)
    await stored(stage, key)
    stage.store.write(key, answer([2]), left_s=100.0)
    await eventually(lambda: _is(stage, key, answer([2])))


async def _is(stage: Stage, key: str, wanted: InferResult) -> bool:
    found = (await read(stage, key))[0]
    return found is not None and found.result == wanted


async def test_what_is_over_is_gone(stage: Stage) -> None:
    key, kept = new_key(), new_key()
    stage.store.write(key, answer([1]), left_s=0.3)
    stage.store.write(kept, answer([1]), left_s=100.0)
    await stored(stage, kept)

    async def gone() -> bool:
        return (await read(stage, key))[0] is None

    await eventually(gone)


async def test_a_reader_that_leaves_harms_nobody(stage: Stage) -> None:
    key = new_key()
    stage.store.write(key, answer([1]), left_s=100.0)
    await stored(stage, key)
    leaving = asyncio.create_task(read(stage, key), name="leaving")
    staying = asyncio.create_task(read(stage, key), name="staying")
    await asyncio.sleep(0)
    leaving.cancel()
    found = (await staying)[0]
    assert found is not None
    assert found.result == answer([1])
    with contextlib.suppress(asyncio.CancelledError):
        await leaving


async def test_data_of_any_bytes_comes_back(stage: Stage) -> None:
    key = new_key()
    data = bytes(range(256)) * 200 + b"\r\n$5\r\n"
    result = InferResult((Tensor("y", DataType.UINT8, (1, len(data)), data), Tensor("é", DataType.BOOL, (1, 0), b"")))
    stage.store.write(key, result, left_s=100.0)
    assert (await stored(stage, key)).result == result
