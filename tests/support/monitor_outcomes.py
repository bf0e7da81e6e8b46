"""Stands in for the database where outcomes are reported; contract tests hold it to what the real one does."""

from collections.abc import Sequence
from datetime import datetime

from services.common.access.book import EVERYTHING, Sight
from services.monitor.domain.outcomes import Outcome, OutcomeKey, predicted_of
from tests.support.monitor_stores import MemoryStore


class MemoryOutcomeStore:
    """An `OutcomeStore` over a `MemoryStore`."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._reported: dict[tuple[OutcomeKey, str], datetime] = {}

    async def report(
        self, outcomes: Sequence[Outcome], *, now: datetime, sight: Sight = EVERYTHING
    ) -> Sequence[Outcome]:
        """Keeps outcomes with what was predicted."""
        for reported in outcomes:
            outcome, key = reported, (reported.key, reported.reporter.team)
            known = self._store.outcomes.get(key)
            request_id, instance = outcome.key.request_id, outcome.key.instance_index
            found = self._store.under_test.get(request_id) or self._store.sampled.get(request_id)
            predicted = known.predicted if known is not None else None
            if predicted is None and found is not None:
                predicted = predicted_of(found, instance)
            if predicted is not None and sight.shows(predicted.model):
                outcome = outcome.joined(predicted)
            self._store.outcomes[key] = outcome
            self._reported[key] = now
        return [self._store.outcomes[outcome.key, outcome.reporter.team] for outcome in outcomes]

    async def find(self, request_id: str, *, after: int, limit: int, sight: Sight = EVERYTHING) -> Sequence[Outcome]:
        """The outcomes of a request."""
        first: dict[OutcomeKey, Outcome] = {}
        for (key, team), outcome in sorted(
            self._store.outcomes.items(), key=lambda item: (item[0][0], item[0][1] != sight.team, item[0][1])
        ):
            predicted = outcome.predicted
            shown = sight.shows(predicted.model) if predicted is not None else sight.everything or team == sight.team
            if key.request_id == request_id and key.instance_index > after and shown:
                first.setdefault(key, outcome)
        return list(first.values())[:limit]

    async def forget(self, *, before: datetime) -> None:
        """Drops outcomes reported earlier."""
        for key in list(self._store.outcomes):
            if self._reported[key] < before:
                del self._store.outcomes[key]
