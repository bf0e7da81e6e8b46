"""The prediction cache's second layer over a real Valkey that dies, stops, fills up and comes back."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import redis

from services.batcher.adapters.redis_cache import RedisCache
from services.batcher.domain.cached import CacheOptions, CacheOutcome
from services.batcher.engines.cache import PredictionCache
from services.common.clock import SystemClock
from services.common.errors import MeshError, Reason
from services.supervisor.parts.part import Part
from services.supervisor.parts.valkey import valkey_part
from tests.support.batcher_cache_fakes import FakeModel, answer, request
from tests.support.parts import free_port, running
from tests.support.standing_still import standing_still
from tests.support.waiting import eventually

CLOCK = SystemClock()
FAR = 1e9
SLOW_S = 1.0
"""Far more than a read may take, far less than what would be noticed of a wait without an end."""


def part_in(folder: Path) -> Part:
    return valkey_part(port=free_port(), data_dir=folder, log_path=folder / "redis.log")


@asynccontextmanager
async def connected(url: str, *, read_timeout_s: float = 0.5) -> AsyncIterator[RedisCache]:
    """A store whose two tasks run."""
    store = RedisCache(url, clock=CLOCK, read_timeout_s=read_timeout_s)
    tasks = [asyncio.create_task(run(), name=run.__name__) for run in (store.serve_reads, store.serve_writes)]
    try:
        yield store
    finally:
        for task in tasks:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)


def up(store: RedisCache) -> bool:
    return store.reads and store.writes


async def ask(cache: PredictionCache, number: int) -> tuple[CacheOutcome, float]:
    """Asks, checks the answer; where it came from and how long it took."""
    began_s = CLOCK.monotonic()
    answered = await cache.infer(request([number], deadline_s=FAR))
    assert answered.result == answer([number])
    return answered.outcome, CLOCK.monotonic() - began_s


async def wrote(store: RedisCache, count: int) -> None:
    await eventually(lambda: store.counts.written == count, what="the answer is written")


def cache_over(store: RedisCache, model: FakeModel) -> PredictionCache:
    return PredictionCache(engine=model, clock=CLOCK, options=CacheOptions(), store=store)


async def test_another_process_finds_what_one_computed(tmp_path: Path) -> None:
    part = part_in(tmp_path)
    url = f"redis://127.0.0.1:{part.ports['redis']}/0"
    async with running(part), connected(url) as store, connected(url) as other:
        await eventually(lambda: up(store) and up(other))
        model = FakeModel(CLOCK, latency_s=0.001)
        assert (await ask(cache_over(store, model), 7))[0] is CacheOutcome.MISS
        await eventually(lambda: store.counts.written == 1)
        assert (await ask(cache_over(other, model), 7))[0] is CacheOutcome.HIT
        assert model.asked == [[7]]
        with redis.Redis.from_url(url) as client:
            (key,) = client.keys("pred:m:v1.0.0:*")
            assert 3_590_000 < client.pttl(key) <= 3_600_000


async def test_a_valkey_that_dies_and_comes_back_is_never_an_error(tmp_path: Path) -> None:
    part = part_in(tmp_path)
    url = f"redis://127.0.0.1:{part.ports['redis']}/0"
    model = FakeModel(CLOCK, latency_s=0.001)
    async with connected(url) as store:
        cache = cache_over(store, model)
        # It is not there yet.
        assert (await ask(cache, 1))[0] is CacheOutcome.MISS
        async with running(part) as process:
            await eventually(lambda: up(store))
            assert (await ask(cache, 2))[0] is CacheOutcome.MISS
            await eventually(lambda: store.counts.written == 1)
            os.kill(process.pid, signal.SIGKILL)
            await process.wait()
            took = [await ask(cache, number) for number in range(10, 30)]
            assert {outcome for outcome, _ in took} == {CacheOutcome.MISS}
            assert max(seconds for _, seconds in took) < SLOW_S
        assert store.counts.skipped > 0
        assert store.counts.errors > 0
        async with running(part):
            await eventually(lambda: up(store))
            assert (await ask(cache, 40))[0] is CacheOutcome.MISS
            await eventually(lambda: store.counts.written >= 2)
            assert (await ask(cache_over(store, model), 40))[0] is CacheOutcome.HIT


async def test_a_valkey_that_stands_still_costs_one_short_wait_and_then_nothing(tmp_path: Path) -> None:
    part = part_in(tmp_path)
    url = f"redis://127.0.0.1:{part.ports['redis']}/0"
    model = FakeModel(CLOCK, latency_s=0.001)
    async with running(part) as process, connected(url, read_timeout_s=0.1) as store:
        await eventually(lambda: up(store))
        cache = cache_over(store, model)
        with standing_still(process.pid):
            # All that come at once wait together, once.
            began_s = CLOCK.monotonic()
            took = await asyncio.gather(*[ask(cache, number) for number in range(50)])
            assert {outcome for outcome, _ in took} == {CacheOutcome.MISS}
            assert CLOCK.monotonic() - began_s < SLOW_S
            assert not store.reads
            asked_until_now = store.counts.skipped
            for number in range(100, 150):
                outcome, seconds = await ask(cache, number)
                assert outcome is CacheOutcome.MISS
                assert seconds < SLOW_S
            assert store.counts.skipped >= asked_until_now + 50
        await eventually(lambda: up(store), what="the probe finds it back")


async def test_what_others_left_under_our_keys_is_not_used(tmp_path: Path) -> None:
    part = part_in(tmp_path)
    url = f"redis://127.0.0.1:{part.ports['redis']}/0"
    model = FakeModel(CLOCK, latency_s=0.001)
    async with running(part), connected(url) as store:
        await eventually(lambda: up(store))
        await ask(cache_over(store, model), 1)
        await eventually(lambda: store.counts.written == 1)
        with redis.Redis.from_url(url) as client:
            (key,) = client.keys("pred:*")
            for place, value in enumerate((b"", b"\x80\x04pickled", b"IMA\x01" + b"\xff" * 30)):
                client.set(key, value)
                assert (await ask(cache_over(store, model), 1))[0] is CacheOutcome.MISS
                await wrote(store, place + 2)
            client.delete(key)
            client.lpush(key, b"a list")
        # MGET answers nothing for what is no text.
        assert (await ask(cache_over(store, model), 1))[0] is CacheOutcome.MISS
        assert store.counts.foreign == 3
        assert up(store)


async def test_a_full_valkey_that_may_not_forget_refuses_and_nobody_notices(tmp_path: Path) -> None:
    part = part_in(tmp_path)
    url = f"redis://127.0.0.1:{part.ports['redis']}/0"
    model = FakeModel(CLOCK, latency_s=0.001)
    async with running(part), connected(url) as store:
        await eventually(lambda: up(store))
        with redis.Redis.from_url(url) as client:
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", "1")
        assert (await ask(cache_over(store, model), 1))[0] is CacheOutcome.MISS
        await eventually(lambda: store.counts.dropped == 1)
        assert (store.counts.written, up(store)) == (0, True)


async def test_the_queue_of_writes_is_bounded(tmp_path: Path) -> None:
    part = part_in(tmp_path)
    url = f"redis://127.0.0.1:{part.ports['redis']}/0"
    async with running(part), connected(url) as store:
        await eventually(lambda: up(store))
        for number in range(5000):
            store.write(f"pred:m:v1.0.0:{number}", answer([number]), left_s=60.0)
        assert (store.queued, store.counts.dropped) == (4096, 904)
        await eventually(lambda: store.counts.written == 4096)
        assert store.queued == 0


async def test_a_password_is_used_and_shown_nowhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    part = part_in(tmp_path)
    port = part.ports["redis"]
    model = FakeModel(CLOCK, latency_s=0.001)
    async with running(part):
        with redis.Redis(port=port) as client:
            client.config_set("requirepass", "s3cret")
            async with (
                connected(f"redis://:s3cret@127.0.0.1:{port}/0") as store,
                connected(f"redis://:wr0ng@127.0.0.1:{port}/0") as wrong,
            ):
                await eventually(lambda: up(store) and wrong.counts.errors >= 2)
                assert not wrong.reads
                assert (await ask(cache_over(store, model), 1))[0] is CacheOutcome.MISS
            # The part's probe knows no password.
            client.config_set("requirepass", "")
    assert "s3cret" not in caplog.text
    assert "wr0ng" not in caplog.text


@pytest.mark.parametrize("url", ["http://user:s3cret@h:1", "redis//nonsense-s3cret", "redis://h:port-s3cret"])
def test_a_wrong_url_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(MeshError) as caught:
        RedisCache(url, clock=CLOCK)
    assert caught.value.reason is Reason.INVALID_FIELD
    assert "INFERMESH_BATCHER_REDIS_URL" in caught.value.message
    assert "s3cret" not in caught.value.message
