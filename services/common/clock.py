"""Time, made once in `wiring` and passed down; nothing else in the mesh reads the wall clock.

A wall clock steps and a monotonic one does not, so durations and deadlines use `monotonic` and only stored or shown
moments use `now`. Tests pass a clock of their own and so decide what time it is.
"""

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """A source of time."""

    def now(self) -> datetime:
        """The current moment, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds since an arbitrary moment; never steps back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Returns after `seconds` of this clock's time."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        """The current moment, aware, in UTC."""
        return datetime.now(UTC)  # noqa: TID251 - the one place that may

    monotonic = staticmethod(time.monotonic)
    """Seconds of CLOCK_MONOTONIC, the clock that asyncio's loop uses too. Read several times a request, hence no call
    of a function in Python."""

    async def sleep(self, seconds: float) -> None:
        """Sleeps in real time."""
        await asyncio.sleep(seconds)


class LoopClock:
    """The running event loop's time, so that a loop in virtual time drives all that waits. `now` starts at `epoch`."""

    def __init__(self, epoch: datetime) -> None:
        self._epoch = epoch

    def now(self) -> datetime:
        """`epoch` plus the loop's time."""
        return datetime.fromtimestamp(self._epoch.timestamp() + self.monotonic(), UTC)

    def monotonic(self) -> float:
        """The loop's time in seconds."""
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        """Sleeps in the loop's time."""
        await asyncio.sleep(seconds)
