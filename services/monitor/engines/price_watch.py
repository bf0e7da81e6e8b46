"""Keeps the prices that are shown those that hold: any monitor may change them."""

from contextlib import suppress
from typing import Protocol

from services.common.clock import Clock
from services.common.errors import MeshError
from services.monitor.domain.usage_cost import PriceTable
from services.monitor.ports_usage import PriceStore

PERIOD_S = 15.0


class PriceBoard(Protocol):
    """Shows them. Never fails and never waits."""

    def prices(self, table: PriceTable) -> None:
        """These are the prices now."""
        ...


class PriceWatch:
    """Reads the price table again and again: one row."""

    def __init__(self, *, store: PriceStore, board: PriceBoard, clock: Clock) -> None:
        self._store = store
        self._board = board
        self._clock = clock

    async def run(self) -> None:
        """A task of the lifecycle. While the database is away the last prices stay, and others tell of that."""
        while True:
            with suppress(MeshError):
                self._board.prices(await self._store.get())
            await self._clock.sleep(PERIOD_S)
