"""What one router changes, another one knows within a second; in virtual time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from services.common.clock import LoopClock
from services.common.errors import MeshError, Reason
from services.router.domain.rules import NewChange, Split
from services.router.domain.wishes import SplitWish
from services.router.engines.changing import Call
from services.router.engines.rules import RuleBook
from tests.support.rollout_router import RolloutRouter, World
from tests.support.router_fakes import MemoryRuleStore, ready

pytestmark = pytest.mark.looptime
MODEL, OLD, NEW = "digits", "v1.0.0", "v1.1.0"


@asynccontextmanager
async def two_routers() -> AsyncIterator[tuple[RolloutRouter, RolloutRouter]]:
    """Over one store. Not a fixture: its time would be another one."""
    world = World(LoopClock(datetime(2026, 1, 15, 12, tzinfo=UTC)))
    world.deployer.put(ready(MODEL, OLD, NEW))
    routers = RolloutRouter(world, "router-0"), RolloutRouter(world, "router-1")
    for router in routers:
        await router.start()
    await asyncio.sleep(1.0)
    yield routers
    for router in routers:
        await router.die()


async def test_gateways_of_all_routers_have_a_change_within_a_second() -> None:
    async with two_routers() as (one, other):
        await one.traffic.update(Call(MODEL), SplitWish({OLD: 50, NEW: 50}))
        await asyncio.sleep(1.0)
        assert other.shares(MODEL) == {OLD: 50, NEW: 50}
        await one.traffic.roll_back(Call(MODEL), OLD)
        await asyncio.sleep(1.0)
        assert other.shares(MODEL) == {OLD: 100}


async def test_what_was_read_from_one_router_can_be_changed_at_another_at_once() -> None:
    async with two_routers() as (one, other):
        read = await one.traffic.update(Call(MODEL), SplitWish({OLD: 50, NEW: 50}))
        await other.traffic.update(Call(MODEL, etag=read.etag), SplitWish({OLD: 40, NEW: 60}))
        assert other.shares(MODEL) == {OLD: 40, NEW: 60}
        undone = await one.traffic.undo(Call(MODEL))
        assert undone.split == {OLD: 50, NEW: 50}
        # What this one believes to hold holds no more.
        again = await other.traffic.update(Call(MODEL), SplitWish({OLD: 40, NEW: 60}))
        assert (again.split, one.shares(MODEL)) == ({OLD: 40, NEW: 60}, {OLD: 50, NEW: 50})
        with pytest.raises(MeshError) as raised:
            await one.traffic.update(Call(MODEL, etag=read.etag), SplitWish({OLD: 100}))
        assert raised.value.reason is Reason.ETAG_MISMATCH


async def test_a_database_that_is_away_for_long_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    async with two_routers() as (one, _):
        for _ in range(2):
            caplog.clear()
            one.set_lines(cut=True)
            await asyncio.sleep(60.0)
            said = [record.getMessage() for record in caplog.records]
            assert len([text for text in said if "cannot be" in text]) == 3, said
            one.set_lines()
            await asyncio.sleep(10.0)


async def test_more_changes_than_are_looked_at_in_one_go_are_all_found() -> None:
    store = MemoryRuleStore(LoopClock(datetime(2026, 1, 15, 12, tzinfo=UTC)))
    book = RuleBook(store=store, period_s=1e9)

    async def changed(models: range) -> None:
        for number in models:
            split = Split({OLD: 100})
            await store.save(NewChange(f"model-{number}", "", "update", "", "", split, split), generation=0)

    await changed(range(3))
    await book.load()
    task = asyncio.create_task(book.run())
    await asyncio.sleep(1.0)
    await changed(range(3, 1200))
    await asyncio.sleep(1.0)
    assert len(book.rules) == 1200
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
