"""What every `RequestHistoryStore` promises, shown for the real one and for the one that other tests use."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from services.common.database import create_engine, migrate
from services.common.errors import MeshError, Reason
from services.deployer.adapters.postgres import SCHEMA
from services.deployer.adapters.request_history import PostgresRequestHistory
from services.deployer.domain.history import BUCKET_S, DAY, KEEP_DAYS, Bucket
from services.deployer.ports import RequestHistoryStore
from tests.support.clock import NOON
from tests.support.scaling_fakes import MemoryRequestHistory

DIGITS = ("digits", "main")
LETTERS = ("letters", "main")


def bucket(age: int = 0, **more: object) -> Bucket:
    return Bucket(NOON - timedelta(seconds=age * BUCKET_S), **{"known_s": 60.0, "requests": 600.0, **more})  # type: ignore[arg-type]


@pytest.fixture(params=["memory", "postgres"])
def url(request: pytest.FixtureRequest) -> str:
    """Where the store is; "" for memory."""
    return str(request.getfixturevalue("database_url")) if request.param == "postgres" else ""


@pytest.fixture
async def engine(url: str) -> AsyncIterator[AsyncEngine | None]:
    if not url:
        yield None
        return
    await migrate(url, service=SCHEMA)
    engine = create_engine(url, schema=SCHEMA, pool_size=4)
    yield engine
    await engine.dispose()


@pytest.fixture
def store(engine: AsyncEngine | None) -> RequestHistoryStore:
    return PostgresRequestHistory(engine) if engine is not None else MemoryRequestHistory()


async def test_what_is_added_is_read_in_order_and_from_a_moment_on(store: RequestHistoryStore) -> None:
    await store.add({DIGITS: [bucket(1), bucket(3)], LETTERS: [bucket(2)]})
    await store.add({DIGITS: [bucket(2, requests=5.0)]})
    await store.add({})
    assert list(await store.read(DIGITS, NOON - timedelta(days=1))) == [bucket(3), bucket(2, requests=5.0), bucket(1)]
    assert list(await store.read(DIGITS, NOON - timedelta(seconds=2 * BUCKET_S))) == [
        bucket(2, requests=5.0),
        bucket(1),
    ]
    assert list(await store.read(LETTERS, NOON - timedelta(days=1))) == [bucket(2)]
    assert list(await store.read(("digits", "canary"), NOON - timedelta(days=1))) == []


async def test_a_bucket_grows_by_what_comes_to_it(store: RequestHistoryStore) -> None:
    """As `Bucket.plus` has it, also for another version: that one's decisions alone count."""
    parts = [
        bucket(),
        bucket(known_s=0.0, requests=0.0, version="v1", decisions=10, short=1, per_replica=50.0),
        bucket(version="v1", decisions=2, per_replica=4.5),
        bucket(requests=1.5),
        bucket(known_s=1.0, version="v2", decisions=3, short=2, per_replica=1.0),
    ]
    together = parts[0]
    for number, part in enumerate(parts):
        together = together.plus(part) if number else part
        await store.add({DIGITS: [part]})
        assert list(await store.read(DIGITS, NOON)) == [together]
    assert (together.version, together.decisions, together.requests) == ("v2", 3, 600 + 600 + 1.5 + 600)
    await store.add({DIGITS: [bucket(), bucket(1), bucket()]})
    assert list(await store.read(DIGITS, NOON)) == [together.plus(bucket()).plus(bucket())]


async def test_two_deployers_may_add_to_the_same_at_once(store: RequestHistoryStore) -> None:
    ages = range(20)
    await asyncio.gather(
        *(store.add({key: [bucket(age) for age in order]}) for key in (DIGITS, LETTERS) for order in (ages, ages[::-1]))
    )
    for key in (DIGITS, LETTERS):
        assert {one.requests for one in await store.read(key, NOON - timedelta(days=1))} == {1200.0}


async def test_what_is_too_old_goes(store: RequestHistoryStore) -> None:
    await store.add({DIGITS: [bucket(age) for age in range(10)]})
    await store.prune(NOON - timedelta(seconds=4 * BUCKET_S))
    assert len(await store.read(DIGITS, NOON - timedelta(days=1))) == 5
    await store.prune(NOON + timedelta(days=1))
    assert list(await store.read(DIGITS, NOON - timedelta(days=1))) == []


async def test_four_weeks_are_written_and_read(store: RequestHistoryStore) -> None:
    await store.add({DIGITS: [bucket(age) for age in range(KEEP_DAYS * DAY)]})
    assert len(await store.read(DIGITS, NOON - timedelta(days=KEEP_DAYS))) == KEEP_DAYS * DAY


@pytest.mark.parametrize("url", ["postgresql+psycopg://nobody:x@127.0.0.1:9/none"])
async def test_a_database_that_is_away_is_said_to_be(url: str) -> None:
    engine = create_engine(url, schema=SCHEMA, pool_size=1)
    away = PostgresRequestHistory(engine)
    for call in (away.add({DIGITS: [bucket()]}), away.read(DIGITS, NOON), away.prune(NOON)):
        with pytest.raises(MeshError) as failed:
            await call
        assert failed.value.reason is Reason.DEPENDENCY_UNAVAILABLE
    await engine.dispose()


async def test_a_memory_that_is_away_says_the_same() -> None:
    away = MemoryRequestHistory()
    away.away = True
    for call in (away.add({DIGITS: [bucket()]}), away.read(DIGITS, NOON), away.prune(NOON)):
        with pytest.raises(MeshError) as failed:
            await call
        assert failed.value.reason is Reason.DEPENDENCY_UNAVAILABLE
