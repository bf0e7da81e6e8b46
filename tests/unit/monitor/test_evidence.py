"""The evidence engine: what it refuses, how watches share reads, what they see where the database fails."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from datetime import datetime, timedelta

import pytest

from services.common.clock import LoopClock
from services.common.errors import MeshError, Reason
from services.monitor.domain.evidence import Sums, WatchKey, check_start, head_end
from services.monitor.engines.evidence import EvidenceEngine
from tests.support.clock import NOON
from tests.support.monitor_evidence import MemoryEvidenceStore
from tests.support.monitor_stores import MemoryStore

START = NOON - timedelta(seconds=30)


class CountedReads(MemoryEvidenceStore):
    """Counts reads; fails while asked to."""

    def __init__(self) -> None:
        super().__init__(MemoryStore())
        self.reads: list[int] = []
        self.away = False

    async def read(self, keys: Sequence[WatchKey], *, now: datetime) -> Mapping[WatchKey, Sums]:
        if self.away:
            raise MeshError(Reason.DEPENDENCY_UNAVAILABLE, "the monitor's database does not answer")
        self.reads.append(len(keys))
        return await super().read(keys, now=now)


async def watch_for(engine: EvidenceEngine, model: str, *, answers: int, period_s: float = 2.0) -> list[datetime]:
    """The ends of the first windows that a watch is told."""
    ends = []
    async with aclosing(engine.watch(model, ["v1.0.0"], start=START, period_s=period_s)) as watched:
        async for evidence in watched:
            ends.append(evidence.window_end)
            if len(ends) == answers:
                break
    return ends


@pytest.mark.looptime
async def test_a_hundred_watches_cost_a_few_reads() -> None:
    store = CountedReads()
    engine = EvidenceEngine(store=store, clock=LoopClock(NOON), flush_period_s=2.0)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(engine.run())
        watches = [group.create_task(watch_for(engine, f"model-{place % 50}", answers=6)) for place in range(100)]
        await asyncio.gather(*watches)
        assert asyncio.get_running_loop().time() < 13
        running.cancel()
    assert max(store.reads) <= 50
    assert len(store.reads) <= 26
    assert sum(store.reads) <= 50 * 7


@pytest.mark.looptime
async def test_windows_end_where_all_is_stored() -> None:
    engine = EvidenceEngine(store=CountedReads(), clock=LoopClock(NOON), flush_period_s=2.0)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(engine.run())
        ends = await watch_for(engine, "digits", answers=3)
        running.cancel()
    assert ends == [NOON - timedelta(seconds=3), NOON - timedelta(seconds=1), NOON + timedelta(seconds=1)]


@pytest.mark.looptime
async def test_a_watch_ends_where_the_database_is_away_and_can_be_made_again() -> None:
    store = CountedReads()
    engine = EvidenceEngine(store=store, clock=LoopClock(NOON), flush_period_s=2.0)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(engine.run())
        assert len(await watch_for(engine, "digits", answers=1)) == 1
        store.away = True
        with pytest.raises(MeshError) as caught:
            await watch_for(engine, "digits", answers=1)
        assert caught.value.reason is Reason.DEPENDENCY_UNAVAILABLE
        store.away = False
        assert len(await watch_for(engine, "digits", answers=2)) == 2
        running.cancel()


@pytest.mark.parametrize(
    ("model", "versions", "start", "field"),
    [
        ("No Name", ["v1.0.0"], START, "model_name"),
        ("digits", [], START, "versions"),
        ("digits", ["v1.0.0"] * 17, START, "versions"),
        ("digits", ["v1.0.0", "two"], START, "versions[1]"),
        ("digits", ["v1.0.0"], None, "start_time"),
        ("digits", ["v1.0.0"], NOON - timedelta(days=91), "start_time"),
        ("digits", ["v1.0.0"], NOON + timedelta(days=1), "start_time"),
    ],
)
async def test_a_wrong_question_is_refused(model: str, versions: list[str], start: datetime | None, field: str) -> None:
    engine = EvidenceEngine(store=CountedReads(), clock=LoopClock(NOON), flush_period_s=2.0)
    with pytest.raises(MeshError) as caught:
        await anext(engine.watch(model, versions, start=start, period_s=2.0))
    assert [violation.field for violation in caught.value.violations] == [field]


def test_a_window_begins_at_a_whole_second() -> None:
    moment = NOON + timedelta(seconds=3, microseconds=999_999)
    assert check_start(moment, NOON) == NOON + timedelta(seconds=3)
    assert head_end(NOON + timedelta(seconds=3)) == NOON + timedelta(minutes=1)
    assert head_end(NOON) == NOON
