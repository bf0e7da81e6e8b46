"""Events of rollouts arrive once and in their order, in virtual time, whoever goes away meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from services.common.clock import LoopClock
from services.common.errors import MeshError, Reason
from services.router.domain.rollouts import RolloutEvent, Severity
from services.router.engines.events import EventReporter
from services.router.engines.leadership import Leadership
from tests.support.rollout_fakes import FakeMonitor, MemoryEventStore, MemoryLeases

pytestmark = pytest.mark.looptime
NOW = datetime(2026, 1, 15, tzinfo=UTC)


def event(number: int, kind: str = "canary_held") -> RolloutEvent:
    return RolloutEvent(f"event-{number}", kind, "digits", "v1.1.0", "c", Severity.WARNING, "so it is", NOW)


class Office:
    """A reporter on a router that leads."""

    def __init__(self) -> None:
        clock = LoopClock(NOW)
        self.store, self.monitor, self.leases = MemoryEventStore(), FakeMonitor(), MemoryLeases(clock)
        self.leadership = Leadership(leases=self.leases, holder="router-0", clock=clock)
        self.reporter = EventReporter(store=self.store, sink=self.monitor, leadership=self.leadership, clock=clock)
        self.tasks: list[asyncio.Task[None]] = []

    def begin(self, *works: Any) -> None:
        """Runs these."""
        self.tasks += [asyncio.create_task(work(), name="office") for work in works]

    def write(self, *events: RolloutEvent) -> None:
        """As a decision does."""
        self.store.put(events)
        self.reporter.touch()

    def taken(self) -> list[str]:
        """By the monitor."""
        return [one.event_id for one in self.monitor.taken]


@asynccontextmanager
async def opened() -> AsyncIterator[Office]:
    """An office at work. Not a fixture: its time would be another one than the test's."""
    made = Office()
    made.begin(made.leadership.run, made.reporter.run)
    await asyncio.sleep(0.1)
    yield made
    for task in made.tasks:
        task.cancel()
    await asyncio.gather(*made.tasks, return_exceptions=True)


async def test_what_is_written_arrives_at_once_and_is_forgotten() -> None:
    async with opened() as office:
        office.write(event(1), event(2))
        await asyncio.sleep(0.01)
        assert office.taken() == ["event-1", "event-2"]
        assert office.store.events == []


async def test_what_another_router_has_written_arrives_soon() -> None:
    async with opened() as office:
        office.store.put([event(1)])
        await asyncio.sleep(2.1)
        assert office.taken() == ["event-1"]


async def test_many_arrive_in_their_order() -> None:
    async with opened() as office:
        office.write(*(event(number) for number in range(250)))
        await asyncio.sleep(0.1)
        assert office.taken() == [f"event-{number}" for number in range(250)]


async def test_nothing_is_lost_while_the_monitor_or_the_store_is_away() -> None:
    async with opened() as office:
        office.monitor.away = True
        office.write(event(1))
        await asyncio.sleep(60.0)
        office.write(event(2))
        office.store.away = True
        office.monitor.away = False
        await asyncio.sleep(60.0)
        assert office.taken() == []
        office.store.away = False
        await asyncio.sleep(5.1)
        assert office.taken() == ["event-1", "event-2"]


async def test_one_that_was_taken_without_an_answer_is_taken_once() -> None:
    async with opened() as office:
        report = office.monitor.report

        async def lost(events: Sequence[RolloutEvent]) -> None:
            await report(events)
            office.monitor.report = report  # type: ignore[method-assign]
            raise MeshError(Reason.DEPENDENCY_UNAVAILABLE, "the answer was lost")

        office.monitor.report = lost  # type: ignore[method-assign]
        office.write(event(1))
        await asyncio.sleep(1.0)
        assert office.taken() == ["event-1"]
        assert office.store.events == []


@pytest.mark.logs_errors
async def test_one_that_is_never_taken_is_set_aside_and_the_others_arrive() -> None:
    async with opened() as office:
        report = office.monitor.report

        async def picky(events: Sequence[RolloutEvent]) -> None:
            if any(one.kind == "odd" for one in events):
                raise MeshError(Reason.INVALID_FIELD, "events[1].kind is 'odd'")
            await report(events)

        office.monitor.report = picky  # type: ignore[method-assign]
        office.write(event(1), event(2, "odd"), event(3))
        await asyncio.sleep(0.1)
        assert office.taken() == ["event-1", "event-3"]
        assert office.store.set_aside == {"event-2": "events[1].kind is 'odd'"}
        office.write(event(4))
        await asyncio.sleep(0.1)
        assert office.taken()[-1] == "event-4"


async def test_who_does_not_lead_reports_nothing() -> None:
    async with opened() as office:
        office.leases.away = True
        await asyncio.sleep(10.0)
        office.write(event(1))
        await asyncio.sleep(10.0)
        assert office.taken() == []
        office.leases.away = False
        await asyncio.sleep(3.0)
        assert office.taken() == ["event-1"]
