"""The work queue: which objects to look at, each once however often it was named, and none by two workers at a time.

What is named while it is being looked at is looked at again. Looks at one object are `gap_s` apart, so that a burst of
events costs one; after a failure they are further and further apart.
"""

import asyncio
from collections.abc import Awaitable, Callable

from services.common.clock import Clock
from services.common.errors import MeshError
from services.common.signals import Signal, wait_at_most
from services.common.telemetry.logging import get_logger
from services.operator.ports import Name

log = get_logger(__name__)

_BACKOFF_FIRST_S, _BACKOFF_MAX_S = 0.5, 60.0
_FAILURES_COUNTED_MAX = 16

Look = Callable[[Name], Awaitable[float | None]]
"""Looks at an object. In how many seconds to look again; None: once it is named."""


class WorkQueue:
    """Work for `workers` at a time. Bounded by the number of objects that there are."""

    def __init__(self, look: Look, *, clock: Clock, workers: int, gap_s: float, what: str) -> None:
        self._look = look
        self._clock = clock
        self._workers = workers
        self._gap_s = gap_s
        self._what = what
        self._due: dict[Name, float] = {}
        self._busy: set[Name] = set()
        self._looked: dict[Name, float] = {}
        self._failures: dict[Name, int] = {}
        self._changed = Signal()
        self.looks = 0
        """How often anything was looked at."""

    def add(self, name: Name, *, after_s: float = 0.0) -> None:
        """Has an object looked at, at the earliest of all that was asked for."""
        now_s = self._clock.monotonic()
        at_s = max(now_s + after_s, self._looked.get(name, now_s - self._gap_s) + self._gap_s)
        if at_s < self._due.get(name, float("inf")):
            self._due[name] = at_s
            self._changed.fire()

    def __len__(self) -> int:
        """How many objects wait, or are being looked at."""
        return len(self._due.keys() | self._busy)

    async def run(self) -> None:
        """Works until it is cancelled. What waited since an earlier run is forgotten: who names objects begins anew
        too."""
        self._due.clear()
        async with asyncio.TaskGroup() as group:
            for number in range(self._workers):
                group.create_task(self._work(), name=f"{self._what}: worker {number}")

    async def _work(self) -> None:
        while True:
            changed = self._changed.current
            name, wait_s = self._next()
            if name is None:
                await wait_at_most(changed, wait_s)
                continue
            del self._due[name]
            self._busy.add(name)
            try:
                await self._look_at(name)
            finally:
                self._busy.discard(name)
                # What was named meanwhile may be due for whoever sleeps.
                self._changed.fire()

    def _next(self) -> tuple[Name | None, float]:
        """What is due, else how long nothing will be."""
        now_s = self._clock.monotonic()
        free = [(at_s, name) for name, at_s in self._due.items() if name not in self._busy]
        if not free:
            return None, _BACKOFF_MAX_S
        at_s, name = min(free)
        return (name, 0.0) if at_s <= now_s else (None, at_s - now_s)

    async def _look_at(self, name: Name) -> None:
        self.looks += 1
        self._looked[name] = self._clock.monotonic()
        try:
            again_s = await self._look(name)
        except MeshError as error:
            log.info("will try again", what=self._what, object="/".join(name), error=str(error))
            self.add(name, after_s=self._backed_off(name))
        except Exception:
            log.exception("failed; will try again", what=self._what, object="/".join(name))
            self.add(name, after_s=self._backed_off(name))
        else:
            self._failures.pop(name, None)
            if again_s is not None:
                self.add(name, after_s=again_s)
            elif name not in self._due:
                # Nothing is kept of what may be gone; the gap after a look that changed nothing is not missed.
                self._looked.pop(name, None)

    def _backed_off(self, name: Name) -> float:
        count = self._failures.get(name, 0)
        self._failures[name] = min(count + 1, _FAILURES_COUNTED_MAX)
        return min(_BACKOFF_FIRST_S * float(2**count), _BACKOFF_MAX_S)
