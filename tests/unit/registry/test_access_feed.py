"""One reader, many followers: told at once, never twice, and merged where they are slow."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from services.common.errors import MeshError, Reason
from services.registry.domain.access import Author, ModelAccess
from services.registry.domain.access_history import GONE_MAX, AccessHistory, AccessUpdate, Head, Look
from services.registry.domain.teams import NewTeam
from services.registry.engines.access_feed import AccessFeed
from tests.support.clock import FakeClock
from tests.support.registry_team_fakes import MemoryTeams

NOBODY = Author()


class Site:
    """A feed over memory."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.memory = MemoryTeams(self.clock)
        self.feed = AccessFeed(self.memory, clock=self.clock, whole_period_s=30.0)


@asynccontextmanager
async def followed(feed: AccessFeed) -> AsyncIterator[AsyncIterator[AccessUpdate]]:
    follower = feed.follow()
    try:
        yield follower
    finally:
        await follower.aclose()  # type: ignore[attr-defined]


async def following(follower: AsyncIterator[AccessUpdate]) -> AccessUpdate:
    async with asyncio.timeout(5):
        return await anext(follower)


async def test_all_comes_first_then_what_changed() -> None:
    site = Site()
    await site.memory.create(NewTeam("vision", "vision"), author=NOBODY)
    site.memory.add_model("iris", "vision")
    assert await site.feed.look()
    async with followed(site.feed) as follower:
        first = await following(follower)
        assert (first.reset, first.models) == (True, {"iris": ModelAccess("vision")})
        assert [team.name for team in first.head.teams] == ["vision"]
        site.memory.add_model("rose", "")
        site.memory.remove_model("iris")
        assert await site.feed.look()
        second = await following(follower)
        assert (second.reset, second.models, second.removed) == (False, {"rose": ModelAccess()}, ["iris"])
        assert second.head == first.head
        assert second.revision > first.revision


async def test_the_reader_looks_when_it_is_told() -> None:
    site = Site()
    reader = asyncio.create_task(site.feed.run())
    async with followed(site.feed) as follower:
        assert (await following(follower)).models == {}
        site.memory.add_model("iris", "vision")
        site.feed.tell()
        assert (await following(follower)).models == {"iris": ModelAccess("vision")}
    reader.cancel()
    await asyncio.gather(reader, return_exceptions=True)


async def test_a_look_at_all_finds_what_nobody_told() -> None:
    site = Site()
    await site.feed.look()
    async with followed(site.feed) as follower:
        await following(follower)
        site.memory.add_model("iris", "vision")
        site.memory.noted.clear()
        await site.feed.look()
        site.clock.advance(31)
        await site.feed.look()
        assert (await following(follower)).models == {"iris": ModelAccess("vision")}


async def test_a_slow_follower_gets_one_message_of_many_changes() -> None:
    site = Site()
    await site.feed.look()
    async with followed(site.feed) as follower:
        await following(follower)
        for number in range(50):
            site.memory.add_model(f"m{number}", "vision")
            await site.feed.look()
        site.memory.remove_model("m0")
        await site.feed.look()
        merged = await following(follower)
        assert len(merged.models) == 49
        assert merged.removed == ["m0"]
        waiting = asyncio.create_task(following(follower))
        await asyncio.sleep(0)
        assert not waiting.done()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


async def test_without_a_database_followers_wait_and_are_then_told_why() -> None:
    site = Site()
    site.memory.down = True
    assert not await site.feed.look()
    assert not site.feed.known
    async with followed(site.feed) as follower:
        first = asyncio.create_task(following(follower))
        await asyncio.sleep(0)
        site.memory.down = False
        await site.feed.look()
        assert (await first).reset


async def test_a_database_that_stays_away_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.registry.engines.access_feed._FIRST_LOOK_S", 0.01)
    site = Site()
    with pytest.raises(MeshError) as caught:
        await anext(site.feed.follow())
    assert caught.value.reason is Reason.DEPENDENCY_UNAVAILABLE


async def test_closing_ends_all_followers() -> None:
    site = Site()
    await site.feed.look()
    followers = [site.feed.follow() for _ in range(3)]
    for follower in followers:
        await following(follower)
    ends = [asyncio.create_task(following(follower)) for follower in followers]
    await asyncio.sleep(0)
    site.feed.close()
    ended = await asyncio.gather(*ends, return_exceptions=True)
    assert all(isinstance(one, StopAsyncIteration | RuntimeError) for one in ended)


def test_who_was_away_too_long_is_told_everything() -> None:
    history = AccessHistory()
    history.apply(Look(1, Head(), {"stays": ModelAccess("vision")}, whole=True))
    early = history.since(None).mark
    names = [f"m{number}" for number in range(GONE_MAX + 1)]
    history.apply(Look(2, None, dict.fromkeys(names, ModelAccess()), whole=False))
    between = history.since(early).mark
    history.apply(Look(3, None, dict.fromkeys(names), whole=False))
    late = history.since(between)
    assert (late.reset, late.models) == (True, {"stays": ModelAccess("vision")})
    after = history.since(late.mark)
    assert (after.reset, after.models, after.removed) == (False, {}, [])
