"""Keeps the limits up: follows the registry, keeps what it said last while it is away, and dials again."""

from collections.abc import AsyncIterator
from typing import Protocol

from services.common.clock import Clock
from services.common.redial import follow
from services.limiter.engines.limits import Limiter, Limits


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
        await follow(self._source.watch, self._take, clock=self._clock, who="registry", what="limits")

    async def _take(self, limits: Limits) -> None:
        self._limiter.limits = limits
