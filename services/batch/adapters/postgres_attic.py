"""Forgets old jobs and notifications in PostgreSQL, some rows in each statement."""

import asyncio
from collections.abc import Callable, Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.batch.adapters.database import OUTPUT, transaction
from services.batch.domain.job import Status
from services.batch.ports import Leftover

_ROWS_AT_ONCE = 20_000
"""A job may have millions of failed rows; each statement stays well within its timeout."""
_OLD = """status IN ('completed', 'failed', 'cancelled')
      AND completed_at <= clock_timestamp() - make_interval(secs => :age_s)"""
_ENDED_BEFORE = text(f"""
    SELECT job_id, status, spec -> 'output' AS output, output_digest FROM batch_jobs
    WHERE {_OLD} ORDER BY completed_at LIMIT :limit
""")  # noqa: S608 - constants alone are put in
_LOCK_OLD = text(f"SELECT 1 FROM batch_jobs WHERE job_id = :job_id AND {_OLD} FOR UPDATE")  # noqa: S608
_FORGET_FAILED = text("""
    DELETE FROM batch_failed_rows WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM batch_failed_rows WHERE job_id = :job_id LIMIT :limit))
""")
_FORGET_CHUNKS = text("""
    DELETE FROM batch_chunks WHERE ctid = ANY(ARRAY(SELECT ctid FROM batch_chunks WHERE job_id = :job_id LIMIT :limit))
""")
_FORGET = text("DELETE FROM batch_jobs WHERE job_id = :job_id")
_FORGET_LETTERS = text("""
    DELETE FROM batch_notices WHERE notice_id IN (
        SELECT notice_id FROM batch_notices
        WHERE outcome IS NOT NULL AND ended_at <= clock_timestamp() - make_interval(secs => :age_s)
        LIMIT :limit FOR UPDATE SKIP LOCKED)
""")


class PostgresAttic:
    """An `Attic`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def ended_before(self, *, age_s: float, limit: int) -> Sequence[Leftover]:
        """Old jobs."""
        async with transaction(self._engine) as connection:
            rows = await connection.execute(_ENDED_BEFORE, {"age_s": age_s, "limit": limit})
            return [
                Leftover(row.job_id, Status(row.status), OUTPUT.validate_python(row.output), row.output_digest)
                for row in rows
            ]

    async def forget(self, job_id: str, *, age_s: float, discard: Callable[[], None]) -> bool:
        """Under the job's lock: a retry comes wholly before, and then it is not old any more, or wholly after."""
        async with transaction(self._engine) as connection:
            if (await connection.execute(_LOCK_OLD, {"job_id": job_id, "age_s": age_s})).one_or_none() is None:
                return False
            # First the files: without the row nobody would know of them.
            await asyncio.to_thread(discard)
            some = {"job_id": job_id, "limit": _ROWS_AT_ONCE}
            for statement in (_FORGET_FAILED, _FORGET_CHUNKS):
                while (await connection.execute(statement, some)).rowcount == _ROWS_AT_ONCE:
                    pass
            await connection.execute(_FORGET, {"job_id": job_id})
        return True

    async def forget_letters(self, *, age_s: float, limit: int) -> int:
        """Old notifications."""
        async with transaction(self._engine) as connection:
            return (await connection.execute(_FORGET_LETTERS, {"age_s": age_s, "limit": limit})).rowcount
