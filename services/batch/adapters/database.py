"""What both PostgreSQL adapters share: transactions, and a job's row."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pydantic import TypeAdapter
from sqlalchemy import Row
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.batch.domain.job import Job, JobSpec, Spent, Status
from services.common.errors import MeshError, Reason

SCHEMA = "batch"
SPEC = TypeAdapter(JobSpec)
SPENT = TypeAdapter(Spent)

COLUMNS = """job_id, spec, status, created_at, updated_at, started_at, completed_at, paused, attempt, total_records,
    processed_records, failed_records, total_chunks, completed_chunks, running_s, metrics, error_reason, error_message,
    created_by, team, revision, sequence"""


@asynccontextmanager
async def transaction(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A transaction. Raises DEPENDENCY_UNAVAILABLE where the database is away, restarting or too slow."""
    try:
        async with engine.begin() as connection:
            yield connection
    except (OperationalError, InterfaceError, PoolTimeoutError, OSError) as error:
        raise _unavailable(error) from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise _unavailable(error) from error
        raise


def _unavailable(error: Exception) -> MeshError:
    first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
    return MeshError(
        Reason.DEPENDENCY_UNAVAILABLE,
        f"the batch service's database does not answer ({first_line}); see whether PostgreSQL runs and try again",
        retry_after_s=2.0,
    )


def job_from_row(row: "Row[tuple[object, ...]]") -> Job:
    """The job that a row with `COLUMNS` holds."""
    values = row._mapping  # noqa: SLF001 - SQLAlchemy's public name for it
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
    )


def job_not_found(job_id: str) -> MeshError:
    """JOB_NOT_FOUND in the usual words."""
    return MeshError(
        Reason.JOB_NOT_FOUND,
        f"there is no batch job {job_id!r}; ListBatchJobs shows those that there are",
        metadata={"job_id": job_id},
    )
