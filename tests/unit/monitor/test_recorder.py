"""The recorder: bounds, acknowledgements, what is kept row by row."""

import asyncio
from contextlib import aclosing
from dataclasses import replace

import pytest

from services.common.errors import MeshError, Reason
from services.monitor.domain.aggregate import MINUTE_US
from services.monitor.domain.log_rows import sampled_rows
from services.monitor.domain.records import Chunk, Labels, StreamKey
from services.monitor.engines.live import Live
from services.monitor.engines.recorder import Recorder
from services.monitor.engines.stream import RecorderLimits
from tests.support.clock import NOON, FakeClock
from tests.support.monitor_log import group_of
from tests.support.monitor_stores import MemoryStore, SilentBoard

STREAM = StreamKey("batcher-0", 1)
NOW_US = int(NOON.timestamp() * 1_000_000)


def recorder(store: MemoryStore, *, cells_max: int = 100, rows_max: int = 100, predictions_max: int = 100) -> Recorder:
    limits = RecorderLimits(
        flush_period_s=2.0, cells_max=cells_max, rows_max=rows_max, sample_rate=1.0, predictions_max=predictions_max
    )
    return Recorder(store=store, live=Live(), board=SilentBoard(), clock=FakeClock(), reason_name=str, limits=limits)


def chunk(sequence: int, *, size: int = 1, minutes_ago: int = 0) -> Chunk:
    times_us = [NOW_US - minutes_ago * MINUTE_US] * size
    group = group_of([1000] * size, times_us=times_us)
    return Chunk(STREAM, sequence, dropped_total=7, groups=[group], refused_groups=0)


@pytest.mark.looptime
async def test_chunks_are_acknowledged_when_they_are_stored() -> None:
    store = MemoryStore()
    taking = recorder(store)
    session = await taking.open(STREAM)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(taking.run())
        async with aclosing(session.acknowledgements()) as acknowledgements:
            assert await anext(acknowledgements) == 0
            await session.take(chunk(1))
            await session.take(chunk(2))
            assert store.positions == {}
            assert await anext(acknowledgements) == 2
            assert asyncio.get_running_loop().time() == pytest.approx(2.0, abs=0.01)
        running.cancel()


@pytest.mark.looptime
async def test_an_ended_stream_does_not_wait_for_the_period() -> None:
    taking = recorder(MemoryStore())
    session = await taking.open(STREAM)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(taking.run())
        await session.take(chunk(1))
        await session.end()
        assert [sequence async for sequence in session.acknowledgements()][-1] == 1
        assert asyncio.get_running_loop().time() < 0.1
        running.cancel()


@pytest.mark.looptime
async def test_a_full_memory_stops_reading_until_there_is_room() -> None:
    store = MemoryStore()
    taking = recorder(store, cells_max=2)
    session = await taking.open(STREAM)
    for sequence, minutes_ago in ((1, 0), (2, 1)):
        await session.take(chunk(sequence, minutes_ago=minutes_ago))
    waiting = asyncio.create_task(session.take(chunk(3)))
    await asyncio.sleep(10)
    assert not waiting.done()
    await taking.flush()
    await waiting
    store.fail_next = ["before"] * 9
    await session.take(chunk(4, minutes_ago=2))
    with pytest.raises(MeshError, match="took nothing for 30 s") as caught:
        await session.take(chunk(5))
    assert caught.value.reason is Reason.DEPENDENCY_UNAVAILABLE


@pytest.mark.looptime
async def test_requests_under_test_are_held_back_and_never_dropped() -> None:
    store = MemoryStore()
    taking = recorder(store, rows_max=0, predictions_max=5)
    session = await taking.open(STREAM)
    under_test = replace(chunk(1, size=7).groups[0], labels=[Labels(["cat"])] * 7)
    await session.take(replace(chunk(1), groups=[under_test]))
    waiting = asyncio.create_task(session.take(replace(chunk(2), groups=[under_test])))
    await asyncio.sleep(10)
    assert not waiting.done()
    await taking.flush()
    await waiting
    await taking.flush()
    assert len(store.under_test) == 7
    assert store.rows == []


async def test_a_drain_takes_no_more_and_says_so() -> None:
    store = MemoryStore()
    taking = recorder(store)
    session = await taking.open(STREAM)
    await session.take(chunk(1))
    await taking.drain()
    assert store.positions == {STREAM: 1}
    for refused in (session.take(chunk(2)), taking.open(STREAM)):
        with pytest.raises(MeshError) as caught:
            await refused
        assert caught.value.reason is Reason.SHUTTING_DOWN


async def test_rows_are_bounded_and_counts_are_not() -> None:
    store = MemoryStore()
    taking = recorder(store, rows_max=5)
    session = await taking.open(STREAM)
    await session.take(chunk(1, size=50))
    await taking.flush()
    assert len(store.rows) == 5
    assert [cell.counts["request_count", ""] for cell in store.cells.values()] == [50]


def test_failed_requests_are_always_kept_and_others_by_their_id() -> None:
    group = group_of([1000] * 1000, times_us=[NOW_US] * 1000, codes=[0] * 998 + [8, 8], reasons=[0] * 998 + [403, 403])
    rows = list(sampled_rows(group, sample_rate=0.1, now_us=NOW_US, reason_name=str))
    assert [row.error_message for row in rows[-2:]] == ["403", "403"]
    assert 60 <= len(rows) <= 140
    assert rows == list(sampled_rows(group, sample_rate=0.1, now_us=NOW_US, reason_name=str))
    assert len(list(sampled_rows(group, sample_rate=0.0, now_us=NOW_US, reason_name=str))) == 2
