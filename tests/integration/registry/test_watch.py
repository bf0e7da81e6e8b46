"""However many write at once and however often a follower is cut off: it sees every change, in order, none missed.

Writers and the follower are real sessions of the real PostgreSQL; transactions end in any order, some of them in a
roll-back, so numbers are given out and lost in any order too.
"""

import asyncio
from collections.abc import Iterator

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncEngine

from services.common.clock import SystemClock
from services.common.database import create_engine, migrate
from services.common.signals import Signal
from services.registry.adapters.change_feed import ChangeFeed
from services.registry.adapters.change_rows import NewChange, note
from services.registry.adapters.database import SCHEMA
from services.registry.adapters.postgres_changes import PostgresChangeLog
from services.registry.domain.changes import Wanted
from services.registry.engines.following import Following

_DEADLINE_S = 30
_LAST = "the last"
_WRITERS = st.lists(
    st.lists(st.tuples(st.integers(1, 3), st.integers(0, 2), st.booleans()), min_size=1, max_size=6),
    min_size=1,
    max_size=4,
)
"""Of each writer its transactions: how many changes, how many turns of the loop it lingers, whether it is kept."""


class Writing:
    """Writers at work, and what they committed."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self.committed: set[str] = set()

    async def write(self, writer: int, transactions: list[tuple[int, int, bool]]) -> None:
        """One writer's transactions, one after the other."""
        for place, (count, turns, kept) in enumerate(transactions):
            names = [f"w{writer}-{place}-{number}" for number in range(count)]
            async with self._engine.connect() as connection:
                for name in names:
                    await note(
                        connection, NewChange(resource_type="model", resource_name=name, action="updated", team="t")
                    )
                    for _ in range(turns):
                        await asyncio.sleep(0)
                await (connection.commit() if kept else connection.rollback())
            if kept:
                self.committed.update(names)


async def followed(following: Following, cuts: list[int], begin: str) -> list[tuple[int, str]]:
    """What a follower sees until the last change, which leaves after so many changes and comes back with its cursor."""
    seen: list[tuple[int, str]] = []
    cursor, left = begin, list(cuts)
    while True:
        stream = aiter(following.follow(Wanted(), cursor=cursor, team=""))
        until = left.pop(0) if left else -1
        count = 0
        try:
            while count != until:
                step = await anext(stream)
                if step.change is None:
                    cursor = step.cursor
                    continue
                seen.append((step.change.number, step.change.resource_name))
                if step.change.resource_name == _LAST:
                    return seen
                count += 1
                # A follower that dies between handling a change and keeping its cursor is told it again.
                cursor = cursor if count == until and until % 2 else step.cursor
        finally:
            await stream.aclose()  # type: ignore[attr-defined]


async def scene(url: str, writers: list[list[tuple[int, int, bool]]], cuts: list[int]) -> None:
    """Writers and a follower at once."""
    clock, told = SystemClock(), Signal()
    engine = create_engine(url, schema=SCHEMA, pool_size=8)
    log, writing = PostgresChangeLog(engine), Writing(engine)
    following = Following(log=log, told=told, clock=clock, followers_max=2)
    begin = await log.last()
    async with asyncio.timeout(_DEADLINE_S), asyncio.TaskGroup() as tasks:
        feed = tasks.create_task(ChangeFeed(url, tell=told.fire, clock=clock).run(), name="feed")
        follower = tasks.create_task(followed(following, cuts, str(begin)), name="follower")
        works = [
            tasks.create_task(writing.write(number, transactions), name=f"writer {number}")
            for number, transactions in enumerate(writers)
        ]
        await asyncio.gather(*works)
        await log.add(NewChange(resource_type="model", resource_name=_LAST, action="updated", team="t"))
        seen = await follower
        feed.cancel()
    found, _ = await log.behind(Wanted(), after=begin, limit=10_000)
    await engine.dispose()
    expected = [(one.number, one.resource_name) for one in found]
    assert {name for _, name in expected} == {*writing.committed, _LAST}
    assert list(dict.fromkeys(seen)) == expected


@pytest.fixture(scope="module")
def url(postgres_server: tuple[int, str]) -> Iterator[str]:
    """A database that all examples share: each follows only what is behind its own beginning."""
    port, password = postgres_server
    address = f"postgresql://infermesh:{password}@127.0.0.1:{port}"
    with psycopg.connect(f"{address}/postgres", autocommit=True) as connection:
        connection.execute("CREATE DATABASE watching")
        whole = f"postgresql+psycopg://infermesh:{password}@127.0.0.1:{port}/watching"
        asyncio.run(migrate(whole, service=SCHEMA))
        yield whole
        connection.execute("DROP DATABASE watching WITH (FORCE)")


@settings(max_examples=12)
@given(writers=_WRITERS, cuts=st.lists(st.integers(1, 5), max_size=6))
def test_every_change_is_seen_in_order_and_none_is_missed(
    url: str, writers: list[list[tuple[int, int, bool]]], cuts: list[int]
) -> None:
    asyncio.run(scene(url, writers, cuts))
