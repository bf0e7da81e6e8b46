"""The open-loop generator against a real gRPC server: its HTTP/2 is understood, and what fails is counted."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import grpc
import numpy as np
import pytest

from benchmarks.load import LoadFailedError
from benchmarks.open_loop import LEAD_IN_S, carried_per_s, run_script
from benchmarks.payloads import Sample, open_inference

CALL = open_inference("m", Sample(np.zeros((1, 4), dtype=np.float32), (0,)))
Context = grpc.aio.ServicerContext[bytes, bytes]
Behaviour = Callable[[bytes, Context], Awaitable[bytes]]
Serve = Callable[[Behaviour], Awaitable[str]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    server = grpc.aio.server()

    async def start(behaviour: Behaviour) -> str:
        handler = grpc.method_handlers_generic_handler(
            "inference.GRPCInferenceService", {"ModelInfer": grpc.unary_unary_rpc_method_handler(behaviour)}
        )
        server.add_generic_rpc_handlers((handler,))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        return f"127.0.0.1:{port}"

    yield start
    await server.stop(None)


async def test_every_request_of_a_script_is_sent_and_answered(serve: Serve, tmp_path: Path) -> None:
    seen: list[bytes] = []

    async def answer(message: bytes, context: Context) -> bytes:
        seen.append(message)
        return b"answer"

    times = np.linspace(0, LEAD_IN_S * 3, 300, endpoint=False)
    outcome = await run_script(address=await serve(answer), call=CALL, times=times, seconds=0.2, folder=tmp_path)
    assert outcome.errors == 0
    assert seen == [CALL.message] * 300
    # What comes before the end of the lead-in is sent and not timed.
    assert len(outcome.latency_s) == (times >= LEAD_IN_S).sum() == 200
    assert np.all(outcome.latency_s >= outcome.lag_s)


async def test_errors_in_trailers_are_errors(serve: Serve, tmp_path: Path) -> None:
    count = 0

    async def answer(message: bytes, context: Context) -> bytes:
        nonlocal count
        count += 1
        if count % 2:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "every other")
        return b"answer"

    times = np.linspace(0, 0.1, 100)
    outcome = await run_script(address=await serve(answer), call=CALL, times=times, seconds=0.1, folder=tmp_path)
    assert outcome.errors == 50


async def test_a_closed_loop_never_has_more_than_its_callers(serve: Serve, tmp_path: Path) -> None:
    running = most = 0

    async def answer(message: bytes, context: Context) -> bytes:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return b"answer"

    rate = await carried_per_s(address=await serve(answer), call=CALL, callers=5, seconds=0.3, folder=tmp_path)
    assert rate > 0
    assert 0 < most <= 5


async def test_a_server_that_is_not_there_is_a_sentence(unused_tcp_port: int, tmp_path: Path) -> None:
    with pytest.raises(LoadFailedError, match=r"failed at 127.0.0.1:\d+: .*refused"):
        await run_script(
            address=f"127.0.0.1:{unused_tcp_port}", call=CALL, times=np.zeros(1), seconds=0.1, folder=tmp_path
        )
