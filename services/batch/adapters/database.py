"""What both PostgreSQL adapters share: transactions, and a job's row."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Row, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.batch.domain.chunks import FailedRow
from services.batch.domain.job import Job, JobSpec, Output, Spent, Status
from services.batch.domain.pace import Mark
from services.batch.ports import StoreAwayError

SCHEMA = "batch"
SPEC = TypeAdapter(JobSpec)
OUTPUT = TypeAdapter(Output)
SPENT = TypeAdapter(Spent)
PACE = TypeAdapter(tuple[Mark, ...])

COLUMNS = """job_id, spec, status, created_at, updated_at, started_at, completed_at, paused, attempt, total_records,
    processed_records, failed_records, total_chunks, completed_chunks, running_s, metrics, error_reason, error_message,
    created_by, team, revision, sequence, schedule_id, pace"""


@asynccontextmanager
async def transaction(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A transaction. Raises StoreAwayError where the database is away, restarting or too slow."""
    try:
        async with engine.begin() as connection:
            yield connection
    except (OperationalError, InterfaceError, PoolTimeoutError, OSError) as error:
        raise _unavailable(error) from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise _unavailable(error) from error
        raise


def _unavailable(error: Exception) -> StoreAwayError:
    return StoreAwayError(str(error).splitlines()[0] if str(error) else type(error).__name__)


_FAILED_ROWS = text("""
    SELECT row_number, key, error_reason, error_message FROM batch_failed_rows
    WHERE job_id = :job_id AND row_number > :after ORDER BY row_number LIMIT :limit
""")


async def failed_rows_after(engine: AsyncEngine, job_id: str, after: int, limit: int) -> Sequence[FailedRow]:
    """Rows that failed, by number, from after number `after`."""
    async with transaction(engine) as connection:
        values = {"job_id": job_id, "after": after, "limit": limit}
        return [FailedRow(*row) for row in await connection.execute(_FAILED_ROWS, values)]


def job_from_row(row: "Row[tuple[object, ...]]") -> Job:
    """The job that a row with `COLUMNS` holds."""
    return job_from_values({**row._mapping})  # noqa: SLF001 - SQLAlchemy's public name for it


def job_from_values(values: Mapping[str, Any]) -> Job:
    """The job that columns hold; those that came later may be missing."""
    return Job(
        job_id=values["job_id"],
        spec=SPEC.validate_python(values["spec"]),
        status=Status(values["status"]),
        created_at=values["created_at"],
        updated_at=values["updated_at"],
        started_at=values["started_at"],
        completed_at=values["completed_at"],
        paused=values["paused"],
        attempt=values["attempt"],
        total_rows=values["total_records"],
        processed_rows=values["processed_records"],
        failed_rows=values["failed_records"],
        total_chunks=values["total_chunks"],
        completed_chunks=values["completed_chunks"],
        running_s=values["running_s"],
        spent=SPENT.validate_python(values["metrics"]),
        error_reason=values["error_reason"],
        error_message=values["error_message"],
        created_by=values["created_by"],
        team=values["team"],
        revision=values["revision"],
        sequence=values["sequence"],
        schedule_id=values.get("schedule_id") or "",
        pace=PACE.validate_python(values.get("pace") or ()),
    )
