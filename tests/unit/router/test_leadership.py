"""Who leads, in virtual time: one at a time by the store's token, soon after a death, at once after a stop."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from services.common.clock import LoopClock
from services.router.domain.rollouts import ROLLOUTS_LEASE
from services.router.engines.leadership import Leadership
from tests.support.rollout_fakes import MemoryLeases
from tests.support.rollout_router import Line

pytestmark = pytest.mark.looptime


class SlowClock(LoopClock):
    """A clock that may stand still, as that of a process that is stopped, or of a machine that sleeps."""

    behind_s = 0.0

    def monotonic(self) -> float:
        """Later by what it missed."""
        return super().monotonic() - self.behind_s


@dataclass
class Candidate:
    """One, with its line to the store and its own clock."""

    leadership: Leadership
    line: Line
    clock: SlowClock
    task: asyncio.Task[None]
    changes: list[bool]

    async def dies(self) -> None:
        """Nothing is said to anybody."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


class Field:
    """Candidates over one store."""

    def __init__(self) -> None:
        self.clock = LoopClock(datetime(2026, 1, 15, tzinfo=UTC))
        self.leases = MemoryLeases(self.clock)
        self.all: list[Candidate] = []

    def add(self) -> Candidate:
        """Another one, which tries."""
        line, clock = Line(self.leases), SlowClock(datetime(2026, 1, 15, tzinfo=UTC))
        leases: Any = line
        leadership = Leadership(leases=leases, holder=f"router-{len(self.all)}", clock=clock)
        changes: list[bool] = []
        leadership.on_change(lambda: changes.append(leadership.leader))
        task = asyncio.create_task(leadership.run(), name="candidate")
        self.all.append(Candidate(leadership, line, clock, task, changes))
        return self.all[-1]

    def leaders(self) -> list[Candidate]:
        """Those who believe that they lead."""
        return [one for one in self.all if one.leadership.leader and not one.task.done()]


@asynccontextmanager
async def opened() -> AsyncIterator[Field]:
    """A field. Not a fixture: its time would be another one than the test's."""
    made = Field()
    yield made
    for candidate in made.all:
        await candidate.dies()


async def test_one_leads_and_goes_on_leading() -> None:
    async with opened() as field:
        first, second = field.add(), field.add()
        await asyncio.sleep(120.0)
        assert field.leaders() == [first]
        assert (first.changes, second.changes) == ([True], [])
        assert first.leadership.token == 1


async def test_after_a_death_another_leads_within_the_lease() -> None:
    async with opened() as field:
        first, second = field.add(), field.add()
        await asyncio.sleep(10.1)
        await first.dies()
        await asyncio.sleep(3.0)
        assert field.leaders() == []
        await asyncio.sleep(3.5)
        assert field.leaders() == [second]
        assert second.leadership.token == 2


async def test_after_an_orderly_stop_another_leads_at_once() -> None:
    async with opened() as field:
        first, second = field.add(), field.add()
        await asyncio.sleep(10.1)
        await first.dies()
        await first.leadership.release()
        assert first.changes == [True, False]
        await asyncio.sleep(0.6)
        assert field.leaders() == [second]


async def test_whoever_is_cut_off_stops_before_another_leads() -> None:
    async with opened() as field:
        first, second = field.add(), field.add()
        await asyncio.sleep(10.1)
        first.line.cut = True
        for _ in range(100):
            await asyncio.sleep(0.1)
            assert len(field.leaders()) <= 1
        assert field.leaders() == [second]
        assert first.changes == [True, False]
        first.line.cut = False
        await asyncio.sleep(60.0)
        assert field.leaders() == [second]


async def test_a_store_that_hangs_is_one_that_is_away() -> None:
    async with opened() as field:
        first, second = field.add(), field.add()
        await asyncio.sleep(10.1)
        first.line.delay_s = 1000.0
        for _ in range(100):
            await asyncio.sleep(0.1)
            assert len(field.leaders()) <= 1
        assert field.leaders() == [second]


async def test_one_whose_clock_stood_still_believes_for_too_long_but_its_token_is_old() -> None:
    async with opened() as field:
        first, second = field.add(), field.add()
        await asyncio.sleep(10.1)
        # Its process was stopped for 8 s, and its clock with it: it knows nothing of that.
        first.line.delay_s = 8.0
        stopped_at = first.leadership.token
        first.clock.behind_s = 8.0
        await asyncio.sleep(7.0)
        assert second in field.leaders()
        assert first in field.leaders()
        assert stopped_at is not None
        assert not field.leases.holds(ROLLOUTS_LEASE, stopped_at)
        assert field.leases.holds(ROLLOUTS_LEASE, second.leadership.token or 0)
        first.line.delay_s = 0.0
        await asyncio.sleep(10.0)
        assert field.leaders() == [second]


async def test_nobody_leads_while_the_store_is_away_and_someone_does_when_it_is_back() -> None:
    async with opened() as field:
        field.add()
        field.add()
        await asyncio.sleep(10.1)
        field.leases.away = True
        await asyncio.sleep(10.0)
        assert field.leaders() == []
        field.leases.away = False
        await asyncio.sleep(3.0)
        assert len(field.leaders()) == 1
