"""The end of a batcher, in a time that the test moves."""

import asyncio
from collections.abc import AsyncIterator, Set

import pytest

from services.batcher.domain.log_detail import Detail
from services.batcher.domain.request import InferRequest, InferResult
from services.batcher.engines.features import Features
from services.batcher.faces.call import Call
from services.batcher.faces.caller import INSIDE
from services.batcher.faces.catalog import Catalog
from services.batcher.faces.core import Core
from services.batcher.faces.drain import QUIET_S, Drain
from services.batcher.faces.ports import FinishedCopy
from tests.support.clock import FakeClock


class NoEngine:
    """Is never asked."""

    async def infer(self, request: InferRequest) -> InferResult:
        """Nothing."""
        raise AssertionError(request)


class NoLog:
    """Is never told."""

    def add(self, call: Call, *, ended_s: float, code: int, reason: int, detail: Detail | None = None) -> None:
        """Nothing."""
        raise AssertionError((call, ended_s, code, reason, detail))

    def add_copy(self, copy: FinishedCopy) -> None:
        """Nothing."""
        raise AssertionError(copy)


class OneStream:
    """A stream that ends when the test says so."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.asked_to_close = False
        core.streams.add(self)

    def close_soon(self) -> None:
        """Notes it."""
        self.asked_to_close = True

    def turn_away(self, revoked: Set[str]) -> None:
        """Nobody opened it by a key."""
        raise AssertionError(revoked)

    def end(self) -> None:
        """All that it had is answered."""
        self._core.streams.discard(self)


class Ending:
    """A drain that has begun."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.core = Core(
            catalog=Catalog(),
            engine=NoEngine(),
            features=Features(stores={}, clock=self.clock),
            request_log=NoLog(),
            clock=self.clock,
            deadline_default_s=10,
            deadline_max_s=100,
        )
        self.told_to_leave = 0
        self.drain = Drain(core=self.core, clock=self.clock, grace_s=4.0, leave=self._leave)

    async def _leave(self) -> None:
        self.told_to_leave += 1

    async def pass_s(self, seconds: float) -> None:
        """Lets time pass in the steps in which the drain looks."""
        for _ in range(round(seconds / 0.01)):
            self.clock.advance(0.01)
            for _ in range(4):
                await asyncio.sleep(0)

    def request(self) -> Call:
        """A request that has begun."""
        call = Call({}, arrived_s=self.clock.monotonic(), caller=INSIDE)
        self.core.begin(call)
        return call


@pytest.fixture
async def ending() -> AsyncIterator[Ending]:
    made = Ending()
    task = asyncio.create_task(made.drain.run(), name="drain")
    await asyncio.sleep(0)
    yield made
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_an_idle_batcher_ends_after_a_quiet_moment(ending: Ending) -> None:
    await ending.pass_s(1.0)
    assert (ending.told_to_leave, ending.drain.finished.is_set()) == (0, False)
    ending.drain.begin()
    await ending.pass_s(QUIET_S - 0.05)
    assert (ending.told_to_leave, ending.drain.finished.is_set()) == (1, False)
    await ending.pass_s(0.1)
    assert ending.drain.finished.is_set()


async def test_what_is_in_flight_is_waited_for(ending: Ending) -> None:
    call = ending.request()
    ending.drain.begin()
    await ending.pass_s(1.0)
    assert not ending.drain.finished.is_set()
    ending.core.end(call)
    await ending.pass_s(QUIET_S + 0.05)
    assert ending.drain.finished.is_set()


async def test_requests_that_come_and_go_between_two_looks_are_no_quiet(ending: Ending) -> None:
    ending.drain.begin()
    for _ in range(10):
        ending.core.end(ending.request())
        await ending.pass_s(0.1)
    assert not ending.drain.finished.is_set()
    await ending.pass_s(QUIET_S + 0.05)
    assert ending.drain.finished.is_set()


async def test_open_streams_are_asked_to_close_and_waited_for(ending: Ending) -> None:
    stream = OneStream(ending.core)
    ending.drain.begin()
    await ending.pass_s(1.0)
    assert stream.asked_to_close
    assert not ending.drain.finished.is_set()
    stream.end()
    await ending.pass_s(QUIET_S + 0.05)
    assert ending.drain.finished.is_set()


async def test_the_end_comes_within_the_grace_period_whatever_is_in_flight(ending: Ending) -> None:
    ending.request()
    ending.drain.begin()
    await ending.pass_s(ending.drain.limit_s + 0.05)
    assert ending.drain.finished.is_set()
    assert ending.drain.limit_s < 4.0
