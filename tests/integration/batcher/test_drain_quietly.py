"""The log of a batcher that was stopped: warnings say what was lost, and nothing is an error."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from services.common.clock import SystemClock
from services.supervisor.parts.part import Part
from services.supervisor.process import Process
from tests.support.batcher_faces_calls import address_of, asking, digits_request, events, scraped
from tests.support.batcher_faces_process import FakeMonitor, FakeRouter, batcher_part, full_table, served_model, serving
from tests.support.parts import running
from tests.support.waiting import eventually

TIMEOUT_S = 10.0


@pytest.mark.parametrize("neighbours", ["there", "refusing", "dying", "never there"])
async def test_a_stop_is_quiet_whatever_became_of_the_neighbours(tmp_path: Path, neighbours: str) -> None:
    router, monitor = FakeRouter(full_table(served_model("v1.0.0"))), FakeMonitor()
    # A restart has a table of its own, so that all four cases serve.
    async with serving(router=router) as address, running(batcher_part(tmp_path, router=address)):
        await eventually((tmp_path / "data" / "serving_table.bin").exists, what="the table is on disk")
    router.steps.put_nowait(full_table(served_model("v1.0.0")))
    used = neighbours in ("there", "dying")
    async with serving(router=router if used else None, monitor=monitor if used else None) as address:
        reached = address if neighbours != "never there" else "127.0.0.1:1"
        part = batcher_part(tmp_path, router=reached, monitor=reached)
        process = await Process.start(part, clock=SystemClock())
        await process.wait_ready()
        async with asking(part) as stub:
            await stub.Predict(digits_request(), timeout=TIMEOUT_S)
        if used:
            await eventually(lambda: len(router.heard) >= 2 and monitor.chunks, what="both were spoken to")
        if neighbours != "dying":
            await process.stop()
    if neighbours == "dying":
        await eventually(lambda: len(events(part, level="warning")) >= 2, what="it missed both")
        await process.stop()
    assert await process.wait() == 0
    assert events(part, level="error") == []


@pytest.mark.parametrize("delay_s", [0.0, 0.05, 0.2, 0.4, 0.6, 0.8])
async def test_a_stop_in_the_middle_of_the_start_is_quiet_and_soon(tmp_path: Path, delay_s: float) -> None:
    router, monitor = FakeRouter(full_table(served_model("v1.0.0"))), FakeMonitor()
    async with serving(router=router, monitor=monitor) as address:
        part = batcher_part(tmp_path, router=address, monitor=address)
        process = await Process.start(part, clock=SystemClock())
        await asyncio.sleep(delay_s)
        os.kill(process.pid, signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), 4)
        finally:
            await process.stop()
    assert events(part, level="error") == []


@pytest.mark.parametrize("kind", ["unary", "open stream", "half-closed stream", "stream being answered"])
async def test_callers_who_hang_up_leave_no_error_behind(tmp_path: Path, kind: str) -> None:
    router = FakeRouter(full_table(served_model("v1.0.0")))
    async with serving(router=router) as address:
        part = batcher_part(tmp_path, router=address)
        async with running(part), asking(part) as stub:
            for _ in range(20):
                await _hang_up(stub, kind)
            await eventually(lambda: _rests(part), what="all was given up")
            found = await scraped(part)
            await stub.Predict(digits_request(), timeout=TIMEOUT_S)
    assert found["model_errors_total"] > 0
    assert events(part, level="error") == []


async def _hang_up(stub: Any, kind: str) -> None:
    waiting = digits_request(parameters={"do": "wait"})
    if kind == "unary":
        call = stub.Predict(waiting, timeout=30)
        await asyncio.wait([asyncio.ensure_future(call.code())], timeout=0.02)
        call.cancel()
        return
    call = stub.StreamPredict(timeout=30)
    if kind == "stream being answered":
        for _ in range(200):
            await call.write(digits_request())
        await call.read()
    await call.write(waiting)
    if kind == "half-closed stream":
        await call.done_writing()
    await asyncio.wait([asyncio.ensure_future(call.code())], timeout=0.02)
    call.cancel()


async def _rests(part: Part) -> bool:
    return (await scraped(part))["model_active_requests"] == 0


async def test_it_is_unready_while_there_is_something_to_answer(tmp_path: Path) -> None:
    router = FakeRouter(full_table(served_model("v1.0.0")))
    async with serving(router=router) as address:
        part = batcher_part(tmp_path, router=address)
        async with running(part) as process, asking(part) as stub, httpx.AsyncClient(trust_env=False) as client:
            call = stub.Predict(digits_request(parameters={"do": "wait"}), timeout=30)
            waiting = asyncio.ensure_future(call.code())
            await eventually(lambda: _works(part), what="it is in work")
            os.kill(process.pid, signal.SIGTERM)
            answer = await client.get(f"http://{address_of(part)}/ready")
            while answer.status_code == 200:  # the signal is on its way to the loop
                answer = await client.get(f"http://{address_of(part)}/ready")
            assert answer.status_code == 503
            assert answer.json()["waiting_for"] == ["draining"]
            assert not waiting.done()
            call.cancel()
            # Nothing is left to be answered: the end comes before the grace period is over.
            assert await asyncio.wait_for(process.wait(), 4) == 0
            await waiting
    assert '"cut_off":0' in part.log_path.read_text()
    assert events(part, level="error") == []


async def _works(part: Part) -> bool:
    return (await scraped(part))["model_active_requests"] > 0


async def test_work_that_never_ends_is_cut_off_quietly(tmp_path: Path) -> None:
    router = FakeRouter(full_table(served_model("v1.0.0")))
    async with serving(router=router) as address:
        part = batcher_part(tmp_path, router=address, settings={"shutdown_grace_s": 2.5})
        async with running(part) as process, asking(part) as stub:
            unary = stub.Predict(digits_request(parameters={"do": "wait"}), timeout=30)
            stream = stub.StreamPredict(timeout=30)
            await stream.write(digits_request(parameters={"do": "wait"}))
            codes = [asyncio.ensure_future(call.code()) for call in (unary, stream)]
            await asyncio.wait(codes, timeout=0.2)
            os.kill(process.pid, signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), 4) == 0
            assert grpc.StatusCode.OK not in await asyncio.gather(*codes)
    assert events(part, level="error") == []
