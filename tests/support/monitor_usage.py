"""Stand in for where usage is read and storage is kept; contract tests hold them to what PostgreSQL does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from services.common.errors import MeshError, Reason
from services.monitor.domain.usage import UsageKey, Used
from services.monitor.domain.usage_cost import PriceTable
from services.monitor.ports_usage import Metered, Stored, UsageQuery
from tests.support.clock import NOON
from tests.support.monitor_stores import MemoryStore


@dataclass
class MemoryStorage:
    """A `StorageStore`."""

    hours: dict[int, Mapping[tuple[str, str], int]] = field(default_factory=dict)

    async def sampled(self, hour: int) -> bool:
        """Whether that hour is known."""
        return hour in self.hours

    async def sample(self, hour: int, stored: Sequence[Stored], *, at: datetime) -> bool:
        """Notes an hour, once."""
        if hour in self.hours:
            return False
        self.hours[hour] = {(one.team, one.model): one.bytes for one in stored}
        return True

    async def fill(self, *, limit: int) -> int:
        """What was known before, for hours that were missed."""
        if not self.hours:
            return 0
        missed = [hour for hour in range(min(self.hours), max(self.hours)) if hour not in self.hours][:limit]
        for hour in missed:
            self.hours[hour] = self.hours[hour - 1]
        return len(missed)


class MemoryUsageReader:
    """A `UsageReader` over what a `MemoryStore` counted and a `MemoryStorage` keeps."""

    def __init__(self, log: MemoryStore, storage: MemoryStorage) -> None:
        self._log = log
        self._storage = storage

    async def totals(self, query: UsageQuery, *, after: tuple[str, str, str] | None, limit: int) -> Sequence[Metered]:
        """Sums over the hours."""
        sums: dict[tuple[str, str, str], Metered] = {}
        for one in self._hours(query):
            key = one.key
            name = (key.team, key.model, key.version)
            known = sums.setdefault(name, Metered(key, Used(), 0))
            known.used.add(one.used)
            sums[name] = replace(known, stored_byte_hours=known.stored_byte_hours + one.stored_byte_hours)
        return [sums[name] for name in sorted(sums) if after is None or name > after][:limit]

    async def by_hour(self, query: UsageQuery, *, after: UsageKey | None, limit: int) -> Sequence[Metered]:
        """Each hour."""
        return [one for one in self._hours(query) if after is None or one.key > after][:limit]

    def _hours(self, query: UsageQuery) -> list[Metered]:
        used = {key: replace(one) for key, one in self._log.usage.items()}
        stored = {
            UsageKey(hour, team, model, ""): size
            for hour, sizes in self._storage.hours.items()
            for (team, model), size in sizes.items()
        }
        return [
            Metered(key, used.get(key, Used()), stored.get(key, 0))
            for key in sorted(used.keys() | stored.keys())
            if query.hours.first <= key.hour < query.hours.end
            and query.team in {None, key.team}
            and (query.models is None or key.model in query.models)
        ]


class MemoryPrices:
    """A `PriceStore`."""

    def __init__(self) -> None:
        self.table = PriceTable()

    async def get(self) -> PriceTable:
        """As it is now."""
        return self.table

    async def put(self, table: PriceTable, *, expected: int | None) -> PriceTable | None:
        """Replaces it where the revision is the expected one."""
        if expected not in {None, self.table.revision}:
            return None
        self.table = replace(table, revision=self.table.revision + 1, updated_at=NOON)
        return self.table


class MemoryStorageSource:
    """A `StorageSource` that says what it was told, or is away."""

    def __init__(self) -> None:
        self.held: list[Stored] = []
        self.away = False
        self.asked = 0

    async def stored(self) -> Sequence[Stored]:
        """All of it."""
        self.asked += 1
        if self.away:
            raise MeshError(Reason.DEPENDENCY_UNAVAILABLE, "the registry is away")
        return list(self.held)
