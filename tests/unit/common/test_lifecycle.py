"""The end of a process's parts: bounded, whatever they do."""

import asyncio
import subprocess
import sys

import pytest

from services.common.clock import SystemClock
from services.common.lifecycle import Lifecycle


async def test_a_task_that_does_not_end_in_time_is_left_and_named(caplog: pytest.LogCaptureFixture) -> None:
    lifecycle = Lifecycle(name="test", clock=SystemClock(), stop_timeout_s=0.1)
    running, released, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
    stopped: list[str] = []

    async def stubborn() -> None:
        running.set()
        try:
            await asyncio.Event().wait()
        finally:
            while not released.is_set():
                try:
                    await released.wait()
                except asyncio.CancelledError:
                    continue
            ended.set()

    async def before() -> None:
        stopped.append("before")

    lifecycle.add("before", stop=before)
    lifecycle.add_task("stubborn", stubborn)
    await lifecycle.start()
    await running.wait()
    stopping = asyncio.create_task(lifecycle.stop())
    done, _ = await asyncio.wait({stopping}, timeout=20)
    early = not ended.is_set()
    released.set()
    await ended.wait()
    assert done
    assert early
    assert stopped == ["before"], "what started before it is stopped all the same"
    (said,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert said.getMessage() == "part did not stop in time"
    assert vars(said)["fields"]["part"] == "stubborn"


async def test_a_task_that_ends_in_time_has_ended_when_the_stop_returns() -> None:
    lifecycle = Lifecycle(name="test", clock=SystemClock())
    running, cleaned = asyncio.Event(), False

    async def tidy() -> None:
        nonlocal cleaned
        running.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned = True

    lifecycle.add_task("tidy", tidy)
    await lifecycle.start()
    await running.wait()
    await lifecycle.stop()
    assert cleaned


_TOLD_TWICE = """
import asyncio, os, signal, sys
from services.common.clock import SystemClock
from services.common.lifecycle import Lifecycle

async def main() -> int:
    lifecycle = Lifecycle(name="test", clock=SystemClock())
    lifecycle.request_stop()
    return await lifecycle.run()

code = asyncio.run(main())
for number in (signal.SIGTERM, signal.SIGINT):
    os.kill(os.getpid(), number)
sys.exit(code)
"""


def test_a_process_that_has_stopped_is_not_killed_by_a_second_signal_on_its_way_out() -> None:
    told = subprocess.run([sys.executable, "-c", _TOLD_TWICE], timeout=30, check=False, capture_output=True, text=True)
    assert (told.returncode, told.stderr) == (0, "")
