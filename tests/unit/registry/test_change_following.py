"""Following the audit log: word that a stream lives, how many may follow, how it ends; and what the log keeps."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.clock import LoopClock
from services.common.errors import MeshError, Reason
from services.common.signals import Signal
from services.registry.adapters.change_rows import NewChange
from services.registry.domain.changes import LEFT_OUT, NOTED_BYTES_MAX, Wanted, noted, parse_cursor
from services.registry.engines.following import HEARTBEAT_S, Following, Step
from tests.support.registry_history_fakes import MemoryChangeLog

EVERYTHING = Wanted()


class World:
    """A log, and who follows it."""

    def __init__(self, followers_max: int = 2) -> None:
        self.clock = LoopClock(datetime(2026, 1, 15, tzinfo=UTC))
        self.log = MemoryChangeLog(self.clock)
        self.told = Signal()
        self.following = Following(log=self.log, told=self.told, clock=self.clock, followers_max=followers_max)

    def stream(self, cursor: str = "", wanted: Wanted = EVERYTHING) -> AsyncIterator[Step]:
        """A follower."""
        return aiter(self.following.follow(wanted, cursor=cursor, team=""))

    async def add(self, name: str, *, tell: bool = True) -> None:
        """Notes a change of a model."""
        await self.log.add(NewChange(resource_type="model", resource_name=name, model_name=name, action="updated"))
        if tell:
            self.told.fire()


@pytest.mark.looptime
async def test_a_change_is_told_at_once_and_without_word_after_two_seconds() -> None:
    world = World()
    stream = world.stream()
    assert await anext(stream) == Step(None, "0")
    await world.add("a")
    step = await anext(stream)
    assert (step.change is not None and step.change.resource_name, step.cursor) == ("a", "1")
    assert world.clock.monotonic() == 0
    asking = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    await world.add("b", tell=False)
    assert (await asking).cursor == "2"
    assert world.clock.monotonic() == 2.0


@pytest.mark.looptime
async def test_a_silent_stream_says_every_fifteen_seconds_that_it_lives_and_how_far_it_is() -> None:
    world = World()
    stream = world.stream(wanted=Wanted(model_name="mine"))
    await anext(stream)
    await world.add("other")
    assert await anext(stream) == Step(None, "1")
    assert world.clock.monotonic() == HEARTBEAT_S
    assert await anext(stream) == Step(None, "1")
    assert world.clock.monotonic() == 2 * HEARTBEAT_S


@pytest.mark.looptime
async def test_more_than_may_follow_are_refused_until_one_leaves() -> None:
    world = World(followers_max=1)
    first = world.stream()
    await anext(first)
    with pytest.raises(MeshError) as caught:
        await anext(world.stream())
    assert caught.value.reason is Reason.QUOTA_EXCEEDED
    await first.aclose()  # type: ignore[attr-defined]
    assert await anext(world.stream()) == Step(None, "0")


@pytest.mark.looptime
async def test_all_streams_end_when_the_registry_does() -> None:
    world = World()
    streams = [world.stream(), world.stream()]
    for stream in streams:
        await anext(stream)
    waiting = [asyncio.ensure_future(anext(stream, None)) for stream in streams]
    await asyncio.sleep(0)
    world.following.close()
    assert await asyncio.gather(*waiting) == [None, None]
    assert world.clock.monotonic() == 0


@pytest.mark.parametrize("cursor", ["-1", "1.5", "x", "9" * 19, "²", "１"])
def test_what_is_no_cursor_is_named(cursor: str) -> None:
    with pytest.raises(MeshError) as caught:
        parse_cursor(cursor)
    assert caught.value.violations[0].field == "cursor"


@given(st.dictionaries(st.text(max_size=20), st.integers(0, 400_000).map(lambda size: "x" * size), max_size=12))
def test_what_the_log_keeps_is_bounded_and_says_what_it_left_out(resource: dict[str, object]) -> None:
    kept = noted(resource)
    left_out = kept.get(LEFT_OUT, [])
    assert isinstance(left_out, list)
    assert {*kept, *left_out} - {LEFT_OUT} == set(resource) - {LEFT_OUT}
    assert all(kept[name] == resource[name] for name in kept if name != LEFT_OUT)
    assert len(json.dumps(kept)) <= NOTED_BYTES_MAX + 64 * (len(resource) + 1)
    assert bool(left_out) == (sum(len(json.dumps({name: value})) for name, value in resource.items()) > NOTED_BYTES_MAX)
