"""Callers who hang up while their request waits: their work is cancelled.

pyvoy says that a caller is gone only when asked, and answers at once when the body is complete. So whoever waits longer
than usual is asked about now and then, at growing intervals; quick requests are never asked about.
"""

import asyncio
from collections.abc import Awaitable

from services.batcher.faces.asgi import Received
from services.batcher.faces.call import Call
from services.batcher.faces.core import Core
from services.common.clock import Clock

_PERIOD_S = 0.05
_ASKED_MAX = 256
"""The most that are asked about in one round; the rest has its turn in the next."""


class HangUpWatch:
    """Looks after the requests in flight."""

    def __init__(self, *, core: Core, clock: Clock) -> None:
        self._core = core
        self._clock = clock
        self._next_s: dict[Call, float] = {}

    async def run(self) -> None:
        """Looks for as long as the process lives; a task of the lifecycle."""
        while True:
            await self._clock.sleep(_PERIOD_S)
            await self.look()

    async def look(self) -> None:
        """One round."""
        now_s = self._clock.monotonic()
        waiting = {call: self._next_s.get(call, call.arrived_s + _PERIOD_S) for call in self._core.in_flight}
        due = [call for call, next_s in waiting.items() if next_s <= now_s and call.receive is not None]
        for call in due[:_ASKED_MAX]:
            # Twice as old at the next question: a long wait is asked about a few times, not hundreds.
            waiting[call] = now_s + max(_PERIOD_S, now_s - call.arrived_s)
            if await _hung_up(call) and call in self._core.in_flight:
                call.hang_up()
        self._next_s = waiting


async def _hung_up(call: Call) -> bool:
    assert call.receive is not None, "only calls that can be asked are"
    asked: Awaitable[Received] = call.receive()
    try:
        async with asyncio.timeout(_PERIOD_S):
            message = await asked
    except TimeoutError:
        return False
    return message["type"] == "http.disconnect"
