"""Housekeeping: every engine has its turn, whatever happens to the others."""

import asyncio

import pytest

from services.common.clock import LoopClock
from services.common.errors import MeshError, Reason
from services.monitor.engines.keeper import Housekeeper
from tests.support.clock import NOON


@pytest.mark.looptime
async def test_a_failure_does_not_keep_the_others_from_their_turn() -> None:
    done: list[str] = []

    async def fail() -> None:
        done.append("fail")
        raise MeshError(Reason.DEPENDENCY_UNAVAILABLE, "the monitor's database does not answer")

    async def work() -> None:
        done.append("work")

    running = asyncio.create_task(Housekeeper(jobs={"fail": fail, "work": work}, clock=LoopClock(NOON)).run())
    await asyncio.sleep(125)
    running.cancel()
    assert done == ["fail", "work"] * 2
