"""The one timer of a version, for all that must end in time: who waits, who is on its way, a batch that takes long."""

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

from services.batcher.domain.policy import NEVER
from services.batcher.domain.queue import Waiter
from services.batcher.engines.servers import Servers, server_of
from services.batcher.engines.verdicts import Verdicts
from services.common.clock import Clock

if TYPE_CHECKING:
    from services.batcher.engines.lane import Lane

_GRAIN_S = 0.005
"""Deadlines are enforced to within this, so that many different ones cost few looks."""
_GRAIN_PER_LINE_S = 6e-6
"""And this for each line: a look goes through their fronts, and must not take more than a few percent of the time."""
_SLICE = 500
"""The most that are answered in one go: thousands whose time is up together must not hold up all others."""


class Deadlines:
    """Wakes its lane when the first deadline of all that is under way has come."""

    def __init__(
        self,
        lane: "Lane",
        *,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
        servers: Servers,
        verdicts: Verdicts,
    ) -> None:
        self._lane = lane
        self._clock = clock
        self._loop = loop
        self._servers = servers
        self._verdicts = verdicts
        self._timer: asyncio.TimerHandle | None = None
        self.wake_s = NEVER
        """When the timer fires; no deadline of the lane is earlier."""

    def wake_at(self, at_s: float) -> None:
        """Moves the timer."""
        if self._timer is not None:
            self._timer.cancel()
        self.wake_s = at_s
        self._timer = self._loop.call_later(max(0.0, at_s - self._clock.monotonic()), self._woken)

    def close(self) -> None:
        """Stops the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _woken(self) -> None:
        self._timer = None
        self.wake_s = NEVER
        now_s = self._clock.monotonic()
        next_s = self._sweep(now_s)
        self._lane.pump()
        if next_s <= now_s:
            self.wake_at(now_s)
        elif next_s < self.wake_s:
            self.wake_at(max(next_s, now_s + _GRAIN_S + _GRAIN_PER_LINE_S * self._lane.backlog.lines))

    def _sweep(self, now_s: float) -> float:
        """Answers all whose time is up. Returns the next deadline."""
        lane = self._lane
        expired, next_s = lane.backlog.expire(now_s, at_most=_SLICE)
        for waiter in expired:
            waiter.inputs = ()
            self._verdicts.expire(waiter, now_s, sent=False)
        next_s = min(next_s, self._sweep_members(lane.recoveries.members(), now_s, sent_s=None))
        for flight in list(lane.flights):
            next_s = min(next_s, self._sweep_members(flight.members, now_s, sent_s=flight.sent_s))
            if flight.overdue_s <= now_s:
                flight.overdue_s = NEVER
                self._servers.suspect(server_of(flight.place))
            if flight.latest_s <= now_s:
                lane.give_up(flight, now_s)
            else:
                next_s = min(next_s, flight.latest_s, flight.overdue_s)
        return next_s

    def _sweep_members(self, members: Iterable[Waiter], now_s: float, *, sent_s: float | None) -> float:
        next_s = NEVER
        for member in members:
            if member.caller.done():
                continue
            if member.deadline_s <= now_s:
                self._verdicts.expire(member, now_s, sent=sent_s is not None, sent_s=sent_s)
            else:
                next_s = min(next_s, member.deadline_s)
        return next_s
