"""The bridge's beginnings and ends in a real Envoy: applications that do not start, fail, or are ended under load."""

import asyncio
import os
import signal
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from services.common.clock import SystemClock
from services.supervisor.process import PartFailedError, Process
from tests.support.batcher_faces_calls import address_of
from tests.support.bridge_process import SITE, Hosted, hosted, site_part
from tests.support.parts import running
from tests.support.raw_http2 import connected


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("Unstartable", "RuntimeError: the cellar is flooded"),
        ("Unwilling", f"{SITE}Unwilling asked to end the process: no key, no service"),
    ],
)
async def test_an_application_that_does_not_start_ends_envoy_with_the_reason(
    tmp_path: Path, name: str, why: str
) -> None:
    part = site_part(tmp_path, name)
    process = await Process.start(part, clock=SystemClock())
    try:
        with pytest.raises(PartFailedError, match="died while starting"):
            await process.wait_ready()
    finally:
        await process.stop()
    said = part.log_path.read_text()
    assert why in said
    assert f"{SITE}{name} did not start; what it said is above" in said


async def test_a_module_that_is_not_there_ends_envoy_with_its_name(tmp_path: Path) -> None:
    part = site_part(tmp_path)
    part = replace(part, argv=tuple(argument.replace("bridge_site", "no_such_site") for argument in part.argv))
    process = await Process.start(part, clock=SystemClock())
    try:
        assert await asyncio.wait_for(process.wait(), 20) != 0
    finally:
        await process.stop()
    assert "No module named 'tests.support.no_such_site'" in part.log_path.read_text()


async def test_an_application_that_ends_by_itself_ends_the_process(tmp_path: Path) -> None:
    """Envoy would go on taking requests that nobody answers."""
    async with hosted(tmp_path) as site:
        async with site.client() as client:
            with pytest.raises(httpx.RemoteProtocolError):
                await client.post("/leave")
        assert await asyncio.wait_for(site.process.wait(), 10) == 1
        assert f"{SITE}Plain ended by itself" in site.part.log_path.read_text()


async def test_an_application_that_fails_at_its_end_does_not_disturb_envoys(tmp_path: Path) -> None:
    part = site_part(tmp_path, "Unstoppable")
    process = await Process.start(part, clock=SystemClock())
    try:
        await process.wait_ready()
        os.kill(process.pid, signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 10) == 0
    finally:
        await process.stop()
    assert "RuntimeError: the door is stuck" in part.log_path.read_text()


async def test_who_is_answered_by_envoy_itself_is_worked_for_no_longer(tmp_path: Path) -> None:
    """Envoy loses patience with streams on which nothing moves."""
    part = site_part(tmp_path, settings={"stream_idle_s": 1})
    async with running(part) as process, connected(address_of(part)) as http2:
        site = Hosted(address_of(part), process, part)
        streams = [await http2.begin(path) for path in ("/wait", "/echo", "/stream/held", "/stream/echo") * 10]
        waiting = await http2.begin("/wait", end=True)
        assert (await http2.wait(waiting)).status == 504
        for stream in streams:
            assert (await http2.wait(stream)).over
        await site.waits_for()
        assert not http2.lost


@pytest.mark.parametrize("times", range(2))
async def test_a_signal_in_the_midst_of_load_ends_in_order(tmp_path: Path, times: int) -> None:
    """Envoy ends at once here, with requests in every phase, and Python's thread after it."""
    async with hosted(tmp_path) as site:
        stop = asyncio.Event()

        async def ask(number: int) -> None:
            while not stop.is_set():
                async with connected(site.address) as http2:
                    waiting = await http2.begin("/wait", end=True)
                    flood = await http2.begin("/stream/flood", end=True)
                    while not (http2.lost or stop.is_set()):
                        stream = await http2.begin("/echo")
                        await http2.send(stream, bytes(100 * number), end=True)
                        await http2.wait(stream)
                    del waiting, flood

        asking = [asyncio.create_task(ask(number), name=f"caller {number}") for number in range(8)]
        await site.waits_for(waiting=8)
        os.kill(site.process.pid, signal.SIGTERM)
        assert await asyncio.wait_for(site.process.wait(), 20) == 0
        stop.set()
        await asyncio.gather(*asking, return_exceptions=True)
        assert '"event": "stopped"' in site.part.log_path.read_text()
        assert "Segmentation fault" not in site.part.log_path.read_text()
