"""Follows the registry's aliases: reads all of them again and again, and keeps the last ones when it goes away.

The registry has no stream of changes to follow yet. So that reading costs little however many models there are, the
pause between two readings grows with how long one takes.
"""

from services.common.clock import Clock
from services.common.errors import MeshError
from services.common.telemetry.logging import get_logger
from services.router.engines.publisher import Publisher
from services.router.ports import AliasSource

log = get_logger(__name__)

_PAUSE_RATIO = 20
"""How many times as long as a reading the pause after it is at least."""


class AliasFollower:
    """Hands all aliases to the publisher, which tells batchers those whose version is ready.

    What was read last holds while the registry is away; a router that starts meanwhile begins with those of the table
    that was saved last.
    """

    def __init__(self, *, source: AliasSource, publisher: Publisher, clock: Clock, period_s: float) -> None:
        self._source = source
        self._publisher = publisher
        self._clock = clock
        self._period_s = period_s

    async def run(self) -> None:
        """Never ends by itself."""
        away = False
        while True:
            began_s = self._clock.monotonic()
            try:
                self._publisher.aliases_changed(await self._source.every())
                away = False
            except MeshError as error:
                if not away:
                    log.warning("the registry's aliases cannot be read; the last ones hold", error=error.message)
                away = True
            took_s = self._clock.monotonic() - began_s
            await self._clock.sleep(max(self._period_s, took_s * _PAUSE_RATIO))
