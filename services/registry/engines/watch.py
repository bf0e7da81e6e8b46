"""Whether the database answers, for the health service."""

from services.common.clock import Clock
from services.common.errors import MeshError
from services.common.telemetry.logging import get_logger
from services.registry.ports import Catalogue

log = get_logger(__name__)


class DatabaseWatch:
    """Looks every `period_s` seconds."""

    def __init__(self, catalogue: Catalogue, *, clock: Clock, period_s: float) -> None:
        self._catalogue = catalogue
        self._clock = clock
        self._period_s = period_s
        self.reachable = False

    async def run(self) -> None:
        """Looks for as long as the process lives."""
        while True:
            await self.look()
            await self._clock.sleep(self._period_s)

    async def look(self) -> None:
        """Looks once."""
        try:
            await self._catalogue.check()
        except MeshError as error:
            reachable = False
            if self.reachable:
                log.warning("the database does not answer", problem=error.message)
        else:
            reachable = True
            if not self.reachable:
                log.info("the database answers")
        self.reachable = reachable
