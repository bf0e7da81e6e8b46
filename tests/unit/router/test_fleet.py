"""Batchers that add themselves reach the gateways, in virtual time."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from services.common.clock import LoopClock
from services.router.domain.table import ServingTable
from services.router.engines.batchers import Batchers, Session
from services.router.engines.fleet import FleetKeeper
from tests.support.router_fakes import FakeGateways

pytestmark = [pytest.mark.looptime, pytest.mark.asyncio]


class Around:
    """A keeper with the grace of 30 s, and one configured batcher."""

    def __init__(self) -> None:
        clock = LoopClock(datetime(2026, 1, 1, tzinfo=UTC))
        self.batchers, self.gateways = Batchers(clock=clock), FakeGateways()
        self.batchers.tell(ServingTable(1))
        self.keeper = FleetKeeper(
            configured=["a:1"], batchers=self.batchers, gateways=self.gateways, clock=clock, grace_s=30.0
        )

    async def connect(self, address: str, *, error_message: str = "") -> Session:
        """A batcher that is there, and has taken the table unless it says what is wrong with it."""
        session = self.batchers.connect(f"batcher at {address}", address)
        await anext(self.batchers.steps(session))
        self.batchers.answer(session, acknowledged_revision=0 if error_message else 1, error_message=error_message)
        await asyncio.sleep(0.1)
        return session


@pytest.fixture
async def around() -> AsyncIterator[Around]:
    made = Around()
    task = asyncio.create_task(made.keeper.run(), name="fleet")
    await asyncio.sleep(0)
    yield made
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_the_settings_alone_are_nothing_to_tell(around: Around) -> None:
    await around.connect("a:1")
    assert list(around.gateways.batchers) == []
    assert around.keeper.addresses == ("a:1",)


async def test_who_has_not_taken_the_table_gets_nothing(around: Around) -> None:
    await around.connect("b:1", error_message="cannot read it")
    assert list(around.gateways.batchers) == []


async def test_who_left_is_dropped_after_the_grace_and_who_comes_back_is_not(around: Around) -> None:
    stays, leaves = await around.connect("b:1"), await around.connect("c:1")
    around.batchers.disconnect(leaves)
    await asyncio.sleep(29)
    assert list(around.gateways.batchers) == ["a:1", "b:1", "c:1"]
    back = await around.connect("c:1")
    await asyncio.sleep(100)
    assert list(around.gateways.batchers) == ["a:1", "b:1", "c:1"]
    around.batchers.disconnect(back)
    await asyncio.sleep(30.5)
    assert list(around.gateways.batchers) == ["a:1", "b:1"]
    around.batchers.disconnect(stays)
    await asyncio.sleep(10_000)
    assert list(around.gateways.batchers) == ["a:1", "b:1"], "a stream that ends does not prove the last batcher dead"


async def test_whoever_is_sent_to_and_not_connected_is_missed_by_name(around: Around) -> None:
    assert around.keeper.missed == [("", "a:1")]
    configured, other = await around.connect("a:1"), await around.connect("b:1")
    fresh = await around.connect("c:1", error_message="cannot read it")
    assert around.keeper.missed == []
    for session in (configured, other, fresh):
        around.batchers.disconnect(session)
    await around.connect("d:1")
    assert around.keeper.missed == [("batcher at a:1", "a:1"), ("batcher at b:1", "b:1")]
    await asyncio.sleep(31)
    assert around.keeper.missed == [("batcher at a:1", "a:1")], "gateways no longer send to the other"


async def test_an_address_that_nobody_can_reach_is_named_once(around: Around, caplog: pytest.LogCaptureFixture) -> None:
    await around.connect("0.0.0.0:8110")
    await around.connect("b:1")
    assert list(around.gateways.batchers) == ["a:1", "b:1"]
    assert caplog.text.count("0.0.0.0:8110") <= 2  # connected, and unreachable
