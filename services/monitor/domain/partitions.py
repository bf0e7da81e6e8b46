"""Which daily partitions a table must have, and which it may lose."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta

DAYS_AHEAD = 3
"""Partitions made ahead: a monitor that cannot reach its tables for less than this loses nothing."""
DAYS_BACK = 1
"""Requests may be this late."""


@dataclass(frozen=True)
class PartitionedTable:
    """A table that is range-partitioned by day."""

    name: str
    retention_days: int

    def partition(self, day: date) -> str:
        """The name of the partition that holds `day`."""
        return f"{self.name}_{day:%Y%m%d}"

    def day(self, partition: str) -> date | None:
        """The day that the partition called so holds; None for a name that is none of ours."""
        stem, _, digits = partition.rpartition("_")
        if stem != self.name or len(digits) != 8 or not digits.isdigit():
            return None
        try:
            return date.fromisoformat(digits)
        except ValueError:
            return None


@dataclass(frozen=True)
class PartitionPlan:
    """What to do to one table."""

    create: tuple[date, ...]
    drop: tuple[str, ...]


def plan(table: PartitionedTable, existing: Iterable[str], *, today: date) -> PartitionPlan:
    """The days to make partitions for, ascending, and the partitions that hold only what is past retention."""
    days = {name: day for name in existing if (day := table.day(name)) is not None}
    wanted = [today + timedelta(days=offset) for offset in range(-DAYS_BACK, DAYS_AHEAD + 1)]
    oldest = today - timedelta(days=table.retention_days)
    have = set(days.values())
    return PartitionPlan(
        create=tuple(day for day in wanted if day not in have),
        drop=tuple(sorted(name for name, day in days.items() if day < oldest)),
    )
