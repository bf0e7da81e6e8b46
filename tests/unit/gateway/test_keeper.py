"""Who answers a gateway, and when its stream ends; in virtual time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from services.common.clock import LoopClock
from services.gateway.domain.messages import Configuration
from services.gateway.engines.keeper import Keeper
from services.gateway.engines.shelf import Shelf
from tests.support.gateway_fakes import CLUSTERS, ROUTES, FakeGateway, FakeRouter, FakeStore, request, response
from tests.support.gateway_fakes import kept as kept_after

pytestmark = [pytest.mark.looptime, pytest.mark.asyncio]

PATIENCE_S = 5.0
KEPT = kept_after(clusters="c1", routes="r1")


class Scene:
    """A keeper that serves one gateway."""

    def __init__(self, *, router_there: bool, kept: Configuration | None = KEPT) -> None:
        clock = LoopClock(datetime(2026, 1, 1, tzinfo=UTC))
        self.store = FakeStore()
        if kept is not None:
            self.store.files["gateway-0"] = kept
        self.router = FakeRouter(there=router_there)
        self.shelf = Shelf(self.store, clock=clock, period_s=1.0)
        self.keeper = Keeper(router=self.router, shelf=self.shelf, clock=clock, patience_s=PATIENCE_S)
        self.gateway = FakeGateway()
        self.stream: asyncio.Task[None]

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["Scene"]:
        """Serves the gateway meanwhile."""
        self.stream = asyncio.create_task(self.keeper.serve(self.gateway), name="stream")
        try:
            yield self
        finally:
            self.stream.cancel()
            await asyncio.gather(self.stream, return_exceptions=True)


async def settle() -> None:
    """Lets everything happen that needs no time."""
    await asyncio.sleep(0.001)


async def test_with_a_router_all_passes_and_what_is_taken_is_kept() -> None:
    async with Scene(router_there=True, kept=None).serving() as scene:
        scene.gateway.says(request())
        await settle()
        [line] = scene.router.lines
        line.says(response("r1", "1"))
        await settle()
        scene.gateway.says(request(version="r1", nonce="1"))
        await settle()
        assert line.asked == [("", False), ("r1", False)]
        assert scene.gateway.told == [("r1", "1")]
        assert scene.shelf.of("gateway-0").version(ROUTES) == "r1"


async def test_without_a_router_what_is_kept_is_the_answer_until_it_is_back() -> None:
    async with Scene(router_there=False).serving() as scene:
        scene.gateway.says(request(CLUSTERS), request(ROUTES))
        await settle()
        assert [version for version, _ in scene.gateway.told] == ["c1", "r1"]
        await asyncio.sleep(3600)
        assert not scene.stream.done()
        scene.router.comes()
        await settle()
        assert scene.stream.done()
        assert scene.router.lines == []


async def test_without_a_router_a_gateway_that_has_something_is_left_alone() -> None:
    async with Scene(router_there=False).serving() as scene:
        scene.gateway.says(request(version="r0"))
        await asyncio.sleep(60)
        assert scene.gateway.told == []
        assert not scene.stream.done()


async def test_a_router_that_is_silent_is_waited_for_and_then_helped() -> None:
    async with Scene(router_there=True).serving() as scene:
        scene.gateway.says(request())
        await asyncio.sleep(PATIENCE_S - 0.1)
        assert scene.gateway.told == []
        await asyncio.sleep(0.2)
        [(version, nonce)] = scene.gateway.told
        assert version == "r1"
        # The gateway's answer passes, and the router's word is taken once it comes.
        scene.gateway.says(request(version="r1", nonce=nonce))
        [line] = scene.router.lines
        line.says(response("r2", "1"))
        await settle()
        scene.gateway.says(request(version="r2", nonce="1"))
        await settle()
        assert line.asked == [("", False), ("r1", False), ("r2", False)]
        assert scene.shelf.of("gateway-0").version(ROUTES) == "r2"


async def test_what_is_asked_for_later_waits_no_longer_than_what_came_first() -> None:
    async with Scene(router_there=True).serving() as scene:
        scene.gateway.says(request(CLUSTERS))
        await settle()
        scene.router.lines[0].says(response("c1", "1", CLUSTERS))
        await asyncio.sleep(1)
        scene.gateway.says(request(ROUTES))
        await asyncio.sleep(PATIENCE_S - 0.1)
        assert scene.gateway.told == [("c1", "1")]
        await asyncio.sleep(0.2)
        assert [version for version, _ in scene.gateway.told] == ["c1", "r1"]


async def test_a_router_that_answers_in_time_is_not_helped() -> None:
    async with Scene(router_there=True).serving() as scene:
        scene.gateway.says(request())
        await asyncio.sleep(PATIENCE_S - 0.1)
        scene.router.lines[0].says(response("r2", "1"))
        await asyncio.sleep(2 * PATIENCE_S)
        assert scene.gateway.told == [("r2", "1")]


async def test_a_version_that_is_not_kept_is_asked_for_again() -> None:
    async with Scene(router_there=True, kept=None).serving() as scene:
        scene.gateway.says(request(version="r7"))
        await settle()
        [line] = scene.router.lines
        assert line.asked == [("r7", True)]
        line.says(response("r7", "1"))
        await settle()
        scene.gateway.says(request(version="r7", nonce="1"))
        await settle()
        assert scene.shelf.of("gateway-0").version(ROUTES) == "r7"


async def test_the_end_of_the_routers_stream_is_the_end_of_the_gateways() -> None:
    async with Scene(router_there=True).serving() as scene:
        scene.gateway.says(request())
        await settle()
        [line] = scene.router.lines
        line.says(response("r2", "1"), None)
        await settle()
        assert scene.stream.done()
        assert line.hung_up


async def test_a_router_that_ends_streams_without_a_word_is_none() -> None:
    async with Scene(router_there=True).serving() as scene:
        scene.gateway.says(request(CLUSTERS))
        await settle()
        [line] = scene.router.lines
        line.says(None)
        await settle()
        scene.gateway.says(request(ROUTES))
        await settle()
        assert [version for version, _ in scene.gateway.told] == ["c1", "r1"]
        assert line.hung_up
        assert not scene.stream.done()
        await asyncio.sleep(PATIENCE_S + 0.1)
        assert scene.stream.done()


async def test_a_gateway_that_leaves_ends_the_routers_stream() -> None:
    async with Scene(router_there=True).serving() as scene:
        scene.gateway.says(request(), None)
        await settle()
        assert scene.stream.done()
        assert scene.router.lines[0].hung_up


@pytest.mark.logs_errors
async def test_a_refusal_of_what_was_kept_is_an_error_in_the_gateways_words(caplog: pytest.LogCaptureFixture) -> None:
    async with Scene(router_there=False).serving() as scene:
        scene.gateway.says(request())
        await settle()
        [(_, nonce)] = scene.gateway.told
        scene.gateway.says(request(nonce=nonce, refusal="no such filter"))
        await settle()
        [error] = [record for record in caplog.records if record.levelname == "ERROR"]
        assert error.__dict__["fields"]["reason"] == "no such filter"
        assert len(scene.gateway.told) == 1
