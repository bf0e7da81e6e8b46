"""Keeps what is shown of the backlog true: what one process carries says nothing of what waits for all of them."""

from contextlib import suppress

from services.batch.ports import StoreAwayError
from services.batch.ports_backlog import BacklogBoard, BacklogReader
from services.common.clock import Clock

PERIOD_S = 5.0


class BacklogWatch:
    """Looks every five seconds. Several may share a store: each shows the same."""

    def __init__(self, *, reader: BacklogReader, board: BacklogBoard, clock: Clock) -> None:
        self._reader = reader
        self._board = board
        self._clock = clock

    async def run(self) -> None:
        """Looks until it is cancelled. While the store is away what was seen last stays; the runner tells of that."""
        while True:
            with suppress(StoreAwayError):
                self._board.backlog(await self._reader.backlog())
            await self._clock.sleep(PERIOD_S)
