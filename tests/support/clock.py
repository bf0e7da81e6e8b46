"""Clocks that tests move: one stands still between, one goes on."""

import asyncio
import heapq
import itertools
from datetime import UTC, datetime, timedelta

from services.common.clock import SystemClock

NOON = datetime(2026, 1, 15, 12, 0, tzinfo=UTC)


class FakeClock:
    """Time moves by `advance` alone; sleepers wake in order as it passes them."""

    def __init__(self, now: datetime = NOON) -> None:
        self._epoch = now
        self._elapsed_s = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def now(self) -> datetime:
        """The moment it shows."""
        return self._epoch + timedelta(seconds=self._elapsed_s)

    def monotonic(self) -> float:
        """Seconds since the clock was made."""
        return self._elapsed_s

    async def sleep(self, seconds: float) -> None:
        """Returns once the clock was advanced by `seconds`."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._elapsed_s + seconds, next(self._order), woken))
        await woken

    def advance(self, seconds: float) -> None:
        """Moves time on and wakes whom it passes."""
        target_s = self._elapsed_s + seconds
        while self._sleepers and self._sleepers[0][0] <= target_s:
            self._elapsed_s, _, woken = heapq.heappop(self._sleepers)
            if not woken.done():
                woken.set_result(None)
        self._elapsed_s = target_s


class ShiftedClock(SystemClock):
    """The system's clock, ahead by as much as a test says; behind where that is negative."""

    def __init__(self, ahead: timedelta = timedelta()) -> None:
        self.ahead = ahead

    def now(self) -> datetime:
        """The moment it shows."""
        return super().now() + self.ahead
