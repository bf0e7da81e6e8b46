"""The watching by kopf ends at once, whenever it is stopped: also before it knows what the API server serves."""

import asyncio
import time
from collections.abc import AsyncIterator

import aiohttp.web
import pytest
from kubernetes_asyncio.client import Configuration
from prometheus_client import CollectorRegistry

from services.common.clock import SystemClock
from services.common.kubernetes.api_server import ApiServer, counted
from services.operator.adapters.watching import KopfView
from tests.integration.operator.conftest import Ground
from tests.support.operator_kube import wish

STOPS_WITHIN_S = 2.0
"""kopf itself waits 5 s for what it has left behind."""


def view(configuration: Configuration) -> KopfView:
    return KopfView(configuration, namespaces=(), named=lambda _: None, ab_test_named=lambda _: None)


async def stopped(watching: "asyncio.Task[None]") -> float:
    """How long it takes to end, in seconds."""
    began_s = time.monotonic()
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert watching.cancelled()
    return time.monotonic() - began_s


@pytest.fixture
async def silent(socket_enabled: None) -> AsyncIterator[tuple[Configuration, asyncio.Event]]:
    """An API server that answers nothing, and an event that says that it was asked."""
    asked, over = asyncio.Event(), asyncio.Event()

    async def never(_: aiohttp.web.Request) -> aiohttp.web.Response:
        asked.set()
        await over.wait()
        return aiohttp.web.Response(status=503)

    application = aiohttp.web.Application()
    application.router.add_route("*", "/{path:.*}", never)
    runner = aiohttp.web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    [address] = runner.addresses
    yield Configuration(host=f"http://127.0.0.1:{address[1]}"), asked
    over.set()
    await runner.cleanup()


async def test_it_ends_while_it_asks_what_the_api_server_serves(silent: tuple[Configuration, asyncio.Event]) -> None:
    configuration, asked = silent
    watching = asyncio.create_task(view(configuration).run())
    await asyncio.wait_for(asked.wait(), 10)
    assert await stopped(watching) < STOPS_WITHIN_S


async def test_it_ends_whenever_it_is_stopped(ground: Ground) -> None:
    for number in range(10):
        await ground.kube.apply(wish(ground.namespace, f"digits-{number}"))
    api = ApiServer(
        kubeconfig=ground.kubeconfig,
        clock=SystemClock(),
        calls_per_s=50,
        calls_burst=50,
        deadline_s=10,
        calls=counted("operator", CollectorRegistry()),
        service="operator",
    )
    await api.open()
    took_s: dict[float, float] = {}
    for step in range(16):
        watching = asyncio.create_task(view(api.configuration).run())
        after_s = 0.01 * step
        # Not an event: every moment of its start is to be met.
        await asyncio.sleep(after_s)
        took_s[after_s] = await stopped(watching)
    await api.close()
    assert max(took_s.values()) < STOPS_WITHIN_S, took_s
