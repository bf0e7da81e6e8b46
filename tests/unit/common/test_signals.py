"""Waiting for a change: however little is left to wait, time passes."""

import asyncio

import looptime
import pytest

from services.common.signals import Signal, wait_at_most


@pytest.mark.parametrize("left_s", [-1.0, 0.0, 1e-14])
def test_who_waits_for_less_than_a_clock_can_tell_apart_comes_back_later_than_it_came(left_s: float) -> None:
    loop = looptime.new_event_loop()

    async def waited() -> float:
        began_s = loop.time()
        await wait_at_most(asyncio.Event(), left_s)
        return loop.time() - began_s

    assert loop.run_until_complete(waited()) > 0
    loop.close()


async def test_a_change_ends_the_wait_at_once() -> None:
    signal = Signal()
    changed = signal.current
    asyncio.get_running_loop().call_soon(signal.fire)
    await asyncio.wait_for(wait_at_most(changed, 60), timeout=5)
    assert changed.is_set()
