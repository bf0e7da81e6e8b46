"""What metering needs from outside. All raise MeshError DEPENDENCY_UNAVAILABLE where they cannot be reached."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from services.monitor.domain.usage import UsageKey, Used
from services.monitor.domain.usage_cost import PriceTable
from services.monitor.domain.usage_window import Hours


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """Whose usage, and when. `team` None: every team's, nobody's too. `models` None: of every model."""

    hours: Hours
    team: str | None = None
    models: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Metered:
    """Usage of one key, and the bytes times hours that were stored under it. Where hours are added up, that of the key
    is the first of them."""

    key: UsageKey
    used: Used
    stored_byte_hours: int


class UsageReader(Protocol):
    """Reads what was counted."""

    async def totals(self, query: UsageQuery, *, after: tuple[str, str, str] | None, limit: int) -> Sequence[Metered]:
        """Sums over the hours by team, model and version, in that order, from behind the one that is called so."""
        ...

    async def by_hour(self, query: UsageQuery, *, after: UsageKey | None, limit: int) -> Sequence[Metered]:
        """Each hour, in the order of keys, from behind that one."""
        ...


class PriceStore(Protocol):
    """The one table of prices."""

    async def get(self) -> PriceTable:
        """As it is now."""
        ...

    async def put(self, table: PriceTable, *, expected: int | None) -> PriceTable | None:
        """Replaces currency and prices; None where the revision is not the expected one. `expected` None: any."""
        ...


@dataclass(frozen=True, slots=True)
class Stored:
    """What a team has stored of one model."""

    team: str
    model: str
    bytes: int


class StorageSource(Protocol):
    """Who knows what is stored: the registry."""

    async def stored(self) -> Sequence[Stored]:
        """All of it, each team and model once."""
        ...


class StorageStore(Protocol):
    """What was stored in each hour."""

    async def sampled(self, hour: int) -> bool:
        """Whether that hour is known."""
        ...

    async def sample(self, hour: int, stored: Sequence[Stored], *, at: datetime) -> bool:
        """Notes what is stored in an hour; False where that is known already, and then nothing changes."""
        ...

    async def fill(self, *, limit: int) -> int:
        """Gives hours that were missed, between two that are known, what was known last before them; the earliest
        first, at most so many. How many it filled."""
        ...
