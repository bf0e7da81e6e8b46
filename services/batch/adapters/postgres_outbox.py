"""Notifications that wait, in PostgreSQL. A trigger writes them with the statuses that they tell of."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from pydantic import TypeAdapter
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.batch.adapters.database import job_from_values, transaction
from services.batch.domain.deliveries import Delivery
from services.batch.domain.job import Job
from services.batch.ports_outbox import Letter
from services.common.delivery.pace import Outcome

_MOMENT: TypeAdapter[datetime | None] = TypeAdapter(datetime | None)
_MOMENTS = ("created_at", "updated_at", "started_at", "completed_at")

_TAKE = text("""
    UPDATE batch_notices SET tries = tries + 1, due_at = clock_timestamp() + make_interval(secs => :hold_s)
    WHERE notice_id IN (
        SELECT notice_id FROM batch_notices WHERE outcome IS NULL AND due_at <= clock_timestamp()
        ORDER BY due_at LIMIT :limit FOR UPDATE SKIP LOCKED)
    RETURNING notice_id::text AS id, means, address, job, created_at, tries
""")
_POSTPONE = text("""
    UPDATE batch_notices SET due_at = clock_timestamp() + make_interval(secs => :after_s), problem = :why
    WHERE notice_id = CAST(:id AS uuid) AND outcome IS NULL AND tries = :tries
""")
_END = text("""
    UPDATE batch_notices SET outcome = :outcome, problem = :why, ended_at = clock_timestamp()
    WHERE notice_id = CAST(:id AS uuid) AND outcome IS NULL
""")
_OF_JOB = text("""
    SELECT means, address, status, attempt, outcome, tries, problem, created_at, due_at, ended_at FROM batch_notices
    WHERE job_id = :job_id ORDER BY created_at DESC, means, address LIMIT :limit
""")
_WAITING = text("SELECT count(*) FROM batch_notices WHERE outcome IS NULL")


class PostgresOutbox:
    """An `Outbox`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def take(self, *, limit: int, hold_s: float) -> Sequence[Letter]:
        """Letters that are due. Each try is counted before it is made, so that a death in the middle counts too."""
        async with transaction(self._engine) as connection:
            rows = await connection.execute(_TAKE, {"limit": limit, "hold_s": hold_s})
            return [
                Letter(row.id, row.means, row.address, _then(row.job), row.created_at, row.tries)
                for row in sorted(rows, key=lambda row: row.created_at)
            ]

    async def postpone(self, letter: Letter, *, after_s: float, why: str) -> None:
        """Later."""
        values = {"id": letter.notice_id, "tries": letter.tries, "after_s": after_s, "why": why}
        async with transaction(self._engine) as connection:
            await connection.execute(_POSTPONE, values)

    async def end(self, letter: Letter, outcome: str, *, why: str = "") -> None:
        """For good."""
        async with transaction(self._engine) as connection:
            await connection.execute(_END, {"id": letter.notice_id, "outcome": outcome, "why": why})

    async def deliveries(self, job_id: str, *, limit: int) -> Sequence[Delivery]:
        """A job's letters."""
        async with transaction(self._engine) as connection:
            return [
                Delivery(
                    means=row.means,
                    address=row.address,
                    status=row.status,
                    attempt=row.attempt,
                    outcome=Outcome(row.outcome) if row.outcome else None,
                    tries=row.tries,
                    problem=row.problem,
                    created_at=row.created_at,
                    due_at=row.due_at,
                    ended_at=row.ended_at,
                )
                for row in await connection.execute(_OF_JOB, {"job_id": job_id, "limit": limit})
            ]

    async def waiting(self) -> int:
        """How many have not ended."""
        async with transaction(self._engine) as connection:
            return int((await connection.execute(_WAITING)).scalar_one())


def _then(row: Mapping[str, object]) -> Job:
    """The job that a row was, kept as JSON."""
    return job_from_values({**row, **{name: _MOMENT.validate_python(row.get(name)) for name in _MOMENTS}})
