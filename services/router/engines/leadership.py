"""Which of several routers acts on rollouts: whoever holds a lease in the database, by the database's clock.

The lease is taken for a few seconds and renewed well within them. A holder that hears nothing of the database stops
believing in it before the database gives it to another, by its own monotonic clock, counted from before it asked. A
process that was stopped, or a clock that jumped, may believe for too long all the same: so each holder has a greater
token than all before, and every write of a rollout's engine is refused unless it names the newest
(`RolloutStore.save(fence=…)`). The belief saves work; the token is what makes it safe.

The method is that of C. G. Gray and D. R. Cheriton, "Leases: an efficient fault-tolerant mechanism for distributed file
cache consistency" (SOSP 1989), with the fencing token of M. Kleppmann, "Designing Data-Intensive Applications" (2017),
chapter 8.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from services.common.clock import Clock
from services.common.errors import MeshError
from services.common.telemetry.logging import get_logger
from services.router.domain.rollouts import ROLLOUTS_LEASE
from services.router.ports import Leases

log = get_logger(__name__)

_MARGIN_S = 0.5
"""A holder stops this long before its lease ends: the two clocks need not run at quite the same pace."""


@dataclass(frozen=True, slots=True)
class LeadershipOptions:
    """Seconds."""

    ttl_s: float = 6.0
    """How long a lease lasts: so long nobody acts after the leader died."""
    renew_s: float = 2.0
    """Between renewals, and the longest that one may take."""
    try_s: float = 0.5
    """Between attempts of those who do not hold it."""


class Leadership:
    """One candidate."""

    def __init__(
        self, *, leases: Leases, holder: str, clock: Clock, options: LeadershipOptions = LeadershipOptions()
    ) -> None:
        self._leases = leases
        self._holder = holder
        self._clock = clock
        self._options = options
        self._token: int | None = None
        self._until_s = float("-inf")
        self._told: list[Callable[[], object]] = []

    @property
    def token(self) -> int | None:
        """The token to write with; None where this router does not lead."""
        return self._token if self._clock.monotonic() < self._until_s else None

    @property
    def leader(self) -> bool:
        """Whether this router leads."""
        return self.token is not None

    def on_change(self, told: Callable[[], object]) -> None:
        """Adds someone who is told when this router begins to lead, and when it ceases to."""
        self._told.append(told)

    async def run(self) -> None:
        """Takes the lease and holds it. Never ends by itself."""
        away = False
        while True:
            try:
                async with asyncio.timeout(self._options.renew_s):
                    await self._ask()
                away = False
            except (MeshError, TimeoutError) as error:
                if not away:
                    log.warning("the lease of rollouts cannot be asked for", error=str(error) or "it takes too long")
                away = True
            if self._token is not None and not self.leader:
                self._lose("it could not be renewed in time")
            await self._clock.sleep(self._pause_s())

    async def release(self) -> None:
        """Lets another router have it at once. Call it once nothing acts any more."""
        token = self._token
        if token is not None:
            self._lose("this router stops")
            await self._leases.release(ROLLOUTS_LEASE, token)

    async def _ask(self) -> None:
        asked_s = self._clock.monotonic()
        if self._token is None:
            token = await self._leases.acquire(ROLLOUTS_LEASE, self._holder, ttl_s=self._options.ttl_s)
            if token is not None:
                self._believe(asked_s)
                self._token = token
                log.info("this router acts on rollouts from now on", token=token)
                self._tell()
        elif await self._leases.renew(ROLLOUTS_LEASE, self._token, ttl_s=self._options.ttl_s):
            self._believe(asked_s)
        else:
            self._lose("another router holds it")

    def _believe(self, asked_s: float) -> None:
        self._until_s = asked_s + self._options.ttl_s - _MARGIN_S

    def _lose(self, why: str) -> None:
        log.info("this router does not act on rollouts any more", token=self._token, why=why)
        self._token, self._until_s = None, float("-inf")
        self._tell()

    def _tell(self) -> None:
        for told in self._told:
            told()

    def _pause_s(self) -> float:
        if self._token is None:
            return self._options.try_s
        # Woken at the end of the belief, so that whoever acts is told at once.
        return min(self._options.renew_s, max(0.01, self._until_s - self._clock.monotonic()))
