"""How the other services of the mesh are: asked when someone wants to know, within a bound, remembered for a moment.

Remembered so briefly that nobody takes it for old, and long enough that a hundred callers cost one question.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from services.common.clock import Clock
from services.router.domain.health import Health
from services.router.ports import HealthSource


@dataclass(frozen=True, slots=True)
class _Answer:
    health: Health
    until_s: float


class Neighbours:
    """The services that can be asked, by full name."""

    def __init__(
        self, sources: Mapping[str, HealthSource], *, clock: Clock, timeout_s: float, remembered_s: float = 0.25
    ) -> None:
        self._sources = sources
        self._clock = clock
        self._timeout_s = timeout_s
        self._remembered_s = remembered_s
        self._answers: dict[str, _Answer] = {}
        self._asking = {service: asyncio.Lock() for service in sources}

    def knows(self, service: str) -> bool:
        """Whether it can be asked."""
        return service in self._sources

    async def health(self, service: str) -> Health:
        """How the service is; not serving where it does not say so in time."""
        async with self._asking[service]:
            answer = self._answers.get(service)
            if answer is not None and self._clock.monotonic() < answer.until_s:
                return answer.health
            health = await self._ask(service)
            self._answers[service] = _Answer(health, self._clock.monotonic() + self._remembered_s)
            return health

    async def _ask(self, service: str) -> Health:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._sources[service].ask(service)
        except TimeoutError:
            return Health.NOT_SERVING
