"""When configurations are read and written."""

import asyncio
from datetime import UTC, datetime

import pytest

from services.common.clock import LoopClock
from services.common.errors import MeshError
from services.gateway.domain.messages import Configuration
from services.gateway.engines.shelf import GATEWAYS_MAX, Shelf
from tests.support.gateway_fakes import FakeStore, kept

pytestmark = [pytest.mark.looptime, pytest.mark.asyncio]

PERIOD_S = 1.0


def shelf_over(store: FakeStore) -> Shelf:
    return Shelf(store, clock=LoopClock(datetime(2026, 1, 1, tzinfo=UTC)), period_s=PERIOD_S)


def routes(version: str) -> Configuration:
    return kept(routes=version)


async def test_what_was_saved_is_there_and_read_once() -> None:
    store = FakeStore()
    store.files["gateway-0"] = routes("r1")
    shelf = shelf_over(store)
    await shelf.open("gateway-0")
    assert shelf.of("gateway-0") == routes("r1")
    shelf.keep("gateway-0", routes("r2"))
    await shelf.open("gateway-0")
    assert shelf.of("gateway-0") == routes("r2")


async def test_a_damaged_file_is_as_good_as_none_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    store = FakeStore()
    store.damaged = True
    shelf = shelf_over(store)
    await shelf.open("gateway-0")
    await shelf.open("gateway-0")
    assert shelf.of("gateway-0") == Configuration()
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_many_changes_are_one_write_a_period_and_the_newest_is_written() -> None:
    store = FakeStore()
    shelf = shelf_over(store)
    await shelf.open("gateway-0")
    writer = asyncio.create_task(shelf.run(), name="writer")
    for number in range(25):
        shelf.keep("gateway-0", routes(f"r{number}"))
        await asyncio.sleep(0.1)
    await asyncio.sleep(2 * PERIOD_S)
    writer.cancel()
    assert store.saved[0] == "r0"
    assert store.saved[-1] == "r24"
    assert len(store.saved) <= 4


async def test_what_is_large_and_changes_all_the_time_is_written_seldom() -> None:
    store = FakeStore()
    store.size_bytes = 4_000_000
    shelf = shelf_over(store)
    await shelf.open("gateway-0")
    writer = asyncio.create_task(shelf.run(), name="writer")
    for number in range(1000):
        shelf.keep("gateway-0", routes(f"r{number}"))
        await asyncio.sleep(0.1)
    writer.cancel()
    # Four at once, then one every four seconds.
    assert store.saved[:4] == ["r0", *store.saved[1:4]]
    assert int(store.saved[3][1:]) < 35
    assert 25 <= len(store.saved) <= 31


async def test_a_full_disk_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    store = FakeStore()
    store.full = True
    shelf = shelf_over(store)
    await shelf.open("gateway-0")
    writer = asyncio.create_task(shelf.run(), name="writer")
    shelf.keep("gateway-0", routes("r1"))
    await asyncio.sleep(5)
    assert len(caplog.records) == 1
    store.full = False
    await asyncio.sleep(10)
    writer.cancel()
    assert store.files["gateway-0"] == routes("r1")


async def test_the_end_writes_what_waits() -> None:
    store = FakeStore()
    shelf = shelf_over(store)
    await shelf.open("gateway-0")
    shelf.keep("gateway-0", routes("r1"))
    assert await shelf.flush() > 0
    assert store.files["gateway-0"] == routes("r1")


async def test_the_end_writes_what_a_write_that_was_cut_short_had_left() -> None:
    store = FakeStore()
    shelf = shelf_over(store)
    for gateway in ("gateway-0", "gateway-1"):
        await shelf.open(gateway)
        shelf.keep(gateway, routes("r1"))
    writer = asyncio.create_task(shelf.run(), name="writer")
    await asyncio.sleep(0)
    writer.cancel()
    await asyncio.gather(writer, return_exceptions=True)
    assert len(store.files) < 2
    await shelf.flush()
    assert store.files == {"gateway-0": routes("r1"), "gateway-1": routes("r1")}


async def test_each_gateway_has_its_own_and_there_is_a_bound() -> None:
    store = FakeStore()
    shelf = shelf_over(store)
    for number in range(GATEWAYS_MAX):
        await shelf.open(f"gateway-{number}")
    shelf.keep("gateway-1", routes("r1"))
    assert shelf.of("gateway-0") == Configuration()
    with pytest.raises(MeshError, match="start a keeper beside each"):
        await shelf.open("one-more")
