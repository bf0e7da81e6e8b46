"""Usage, storage and prices: what the engines rely on, of PostgreSQL and of what stands in for it; and of the registry
that is asked what is stored."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import grpc
import pytest
from infermesh.registry.v1 import team_service_pb2, team_service_pb2_grpc
from sqlalchemy.ext.asyncio import AsyncEngine

from services.common.errors import MeshError, Reason
from services.common.grpc.channel import open_channel
from services.monitor.adapters.postgres_log import PostgresLogStore
from services.monitor.adapters.postgres_usage_hours import PostgresUsageReader
from services.monitor.adapters.postgres_usage_prices import PostgresPriceStore
from services.monitor.adapters.postgres_usage_storage import PostgresStorageStore
from services.monitor.adapters.usage_registry import RegistryStorageSource
from services.monitor.domain.records import StreamKey
from services.monitor.domain.usage import UsageKey, Used
from services.monitor.domain.usage_cost import Prices, PriceTable
from services.monitor.domain.usage_window import Hours, hour_of
from services.monitor.ports import Applied, Batch, LogStore
from services.monitor.ports_usage import (
    Metered,
    PriceStore,
    StorageSource,
    StorageStore,
    Stored,
    UsageQuery,
    UsageReader,
)
from tests.support.clock import NOON, FakeClock
from tests.support.monitor_stores import MemoryStore
from tests.support.monitor_usage import MemoryPrices, MemoryStorage, MemoryStorageSource, MemoryUsageReader

HOUR = hour_of(NOON)
STREAM = StreamKey("batcher-0", 1)
ALL = UsageQuery(Hours(HOUR - 48, HOUR + 48))
LARGE = 2**62


@dataclass(frozen=True)
class Stores:
    """Where the log is counted, where storage is kept, and where both are read."""

    log: LogStore
    storage: StorageStore
    reader: UsageReader
    prices: PriceStore


@pytest.fixture
def stores(engine: AsyncEngine | None) -> Stores:
    if engine is None:
        log, storage = MemoryStore(), MemoryStorage()
        return Stores(log, storage, MemoryUsageReader(log, storage), MemoryPrices())
    return Stores(
        PostgresLogStore(engine),
        PostgresStorageStore(engine),
        PostgresUsageReader(engine),
        PostgresPriceStore(engine, clock=FakeClock()),
    )


def key(team: str = "vision", model: str = "digits", version: str = "v1.0.0", *, hour: int = HOUR) -> UsageKey:
    return UsageKey(hour, team, model, version)


def batch(base: int, usage: dict[UsageKey, Used], *, stream: StreamKey = STREAM) -> Batch:
    return Batch(stream, base, base + 1, dropped_total=0, cells={}, rows=[], usage=usage)


async def by_hour(stores: Stores, query: UsageQuery = ALL, *, limit: int = 1000) -> list[Metered]:
    """All, page by page."""
    found: list[Metered] = []
    while True:
        page = await stores.reader.by_hour(query, after=found[-1].key if found else None, limit=limit)
        found += page
        if len(page) < limit:
            return found


async def totals(stores: Stores, query: UsageQuery = ALL, *, limit: int = 1000) -> list[Metered]:
    """All, page by page."""
    found: list[Metered] = []
    while True:
        last = found[-1].key if found else None
        after = (last.team, last.model, last.version) if last else None
        page = await stores.reader.totals(query, after=after, limit=limit)
        found += page
        if len(page) < limit:
            return found


async def test_usage_adds_up_with_the_position_and_once(stores: Stores) -> None:
    used = Used(3, 7, 3000, 2000, 4_000_000)
    first = batch(0, {key(): used, key(team=""): used})
    assert await stores.log.apply(first) is Applied.COUNTED
    assert await stores.log.apply(first) is Applied.COUNTED_BEFORE
    assert await stores.log.apply(batch(5, {key(): used})) is Applied.CONFLICT
    assert await stores.log.apply(batch(1, {key(): Used(1, 1, 1, 1, 1)})) is Applied.COUNTED
    assert await stores.log.apply(batch(0, {key(): used}, stream=StreamKey("batcher-1", 1))) is Applied.COUNTED
    assert await by_hour(stores) == [
        Metered(key(team=""), used, 0),
        Metered(key(), Used(7, 15, 6001, 4001, 8_000_001), 0),
    ]


async def test_sums_may_be_larger_than_an_integer_of_the_database(stores: Stores) -> None:
    used = Used(1, 1, LARGE, LARGE, LARGE**2)
    await stores.log.apply(batch(0, {key(): used, key(hour=HOUR + 1): used, key(hour=HOUR + 2): used}))
    (total,) = await totals(stores)
    assert total.used == Used(3, 3, 3 * LARGE, 3 * LARGE, 3 * LARGE**2)


async def test_what_is_stored_is_an_entry_without_a_version_beside_usage_that_has_none(stores: Stores) -> None:
    await stores.log.apply(batch(0, {key(): Used(1, 1), key(version=""): Used(5, 0), key(hour=HOUR - 1): Used(2, 2)}))
    for hour in (HOUR - 1, HOUR):
        assert await stores.storage.sample(hour, [Stored("vision", "digits", 100), Stored("", "old", 7)], at=NOON)
    summed = [
        (one.key.team, one.key.model, one.key.version, one.used, one.stored_byte_hours) for one in await totals(stores)
    ]
    assert summed == [
        ("", "old", "", Used(), 14),
        ("vision", "digits", "", Used(5), 200),
        ("vision", "digits", "v1.0.0", Used(3, 3), 0),
    ]
    assert [(one.key, one.used.requests, one.stored_byte_hours) for one in await by_hour(stores)] == [
        (UsageKey(HOUR - 1, "", "old", ""), 0, 7),
        (UsageKey(HOUR - 1, "vision", "digits", ""), 0, 100),
        (UsageKey(HOUR - 1, "vision", "digits", "v1.0.0"), 2, 0),
        (UsageKey(HOUR, "", "old", ""), 0, 7),
        (UsageKey(HOUR, "vision", "digits", ""), 5, 100),
        (UsageKey(HOUR, "vision", "digits", "v1.0.0"), 1, 0),
    ]


@pytest.mark.parametrize("limit", [1, 2, 3, 1000])
async def test_pages_hold_everything_once_in_the_order_of_bytes(stores: Stores, limit: int) -> None:
    names = ["a", "B", "a-b", "ab", "é", "zz"]
    keys = [
        key(team, model, version, hour=hour)
        for team in ("", *names)
        for model in names[:3]
        for version in ("", "v1.0.0", "v1.0.0-rc.1")
        for hour in (HOUR, HOUR + 1)
    ]
    await stores.log.apply(batch(0, {one: Used(requests=1) for one in keys}))
    await stores.storage.sample(HOUR, [Stored(team, "a", 1) for team in names], at=NOON)
    hourly = [one.key for one in await by_hour(stores, limit=limit)]
    assert hourly == sorted(keys)
    summed = [(one.key.team, one.key.model, one.key.version) for one in await totals(stores, limit=limit)]
    assert summed == sorted({(one.team, one.model, one.version) for one in keys})


@pytest.mark.parametrize(
    ("query", "seen"),
    [
        (UsageQuery(Hours(HOUR, HOUR + 1)), {"vision/a", "vision/b", "risk/a", "/a"}),
        (UsageQuery(Hours(HOUR + 1, HOUR + 2)), {"late/a"}),
        (UsageQuery(Hours(HOUR, HOUR + 2), "vision"), {"vision/a", "vision/b"}),
        (UsageQuery(Hours(HOUR, HOUR + 2), None, frozenset({"a"})), {"vision/a", "risk/a", "/a", "late/a"}),
        (UsageQuery(Hours(HOUR, HOUR + 2), "vision", frozenset({"b", "c"})), {"vision/b"}),
        (UsageQuery(Hours(HOUR, HOUR + 2), "nobody"), set()),
    ],
)
async def test_a_query_is_of_hours_a_team_and_models(stores: Stores, query: UsageQuery, seen: set[str]) -> None:
    used = {key(team, model): Used(1) for team, model in (("vision", "a"), ("vision", "b"), ("risk", "a"), ("", "a"))}
    await stores.log.apply(batch(0, {**used, key("late", "a", hour=HOUR + 1): Used(1)}))
    for read in (by_hour, totals):
        assert {f"{one.key.team}/{one.key.model}" for one in await read(stores, query)} == seen
    stored = [Stored(one.team, one.model, 5) for one in used]
    assert await stores.storage.sample(HOUR, stored, at=NOON)
    assert await stores.storage.sample(HOUR + 1, [Stored("late", "a", 5)], at=NOON)
    assert {f"{one.key.team}/{one.key.model}" for one in await by_hour(stores, query) if one.stored_byte_hours} == seen


async def test_an_hour_of_storage_is_noted_once_and_as_a_whole(stores: Stores) -> None:
    storage = stores.storage
    assert not await storage.sampled(HOUR)
    assert await storage.sample(HOUR, [Stored("vision", "digits", 5)], at=NOON)
    assert await storage.sampled(HOUR)
    assert not await storage.sample(HOUR, [Stored("vision", "digits", 9), Stored("risk", "fraud", 9)], at=NOON)
    assert [one.stored_byte_hours for one in await by_hour(stores)] == [5]


async def test_an_hour_in_which_nothing_is_stored_is_known_too(stores: Stores) -> None:
    assert await stores.storage.sample(HOUR - 2, [Stored("vision", "digits", 5)], at=NOON)
    assert await stores.storage.sample(HOUR - 1, [], at=NOON)
    assert await stores.storage.sample(HOUR + 1, [], at=NOON)
    assert await stores.storage.fill(limit=10) == 1
    assert [one.stored_byte_hours for one in await by_hour(stores)] == [5]


@pytest.mark.parametrize("limit", [1, 2, 100])
async def test_missed_hours_get_what_was_known_before_them_and_once(stores: Stores, limit: int) -> None:
    storage = stores.storage
    assert await storage.fill(limit=limit) == 0
    for hour, size in ((HOUR, 10), (HOUR + 4, 20), (HOUR + 6, 30)):
        await storage.sample(hour, [Stored("vision", "digits", size)], at=NOON)
    filled = 0
    while count := await storage.fill(limit=limit):
        filled += count
    assert filled == 4
    sizes = {one.key.hour - HOUR: one.stored_byte_hours for one in await by_hour(stores)}
    assert sizes == {0: 10, 1: 10, 2: 10, 3: 10, 4: 20, 5: 20, 6: 30}


async def test_prices_change_by_compare_and_set(stores: Stores) -> None:
    prices = stores.prices
    before = await prices.get()
    assert (before.currency, before.prices, before.revision, before.updated_at) == ("", Prices(), 0, None)
    tiny = Fraction("5e-324")
    wanted = PriceTable("EUR", Prices(Fraction(1, 10), Fraction("0.35"), Fraction(2), tiny))
    first = await prices.put(wanted, expected=0)
    assert first == replace(wanted, revision=1, updated_at=NOON)
    assert await prices.put(PriceTable("USD"), expected=0) is None
    assert await prices.get() == first
    again = await prices.put(PriceTable("USD"), expected=None)
    assert again is not None
    assert (again.currency, again.prices, again.revision) == ("USD", Prices(), 2)


class FakeRegistry(team_service_pb2_grpc.TeamServiceServicer):
    """Says what it was told is stored."""

    def __init__(self, held: Sequence[Stored]) -> None:
        self.held = held

    async def ListStorage(self, request: Any, context: Any) -> Any:
        """All of it."""
        answer = team_service_pb2.ListStorageResponse()
        for one in self.held:
            answer.uses.add(team=one.team, model_name=one.model, stored_bytes=one.bytes)
        return answer


@asynccontextmanager
async def source_over(kind: str, held: Sequence[Stored]) -> AsyncIterator[StorageSource]:
    if kind == "memory":
        memory = MemoryStorageSource()
        memory.held = list(held)
        yield memory
        return
    server = grpc.aio.server()
    team_service_pb2_grpc.add_TeamServiceServicer_to_server(
        FakeRegistry(held),  # type: ignore[abstract] # it is asked for nothing else
        server,
    )
    channel = open_channel(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
    await server.start()
    try:
        yield RegistryStorageSource(channel)
    finally:
        await channel.close()
        await server.stop(None)


@pytest.mark.parametrize("kind", ["memory", "grpc"])
async def test_the_registry_says_what_is_stored(kind: str) -> None:
    held = [Stored("", "open", 0), Stored("risk", "fraud", 2**52), Stored("vision", "digits", 7)]
    async with source_over(kind, held) as source:
        assert list(await source.stored()) == held
        assert list(await source.stored()) == held


@pytest.mark.parametrize("kind", ["memory", "grpc"])
async def test_a_registry_that_is_away_is_a_failure_that_is_understood(kind: str) -> None:
    if kind == "memory":
        memory = MemoryStorageSource()
        memory.away = True
        with pytest.raises(MeshError) as caught:
            await memory.stored()
    else:
        channel = open_channel("127.0.0.1:1")
        with pytest.raises(MeshError) as caught:
            await RegistryStorageSource(channel).stored()
        await channel.close()
    assert caught.value.reason is Reason.DEPENDENCY_UNAVAILABLE
