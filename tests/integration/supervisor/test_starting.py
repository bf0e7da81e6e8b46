"""Processes that are started while this one is in the middle of gRPC calls, as the supervisor's probes always are."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1._async import HealthServicer

from services.common.clock import SystemClock
from services.supervisor.parts.part import Part
from services.supervisor.process import Process

_STARTS = 60
_CALLERS = 8


async def _at_once() -> bool:
    return True


@asynccontextmanager
async def calls_under_way() -> AsyncIterator[None]:
    """Callers that always wait for an answer."""
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(HealthServicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()

    async def call() -> None:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            check: Callable[..., Awaitable[bytes]] = channel.unary_unary("/grpc.health.v1.Health/Check")
            while True:
                await check(b"", timeout=30)

    callers = [asyncio.create_task(call(), name=f"caller {number}") for number in range(_CALLERS)]
    try:
        yield
    finally:
        for caller in callers:
            caller.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*callers, return_exceptions=True)
        await server.stop(None)


async def test_no_process_is_lost_to_calls_under_way(tmp_path: Path) -> None:
    part = Part(
        name="brief",
        argv=("/bin/sh", "-c", "exit 7"),
        env={"PATH": os.defpath},
        cwd=tmp_path,
        ready=_at_once,
        log_path=tmp_path / "brief.log",
    )
    async with calls_under_way():
        ends = [await (await Process.start(part, clock=SystemClock())).wait() for _ in range(_STARTS)]
    assert ends == [7] * _STARTS
