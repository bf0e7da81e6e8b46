"""Tells that what is known of access changed, without a queue for each who waits."""

import asyncio


class Changes:
    """Take `current` before looking; await it when there is nothing to do, and look again."""

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
