"""Stands in for the database where windows to the second are read; contract tests hold it to what the real one does."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from services.monitor.domain.aggregate import Cell
from services.monitor.domain.evidence import (
    SECONDS_KEPT,
    WATCH_KEPT,
    MetricSum,
    Sums,
    WatchKey,
    head_end,
    head_is_kept,
    minute_floor,
)
from services.monitor.domain.measures import REQUESTS, SHADOWS
from services.monitor.domain.outcomes import values_of
from services.monitor.domain.seconds import SecondKey, add_encoded
from services.monitor.domain.window import minute_of
from tests.support.monitor_stores import MemoryStore


class MemoryEvidenceStore:
    """An `EvidenceStore` over a `MemoryStore`."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def register(self, key: WatchKey, *, now: datetime) -> None:
        """Remembers the window."""
        self._store.asked[key] = now
        if key not in self._store.watches:
            known = head_end(key.start) == key.start or (head_is_kept(key.start, now) and self._head_known(key))
            self._store.watches[key] = key.start if known else head_end(key.start)

    async def read(self, keys: Sequence[WatchKey], *, now: datetime) -> Mapping[WatchKey, Sums]:
        """The sums of each window."""
        return {key: self._read(key) for key in keys}

    async def forget(self, *, now: datetime) -> None:
        """Removes seconds and windows as the contract says."""
        for key in [key for key, asked in self._store.asked.items() if asked < now - WATCH_KEPT]:
            del self._store.watches[key], self._store.asked[key]
        heads = {(key.model, minute_of(key.start)) for key in self._store.watches}
        oldest = (now - SECONDS_KEPT).timestamp()
        self._store.seconds = [
            (key, cell)
            for key, cell in self._store.seconds
            if key.second >= oldest or (key.model, key.second // 60) in heads
        ]

    def _read(self, key: WatchKey) -> Sums:
        begins = self._store.watches.get(key, head_end(key.start))
        cells: dict[str, Cell] = {}
        for found, second in self._store.seconds:
            if self._in_head(found, key.model, begins):
                add_encoded(cells.setdefault(found.version, Cell()), second.encode())
        first = minute_of(head_end(begins))
        for place, cell in self._store.cells.items():
            if place.model == key.model and place.minute >= first:
                cells.setdefault(place.version, Cell()).merge(cell)
        dropped = sum(count for second, count in self._store.drops if second >= begins.timestamp())
        return Sums(begins, cells, self._outcomes(key.model, begins), dropped)

    def _outcomes(self, model: str, begins: datetime) -> dict[str, dict[str, MetricSum]]:
        found: dict[str, dict[str, MetricSum]] = {}
        for outcome in self._store.outcomes.values():
            made = outcome.predicted
            if made is not None and made.model == model and made.time >= begins:
                sums = found.setdefault(made.version, {})
                for name, value in values_of(outcome).items():
                    known = sums.get(name, MetricSum())
                    sums[name] = MetricSum(known.count + 1, known.total + value, known.sum_of_squares + value**2)
        return found

    def _in_head(self, found: SecondKey, model: str, begins: datetime) -> bool:
        return found.model == model and begins.timestamp() <= found.second < head_end(begins).timestamp()

    def _head_known(self, key: WatchKey) -> bool:
        floor = minute_floor(key.start)
        known = sum(
            cell.answered
            for found, cell in self._store.seconds
            if found.model == key.model and found.second // 60 == minute_of(floor)
        )
        counted = sum(
            cell.counts[REQUESTS] + cell.counts[SHADOWS]
            for place, cell in self._store.cells.items()
            if place.model == key.model and place.minute == minute_of(floor)
        )
        return known == counted
