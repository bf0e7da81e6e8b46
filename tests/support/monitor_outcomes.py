"""Stands in for the database where outcomes are reported; contract tests hold it to what the real one does."""

from collections.abc import Sequence
from datetime import datetime

from services.monitor.domain.outcomes import Outcome, predicted_of
from tests.support.monitor_stores import MemoryStore


class MemoryOutcomeStore:
    """An `OutcomeStore` over a `MemoryStore`."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._reported: dict[tuple[str, int], datetime] = {}

    async def report(self, outcomes: Sequence[Outcome], *, now: datetime) -> Sequence[Outcome]:
        """Keeps outcomes with what was predicted."""
        for reported in outcomes:
            outcome, key = reported, reported.key
            known = self._store.outcomes.get(key)
            found = self._store.under_test.get(key.request_id) or self._store.sampled.get(key.request_id)
            if known is not None and known.predicted is not None:
                outcome = outcome.joined(known.predicted)
            elif found is not None:
                outcome = outcome.joined(predicted_of(found, key.instance_index))
            self._store.outcomes[key] = outcome
            self._reported[key.request_id, key.instance_index] = now
        return [self._store.outcomes[outcome.key] for outcome in outcomes]

    async def find(self, request_id: str, *, after: int, limit: int) -> Sequence[Outcome]:
        """The outcomes of a request."""
        found = sorted(
            (key, outcome)
            for key, outcome in self._store.outcomes.items()
            if key.request_id == request_id and key.instance_index > after
        )
        return [outcome for _, outcome in found[:limit]]

    async def forget(self, *, before: datetime) -> None:
        """Drops outcomes reported earlier."""
        for key in list(self._store.outcomes):
            if self._reported[key.request_id, key.instance_index] < before:
                del self._store.outcomes[key]
