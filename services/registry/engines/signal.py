"""Word that something happened, which any number may wait for without a queue each."""

import asyncio


class Signal:
    """Take `current` before looking at a state; where the state is not what you want, await it and look again."""

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


async def wait_at_most(event: asyncio.Event, seconds: float) -> None:
    """Returns when `event` is set or `seconds` have passed."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
