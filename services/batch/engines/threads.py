"""Blocking work in a thread, such that nothing of it goes on after its caller has ended."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def in_thread(work: Callable[[], T]) -> T:
    """What `work` returns. A cancellation waits until the thread has ended: whoever takes a job over, or clears it
    away, must not meet a thread that still writes its files. So keep `work` short, or able to be stopped."""
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # looked at, so that it is not reported as forgotten; the cancellation is what counts
        raise
