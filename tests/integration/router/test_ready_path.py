"""Whether one of several batchers is ready, asked over real sockets."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from services.router.adapters.health import ReadyPathHealthSource
from services.router.domain.health import Health

Serve = Callable[[bytes | None], Awaitable[str]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Starts a server that says one thing to whoever asks, or nothing at all where that is None; its address."""
    over = asyncio.Event()

    async def start(said: bytes | None) -> str:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readline()
            if said is None:
                await over.wait()
            else:
                writer.write(said)
                await writer.drain()
            writer.close()

        server = await stack.enter_async_context(await asyncio.start_server(answer, "127.0.0.1", 0))
        return f"127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async with AsyncExitStack() as stack:
        yield start
        over.set()


async def test_a_silent_batcher_does_not_hide_a_ready_one(serve: Serve) -> None:
    addresses = [await serve(None), await serve(b"HTTP/1.1 503 No\r\n\r\n"), await serve(b"HTTP/1.1 200 OK\r\n\r\n")]
    async with asyncio.timeout(4):  # less than the silent one is given
        assert await ReadyPathHealthSource(lambda: addresses).ask("any") is Health.SERVING


async def test_who_comes_and_goes_is_asked_or_is_not(serve: Serve) -> None:
    addresses = [await serve(b"HTTP/1.1 503 No\r\n\r\n")]
    source = ReadyPathHealthSource(lambda: addresses)
    assert await source.ask("any") is Health.NOT_SERVING
    addresses.append(await serve(b"HTTP/1.1 200 OK\r\n\r\n"))
    assert await source.ask("any") is Health.SERVING
    addresses.clear()
    assert await source.ask("any") is Health.NOT_SERVING
