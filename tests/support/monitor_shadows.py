"""Stands in for the database where examples of shadow copies are read."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from services.monitor.domain.records import ShadowExample
from services.monitor.domain.shadows import ShadowPair
from tests.support.monitor_stores import MemoryStore


class MemoryExampleStore:
    """An `ExampleStore` over a `MemoryStore`."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def examples(
        self, model: str, *, first: datetime, end: datetime, limit: int
    ) -> Mapping[ShadowPair, Sequence[ShadowExample]]:
        """The newest of each pair."""
        found = {
            pair: [e for e in examples if first.timestamp() * 1e6 <= e.time_us < end.timestamp() * 1e6][:limit]
            for pair, examples in self._store.shadow_examples.items()
            if pair.model == model
        }
        return {pair: examples for pair, examples in found.items() if examples}

    async def forget(self, *, before: datetime) -> None:
        """Drops older ones."""
        for pair, examples in self._store.shadow_examples.items():
            self._store.shadow_examples[pair] = [e for e in examples if e.time_us >= before.timestamp() * 1e6]
