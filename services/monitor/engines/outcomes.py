"""Takes what became of predictions."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from services.common.access.book import EVERYTHING, Sight
from services.common.clock import Clock
from services.common.errors import invalid
from services.monitor.domain.outcomes import Outcome, check_request_id
from services.monitor.ports import OutcomeStore

OUTCOMES_MAX = 10_000


class Outcomes:
    """Owns outcomes. `keep` removes those past retention."""

    def __init__(self, *, store: OutcomeStore, clock: Clock, retention_days: int) -> None:
        self._store = store
        self._clock = clock
        self._retention = timedelta(days=retention_days)

    def now(self) -> datetime:
        """When an outcome that does not say so became true."""
        return self._clock.now()

    async def report(self, outcomes: Sequence[Outcome], sight: Sight = EVERYTHING) -> Sequence[Outcome]:
        """Takes outcomes, all or none; they come back with what was predicted where that is known yet. Of a request
        whose model the caller does not see nothing is known, now or ever."""
        if not 1 <= len(outcomes) <= OUTCOMES_MAX:
            raise invalid("outcomes", f"{len(outcomes)} outcomes", f"1 to {OUTCOMES_MAX} outcomes")
        return await self._store.report(outcomes, now=self._clock.now(), sight=sight)

    async def find(self, request_id: str, *, after: int, limit: int, sight: Sight = EVERYTHING) -> Sequence[Outcome]:
        """The outcomes of a request, of instances after that one, in their order."""
        check_request_id(request_id, "request_id")
        return await self._store.find(request_id, after=after, limit=limit, sight=sight)

    async def keep(self) -> None:
        """Removes what is past retention."""
        await self._store.forget(before=self._clock.now() - self._retention)
