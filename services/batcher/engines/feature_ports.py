"""What joining features needs of a feature store."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from services.batcher.domain.feature_views import Lookup, StoredRow

Read = asyncio.Future[Sequence[StoredRow | None] | None]
"""One row for each lookup, in order, None where the store has none of that entity. None altogether: no answer came."""


class FeatureStore(Protocol):
    """Where rows of views are kept. It never raises."""

    @property
    def problem(self) -> str:
        """Why it cannot be asked now, as the end of a sentence that begins with it. Empty: it can."""
        ...

    def read(self, lookups: Sequence[Lookup]) -> Read:
        """Asks for rows, each wanted once. Never waits; an answer may come late, and is None after a second at most."""
        ...
