"""Daily partitions in PostgreSQL. Names come from the code alone, and are quoted all the same."""

from collections.abc import Sequence
from datetime import date, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.monitor.adapters.database import transaction

_EXISTING = text("""
    SELECT child.relname FROM pg_inherits
    JOIN pg_class child ON child.oid = inhrelid
    WHERE inhparent = CAST(:table AS regclass) ORDER BY child.relname
""")


class PostgresPartitionStore:
    """A `PartitionStore`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def existing(self, table: str) -> Sequence[str]:
        """The names of the table's partitions, ascending."""
        async with transaction(self._engine) as connection:
            return [str(name) for (name,) in await connection.execute(_EXISTING, {"table": table})]

    async def create(self, table: str, partition: str, day: date) -> None:
        """Makes the partition from midnight to midnight, in UTC."""
        first, end = (f"'{bound:%Y-%m-%d} 00:00:00+00'" for bound in (day, day + timedelta(days=1)))
        await self._execute(
            f'CREATE TABLE IF NOT EXISTS "{partition}" PARTITION OF "{table}" FOR VALUES FROM ({first}) TO ({end})'
        )

    async def drop(self, partition: str) -> None:
        """Drops it; another process may have been quicker."""
        await self._execute(f'DROP TABLE IF EXISTS "{partition}"')

    async def _execute(self, statement: str) -> None:
        async with transaction(self._engine) as connection:
            # Partitions need a lock that waits for all readers, and all others wait behind it: rather try again later.
            await connection.execute(text("SET LOCAL lock_timeout = '3s'"))
            await connection.execute(text(statement))
