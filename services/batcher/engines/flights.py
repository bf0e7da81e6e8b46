"""Rows that are being computed: whoever asks for the same row meanwhile waits for it instead of computing it again.

The first to ask leads, the others follow. A leader computes within its own request, with no task of its own, so that
its deadline and its cancellation are those of its caller. When it is cancelled or runs out of time its followers are
woken, and the first of them to run leads anew. When the computation failed they go on alone, each as if there were no
cache: the failure was another's, and only a request of one's own tells whether it is one's own too.
"""

import asyncio
from collections.abc import Iterable
from enum import Enum

from services.batcher.domain.cache_key import CacheKey
from services.batcher.domain.priority import Priority
from services.batcher.domain.request import InferResult


class Ended(Enum):
    """How a flight ended that brought nothing."""

    ABANDONED = "abandoned"
    """Its leader was cancelled or out of time; somebody else may lead."""
    FAILED = "failed"
    """The computation failed."""


Outcome = InferResult | Ended


class Flight:
    """One row on its way."""

    __slots__ = ("key", "landed", "priority", "waiters")

    def __init__(self, key: CacheKey, priority: Priority) -> None:
        self.key = key
        self.priority = priority
        self.landed = False
        self.waiters: list[asyncio.Future[Outcome]] = []


class Flights:
    """The rows being computed, by key. `followers_max` bounds who waits for others."""

    def __init__(self, *, followers_max: int) -> None:
        self._followers_max = followers_max
        self._flights: dict[CacheKey, Flight] = {}
        self.followers = 0
        """Who waits for others now."""

    def __len__(self) -> int:
        return len(self._flights)

    def claim(
        self, keys: Iterable[CacheKey], priority: Priority
    ) -> tuple[list[Flight], list[tuple[CacheKey, asyncio.Future[Outcome]]]]:
        """The flights that the caller leads from now on, and what comes of those that others lead.

        Each flight that it leads must be given to `land` or `end`. What it follows it must hand to `leave` at the end.
        Nobody follows a request of lower priority than its own, which may wait for idle backends.
        """
        mine: list[Flight] = []
        others: list[tuple[CacheKey, asyncio.Future[Outcome]]] = []
        for key in keys:
            flight = self._flights.get(key)
            if flight is None or flight.priority > priority or self.followers >= self._followers_max:
                flight = self._flights[key] = Flight(key, priority)
                mine.append(flight)
            else:
                future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
                flight.waiters.append(future)
                self.followers += 1
                others.append((key, future))
        return mine, others

    def leave(self, others: Iterable[tuple[CacheKey, asyncio.Future[Outcome]]]) -> None:
        """The caller waits for these no more, whether or not they were answered."""
        for _, future in others:
            self.followers -= 1
            future.cancel()

    def land(self, flight: Flight, result: InferResult) -> None:
        """The row is there."""
        self._settle(flight, result)

    def end(self, flights: Iterable[Flight], ended: Ended) -> None:
        """Nothing comes of those that did not land."""
        for flight in flights:
            if not flight.landed:
                self._settle(flight, ended)

    def _settle(self, flight: Flight, outcome: Outcome) -> None:
        flight.landed = True
        if self._flights.get(flight.key) is flight:
            del self._flights[flight.key]
        for waiter in flight.waiters:
            if not waiter.done():
                waiter.set_result(outcome)
