"""Jobs as callers see them, in PostgreSQL."""

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.batch.adapters.database import COLUMNS, SPEC, failed_rows_after, job_from_row, transaction
from services.batch.domain.chunks import Chunk, FailedRow, Part
from services.batch.domain.job import Job, JobSpec, job_not_found, output_taken, request_id_reused
from services.batch.ports import Change, JobQuery, NewJob, StoreAwayError, StoredChunk

_OUTPUT_INDEX = "batch_jobs_output"
_INSERT = text(f"""
    INSERT INTO batch_jobs (job_id, job_name, model_id, version_id, input_uri, output_uri, batch_size, max_parallelism,
                            spec, labels, created_by, team, request_id, request_digest, schedule_id)
    VALUES (:job_id, :job_name, :model, :version, :input_uri, :output_uri, :batch_size, :max_parallelism,
            CAST(:spec AS jsonb), CAST(:spec AS jsonb) -> 'labels', :created_by, :team, :request_id, :request_digest,
            :schedule_id)
    ON CONFLICT (team, request_id) DO NOTHING
    RETURNING {COLUMNS}
""")  # noqa: S608 - constants alone are put in
_BY_REQUEST = text(
    f"SELECT {COLUMNS}, request_digest FROM batch_jobs WHERE team = :team AND request_id = :request_id"  # noqa: S608
)
_GET = text(f"SELECT {COLUMNS} FROM batch_jobs WHERE job_id = :job_id")  # noqa: S608
_LOCK = text(f"SELECT {COLUMNS} FROM batch_jobs WHERE job_id = :job_id FOR UPDATE")  # noqa: S608
_QUERY = text(f"""
    SELECT {COLUMNS} FROM batch_jobs
    WHERE (:model = '' OR model_id = :model) AND (:status = '' OR status = :status)
      AND labels @> CAST(:labels AS jsonb) AND (:schedule_id = '' OR schedule_id = :schedule_id)
      AND (:everything OR (team <> '' AND team = :team AND model_id = ANY(CAST(:models AS text[]))))
      AND (:before = 0 OR sequence < :before)
    ORDER BY sequence DESC LIMIT :limit
""")  # noqa: S608 - constants alone are put in
_CHANGE = text(f"""
    UPDATE batch_jobs SET
        status = COALESCE(:status, status),
        paused = COALESCE(:paused, paused),
        spec = COALESCE(CAST(:spec AS jsonb), spec),
        labels = COALESCE(CAST(:spec AS jsonb) -> 'labels', labels),
        job_name = COALESCE(CAST(:spec AS jsonb) ->> 'job_name', job_name),
        batch_size = COALESCE((CAST(:spec AS jsonb) ->> 'batch_size')::integer, batch_size),
        max_parallelism = COALESCE((CAST(:spec AS jsonb) ->> 'max_parallelism')::integer, max_parallelism),
        lease_token = lease_token + CASE WHEN :fence THEN 1 ELSE 0 END,
        lease_owner = CASE WHEN :fence THEN NULL ELSE lease_owner END,
        lease_until = CASE WHEN :fence THEN NULL ELSE lease_until END,
        completed_at = CASE WHEN :ended THEN now() WHEN :begin_again THEN NULL ELSE completed_at END,
        attempt = attempt + CASE WHEN :begin_again THEN 1 ELSE 0 END,
        cleaned = cleaned AND NOT :begin_again,
        error_reason = CASE WHEN :begin_again THEN '' ELSE error_reason END,
        error_message = CASE WHEN :begin_again THEN '' ELSE error_message END,
        output_digest = CASE WHEN :begin_again THEN '' ELSE output_digest END,
        running_s = CASE WHEN :begin_again THEN 0 ELSE running_s END,
        plan = CASE WHEN :forget THEN NULL ELSE plan END,
        metrics = CASE WHEN :begin_again THEN '{{}}' ELSE metrics END,
        total_records = CASE WHEN :forget THEN 0 ELSE total_records END,
        processed_records = CASE WHEN :forget THEN 0 ELSE processed_records END,
        failed_records = CASE WHEN :forget THEN 0 ELSE failed_records END,
        total_chunks = CASE WHEN :forget THEN 0 ELSE total_chunks END,
        completed_chunks = CASE WHEN :forget THEN 0 ELSE completed_chunks END,
        revision = revision + 1,
        updated_at = now()
    WHERE job_id = :job_id
    RETURNING {COLUMNS}
""")  # noqa: S608 - constants alone are put in
_FORGET_CHUNKS = text("DELETE FROM batch_chunks WHERE job_id = :job_id")
_DELETE = text("DELETE FROM batch_jobs WHERE job_id = :job_id")
_CHUNKS = text("""
    SELECT index AS place, first_row, row_count, start_byte, stop_byte, part_name, part_bytes, part_rows, failed_rows,
           worker,
           extract(epoch FROM completed_at)::float8 AS completed_at
    FROM batch_chunks WHERE job_id = :job_id AND index > :after ORDER BY index LIMIT :limit
""")


