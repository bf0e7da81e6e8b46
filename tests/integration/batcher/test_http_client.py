"""The client against a real server that misbehaves: slow, cut off, garbled, chunked, gone."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import uvloop

from services.batcher.adapters.triton import TritonClient
from services.batcher.domain.failure import BackendFailure, FailureKind
from tests.support.batcher_engine_server import BACKEND, SHAPE, Got, Server, answer
from tests.support.waiting import eventually


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def client(server: Server) -> AsyncIterator[TritonClient]:
    made = TritonClient(f"127.0.0.1:{server.port}", connections_max=4, connect_timeout_s=0.5)
    yield made
    await made.close()


async def ask(client: TritonClient, number: int = 7) -> int | BackendFailure:
    """What the server gives back for one row."""
    got = Got()
    client.prepare(SHAPE, backend=BACKEND).send(1, [8], [number.to_bytes(8, "little")], got)
    outcome = await asyncio.wait_for(got.future, 5)
    return outcome if isinstance(outcome, BackendFailure) else int.from_bytes(outcome[0].data, "little")


async def failure_of(client: TritonClient) -> BackendFailure:
    outcome = await ask(client)
    assert isinstance(outcome, BackendFailure), outcome
    return outcome


async def test_one_connection_serves_calls_that_follow_one_another(server: Server, client: TritonClient) -> None:
    assert [await ask(client, number) for number in range(5)] == list(range(5))
    assert server.connections == 1


async def test_connections_are_bounded_and_everyone_is_answered(server: Server, client: TritonClient) -> None:
    async def slowly(data: bytes, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.01)
        writer.write(answer(data))

    server.behave = slowly
    assert await asyncio.gather(*(ask(client, number) for number in range(40))) == list(range(40))
    assert server.connections == 4
    assert client.connections == 4


async def test_a_busy_server_is_still_ready(server: Server, client: TritonClient) -> None:
    release = asyncio.Event()

    async def hold(data: bytes, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        writer.write(answer(data))

    server.behave = hold
    calls = asyncio.gather(*(ask(client, number) for number in range(6)))
    await eventually(lambda: server.requests == 4, what="every connection is busy")
    assert await client.ready()
    release.set()
    assert await calls == list(range(6))


async def test_an_answer_that_trickles_in_is_whole(server: Server, client: TritonClient) -> None:
    async def trickle(data: bytes, writer: asyncio.StreamWriter) -> None:
        for byte in answer(data):
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)

    server.behave = trickle
    assert await ask(client, 12345) == 12345


async def test_a_large_batch_goes_through_in_both_directions(server: Server, client: TritonClient) -> None:
    rows = 500_000
    data = bytes(range(256)) * (rows * 8 // 256)
    got = Got()
    client.prepare(SHAPE, backend=BACKEND).send(rows, [len(data)], [data], got)
    outcome = await asyncio.wait_for(got.future, 10)
    assert not isinstance(outcome, BackendFailure)
    assert bytes(outcome[0].data) == data


async def test_a_kept_connection_that_the_server_closed_costs_nobody_an_answer(
    server: Server, client: TritonClient
) -> None:
    assert await asyncio.gather(*(ask(client, number) for number in range(3))) == [0, 1, 2]
    await server.hang_up()
    assert await asyncio.gather(*(ask(client, number) for number in range(8))) == list(range(8))


async def test_a_connection_closed_as_the_request_arrives_is_tried_once_on_a_new_one(
    server: Server, client: TritonClient
) -> None:
    assert await ask(client) == 7
    hung_up = 0

    async def hang_up_once(data: bytes, writer: asyncio.StreamWriter) -> None:
        nonlocal hung_up
        if not hung_up:
            hung_up += 1
            writer.transport.abort()
        else:
            writer.write(answer(data))

    server.behave = hang_up_once
    assert await ask(client) == 7
    assert hung_up == 1

    async def hang_up(data: bytes, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    server.behave = hang_up
    before = server.requests
    assert (await failure_of(client)).kind is FailureKind.LOST
    assert server.requests == before + 2


@pytest.mark.parametrize(
    ("sent", "kind", "why"),
    [
        (answer(b"12345678")[:-3], FailureKind.LOST, "closed the connection"),
        (answer(b"12345678")[:20], FailureKind.LOST, "closed the connection"),
        (b"garbage\r\n\r\n", FailureKind.GARBLED, "begins with"),
        (b"\0" * 100_000, FailureKind.GARBLED, "longer than"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", FailureKind.GARBLED, "chunked"),
        (answer(b"12345678") + b"more", FailureKind.GARBLED, "nobody asked"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", FailureKind.GARBLED, "cannot be read"),
        (b'HTTP/1.1 500 X\r\nContent-Length: 15\r\n\r\n{"error":"sick"', FailureKind.MODEL, "sick"),
    ],
)
async def test_misbehaviour_is_told_and_the_next_call_is_right(
    server: Server, client: TritonClient, sent: bytes, kind: FailureKind, why: str
) -> None:
    async def send(data: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(sent)
        await writer.drain()
        writer.close()

    server.behave = send
    failure = await failure_of(client)
    assert failure.kind is kind
    assert why in failure.message
    server.behave = server.properly
    assert await ask(client, 3) == 3


async def test_an_interim_response_and_a_last_one(server: Server, client: TritonClient) -> None:
    async def politely(data: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.01)
        writer.write(answer(data, b"Connection: close"))
        await writer.drain()
        writer.close()

    server.behave = politely
    assert [await ask(client, number) for number in range(3)] == [0, 1, 2]
    assert server.connections == 3


async def test_a_server_that_is_not_there_is_told_at_once(server: Server, client: TritonClient) -> None:
    await server.stop()
    assert not await client.ready()
    outcomes = await asyncio.gather(*(failure_of(client) for _ in range(10)))
    assert {outcome.kind for outcome in outcomes} == {FailureKind.UNREACHABLE}
    await server.start()
    assert await client.ready()
    assert await ask(client, 5) == 5


async def test_a_call_that_was_given_up_leaves_nothing_behind(server: Server, client: TritonClient) -> None:
    arrived = asyncio.Event()

    async def never(data: bytes, writer: asyncio.StreamWriter) -> None:
        arrived.set()

    server.behave = never
    got = Got()
    exchange = client.prepare(SHAPE, backend=BACKEND).send(1, [8], [b"12345678"], got)
    await arrived.wait()
    exchange.abort()
    server.behave = server.properly
    assert await ask(client, 9) == 9
    await eventually(lambda: client.connections == 1, what="the connection of the call that was given up is closed")
    assert not got.future.done()
    waiting = [client.prepare(SHAPE, backend=BACKEND).send(1, [8], [b"12345678"], Got()) for _ in range(9)]
    for one in waiting:
        one.abort()
    assert await ask(client, 10) == 10


async def test_a_server_that_never_answers_is_not_ready() -> None:
    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.transport.abort()
        heard.set()

    heard = asyncio.Event()
    silent = await asyncio.start_server(hear, "127.0.0.1", 0)
    client = TritonClient(f"127.0.0.1:{silent.sockets[0].getsockname()[1]}")
    assert not await client.ready()
    await client.close()
    await asyncio.wait_for(heard.wait(), 5)
    silent.close()
    await silent.wait_closed()


async def test_closing_fails_what_is_under_way_and_what_comes_after(server: Server, client: TritonClient) -> None:
    arrived = asyncio.Event()

    async def never(data: bytes, writer: asyncio.StreamWriter) -> None:
        arrived.set()

    server.behave = never
    call = asyncio.create_task(failure_of(client))
    await arrived.wait()
    await client.close()
    assert (await call).kind is FailureKind.LOST
    assert (await failure_of(client)).kind is FailureKind.UNREACHABLE


def test_all_that_on_the_loop_that_the_batcher_runs_on() -> None:
    # Its transports are not asyncio's, and they report a closed connection in their own time.
    uvloop.run(_everything())


async def _everything() -> None:
    server = Server()
    await server.start()
    client = TritonClient(f"127.0.0.1:{server.port}", connections_max=4, connect_timeout_s=0.5)
    await test_one_connection_serves_calls_that_follow_one_another(server, client)
    await test_a_kept_connection_that_the_server_closed_costs_nobody_an_answer(server, client)
    await test_a_connection_closed_as_the_request_arrives_is_tried_once_on_a_new_one(server, client)
    server.behave = server.properly
    await test_a_large_batch_goes_through_in_both_directions(server, client)
    await test_a_call_that_was_given_up_leaves_nothing_behind(server, client)
    await test_a_server_that_is_not_there_is_told_at_once(server, client)
    await test_closing_fails_what_is_under_way_and_what_comes_after(server, client)
    await server.stop()
