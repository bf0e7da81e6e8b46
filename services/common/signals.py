"""A change that many may wait for, without a queue each."""

import asyncio
from collections.abc import Callable

_LEAST_S = 0.001


class Signal:
    """Take `current` before looking at a state; when the state is not what you want, await it and look again."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    @property
    def current(self) -> asyncio.Event:
        """Set by the next `fire`."""
        return self._event

    def fire(self) -> None:
        """Wakes everyone who waits."""
        event, self._event = self._event, asyncio.Event()
        event.set()

    async def until(self, reached: Callable[[], bool], *, timeout_s: float) -> bool:
        """Waits until `reached` is true, asked anew at each `fire`, or for `timeout_s` seconds; what it says then."""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    changed = self._event
                    if reached():
                        return True
                    await changed.wait()
        except TimeoutError:
            return reached()


async def wait_at_most(event: asyncio.Event, seconds: float) -> None:
    """Returns when `event` is set or `seconds` have passed, a millisecond at least: who waits for less than the clock
    can tell apart would come back without any time having passed, and wait again."""
    try:
        async with asyncio.timeout(max(seconds, _LEAST_S)):
            await event.wait()
    except TimeoutError:
        return
