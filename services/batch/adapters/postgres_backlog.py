"""What has not ended, counted in PostgreSQL out of the two indexes of what is open: ended jobs cost nothing."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.batch.adapters.database import transaction
from services.batch.ports_backlog import Backlog

_JOBS = text("""
    SELECT count(*) FILTER (WHERE paused) AS paused,
        count(*) FILTER (WHERE NOT paused AND status = 'pending') AS pending,
        count(*) FILTER (WHERE NOT paused AND status = 'running') AS running
    FROM batch_jobs WHERE status IN ('pending', 'running')
""")
_CHUNKS = text("""
    SELECT count(*) FILTER (WHERE chunks.lease_until >= clock_timestamp()) AS leased, count(*) AS open
    FROM batch_chunks AS chunks JOIN batch_jobs AS jobs USING (job_id)
    WHERE chunks.part_name IS NULL AND jobs.status = 'running' AND NOT jobs.paused
""")


class PostgresBacklog:
    """A `BacklogReader`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def backlog(self) -> Backlog:
        """As it is now."""
        async with transaction(self._engine) as connection:
            jobs = (await connection.execute(_JOBS)).one()
            chunks = (await connection.execute(_CHUNKS)).one()
        return Backlog(
            pending=jobs.pending,
            running=jobs.running,
            paused=jobs.paused,
            chunks_leased=chunks.leased,
            chunks_waiting=chunks.open - chunks.leased,
        )
