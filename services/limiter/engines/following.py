"""Keeps the limits up: follows the registry, keeps what it said last while it is away, and dials again."""

from collections.abc import AsyncIterator
from typing import Protocol

from services.common.clock import Clock
from services.common.errors import MeshError
from services.common.telemetry.logging import get_logger
from services.limiter.engines.limits import Limiter, Limits

log = get_logger(__name__)

_AGAIN_MIN_S = 0.1
_AGAIN_MAX_S = 2.0


class LimitSource(Protocol):
    """Who says the limits."""

    def watch(self) -> AsyncIterator[Limits]:
        """All limits, then again whenever anything changed. Raises MeshError where it is away."""
        ...


class LimitFollower:
    """A background task: `run`."""

    def __init__(self, *, source: LimitSource, limiter: Limiter, clock: Clock) -> None:
        self._source = source
        self._limiter = limiter
        self._clock = clock

    async def run(self) -> None:
        """Never ends by itself."""
        delay_s = _AGAIN_MIN_S
        away = False
        while True:
            try:
                async for limits in self._source.watch():
                    self._limiter.limits = limits
                    delay_s, away = _AGAIN_MIN_S, False
                error = "the stream ended"
            except MeshError as failure:
                error = failure.message
            if not away:
                log.warning("the registry is away; the limits that it said last hold", error=error)
            away = True
            await self._clock.sleep(delay_s)
            delay_s = min(delay_s * 2, _AGAIN_MAX_S)
