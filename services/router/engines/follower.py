"""Follows the deployer: takes its word, keeps the last one when it goes away, and dials again."""

from services.common.clock import Clock
from services.common.errors import MeshError
from services.common.telemetry.logging import get_logger
from services.router.engines.publisher import Publisher
from services.router.ports import BackendSource, Board

log = get_logger(__name__)

_AGAIN_MIN_S = 0.1
_AGAIN_MAX_S = 2.0


class Follower:
    """One watcher of what is ready."""

    def __init__(self, *, source: BackendSource, publisher: Publisher, board: Board, clock: Clock) -> None:
        self._source = source
        self._publisher = publisher
        self._board = board
        self._clock = clock

    async def run(self) -> None:
        """Never ends by itself."""
        delay_s = _AGAIN_MIN_S
        while True:
            try:
                async for update in self._source.watch():
                    self._board.deployer(connected=True)
                    self._publisher.backends_changed(update)
                    delay_s = _AGAIN_MIN_S
                error = "the stream ended"
            except MeshError as failure:
                error = failure.message
            self._board.deployer(connected=False)
            log.warning("the deployer is away; what was ready last holds", error=error, again_in_s=delay_s)
            await self._clock.sleep(delay_s)
            delay_s = min(delay_s * 2, _AGAIN_MAX_S)