class PostgresJobStore:
    """A `JobStore`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def create(self, job: NewJob) -> Job:
        """Stores a job, or returns the one that the same call made before."""
        async with one_writer(job.spec), transaction(self._engine) as connection:
            made_now = await insert_job(connection, job)
        if made_now is not None:
            return made_now
        made = await self.repeated(job.request_id, job.wish_digest, team=job.team)
        if made is None:
            raise StoreAwayError("the job of the same request was deleted at this moment")
        return made

    async def repeated(self, request_id: str, wish_digest: str, *, team: str) -> Job | None:
        """The job that a request id made before."""
        async with transaction(self._engine) as connection:
            row = (await connection.execute(_BY_REQUEST, {"team": team, "request_id": request_id})).one_or_none()
        if row is None:
            return None
        if row.request_digest != wish_digest:
            raise request_id_reused(request_id, row.job_id)
        return job_from_row(row)

    async def get(self, job_id: str) -> Job:
        """One job."""
        async with transaction(self._engine) as connection:
            row = (await connection.execute(_GET, {"job_id": job_id})).one_or_none()
        if row is None:
            raise job_not_found(job_id)
        return job_from_row(row)

    async def query(self, query: JobQuery) -> Sequence[Job]:
        """Jobs, newest first."""
        values = {
            "model": query.model,
            "status": query.status,
            "labels": json.dumps(dict(query.labels or {})),
            "before": query.before,
            "limit": query.limit,
            "everything": query.sight.everything,
            "team": query.sight.team,
            "models": sorted(query.sight.names),
            "schedule_id": query.schedule_id,
        }
        async with transaction(self._engine) as connection:
            return [job_from_row(row) for row in await connection.execute(_QUERY, values)]

    async def change(self, job_id: str, change: Callable[[Job], Change | None]) -> Job:
        """Reads, decides and writes under the job's lock."""
        async with one_writer(None), transaction(self._engine) as connection:
            job = await _locked(connection, job_id)
            wanted = change(job)
            if wanted is None:
                return job
            if wanted.forget_progress:
                await connection.execute(_FORGET_CHUNKS, {"job_id": job_id})
            values = {
                "job_id": job_id,
                "status": wanted.status,
                "paused": wanted.paused,
                "spec": SPEC.dump_json(wanted.spec).decode() if wanted.spec is not None else None,
                "fence": wanted.fence,
                "ended": wanted.ended,
                "begin_again": wanted.begin_again,
                "forget": wanted.forget_progress,
            }
            return job_from_row((await connection.execute(_CHANGE, values)).one())

    async def delete(self, job_id: str, check: Callable[[Job], None]) -> None:
        """Forgets a job with its chunks and failed rows."""
        async with transaction(self._engine) as connection:
            check(await _locked(connection, job_id))
            await connection.execute(_DELETE, {"job_id": job_id})

    async def failed_rows(self, job_id: str, *, after: int, limit: int) -> Sequence[FailedRow]:
        """Rows that failed, by number."""
        return await failed_rows_after(self._engine, job_id, after, limit)

    async def chunks(self, job_id: str, *, after: int, limit: int) -> Sequence[StoredChunk]:
        """Chunks by index."""
        async with transaction(self._engine) as connection:
            rows = await connection.execute(_CHUNKS, {"job_id": job_id, "after": after, "limit": limit})
            return [
                StoredChunk(
                    Chunk(row.place, row.first_row, row.row_count, row.start_byte, row.stop_byte),
                    Part(row.part_name, row.part_bytes, row.part_rows) if row.part_name else None,
                    row.failed_rows,
                    row.worker,
                    row.completed_at or 0.0,
                )
                for row in rows
            ]


async def insert_job(connection: AsyncConnection, job: NewJob) -> Job | None:
    """Stores a job. None: its request id made one before."""
    values = {
        "job_id": job.job_id,
        "job_name": job.spec.job_name,
        "model": job.spec.version.model,
        "version": job.spec.version.version,
        "input_uri": job.spec.input.uri,
        "output_uri": job.spec.output.uri,
        "batch_size": job.spec.batch_size,
        "max_parallelism": job.spec.max_parallelism,
        "spec": SPEC.dump_json(job.spec).decode(),
        "created_by": job.created_by,
        "team": job.team,
        "request_id": job.request_id or None,
        "request_digest": job.wish_digest,
        "schedule_id": job.schedule_id,
    }
    row = (await connection.execute(_INSERT, values)).one_or_none()
    return job_from_row(row) if row is not None else None


async def _locked(connection: AsyncConnection, job_id: str) -> Job:
    row = (await connection.execute(_LOCK, {"job_id": job_id})).one_or_none()
    if row is None:
        raise job_not_found(job_id)
    return job_from_row(row)


@asynccontextmanager
async def one_writer(spec: JobSpec | None) -> AsyncIterator[None]:
    """Turns the unique index on the outputs of jobs that have not ended into OUTPUT_UNWRITABLE."""
    try:
        yield
    except IntegrityError as error:
        if _OUTPUT_INDEX not in str(error.orig):
            raise
        raise output_taken(spec.output.uri if spec is not None else "") from error
