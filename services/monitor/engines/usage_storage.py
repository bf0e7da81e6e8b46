"""Meters what is stored: once in each hour, for the whole of it.

An hour is noted as a whole and never twice, so any number of monitors may do this, and start and stop as they like. The
registry being away costs nothing: an hour in which it answers at any moment is known, and one in which it never did
gets, once the next is known, what was known last before it.
"""

from services.common.clock import Clock
from services.common.errors import MeshError
from services.common.telemetry.logging import get_logger
from services.monitor.domain.usage_window import hour_of, hour_start
from services.monitor.ports_usage import StorageSource, StorageStore

log = get_logger(__name__)

_RETRY_S = 60.0
_INTO_THE_HOUR_S = 1.0
"""Clocks of machines differ by less."""
_FILL_A_ROUND = 100


class StorageMeter:
    """Samples what is stored."""

    def __init__(self, *, source: StorageSource, store: StorageStore, clock: Clock) -> None:
        self._source = source
        self._store = store
        self._clock = clock

    async def keep(self) -> None:
        """Sees to it that this hour is known, and each that was missed. Raises DEPENDENCY_UNAVAILABLE."""
        now = self._clock.now()
        hour = hour_of(now)
        if not await self._store.sampled(hour):
            stored = await self._source.stored()
            # What is known now is of this hour, however long it took to learn it.
            await self._store.sample(hour, stored, at=now)
        while await self._store.fill(limit=_FILL_A_ROUND) == _FILL_A_ROUND:
            continue

    async def run(self) -> None:
        """A sample at once, then soon after each hour begins; a task of the lifecycle."""
        while True:
            try:
                await self.keep()
            except MeshError as error:
                log.info("what is stored could not be metered; tried again", reason=error.message)
                await self._clock.sleep(_RETRY_S)
                continue
            now = self._clock.now()
            left_s = (hour_start(hour_of(now) + 1) - now).total_seconds()
            await self._clock.sleep(left_s + _INTO_THE_HOUR_S)
