"""Jobs as those see them who carry them, and their chunks, in PostgreSQL.

Every write of whoever carries a job first locks the job's row and compares its lease's token with the newest one.
Whoever was paused for a minute, or cut off from the network, finds a larger token there and can write nothing; that is
what makes "exactly once" hold, and the lease's time only decides how soon another process may begin.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.batch.adapters.database import COLUMNS, OUTPUT, SPENT, failed_rows_after, job_from_row, transaction
from services.batch.adapters.postgres_chunks import END, PLAN, PROGRESS, RUNNING, PostgresChunks, ending, read_plan
from services.batch.domain.chunks import FailedRow, Part, Plan
from services.batch.domain.job import Job, Status
from services.batch.ports import FencedError, Lease, Leftover

_CLAIM = text("""
    WITH running AS (
        SELECT team, count(*) AS count FROM batch_jobs
        WHERE status = 'running' AND lease_until >= clock_timestamp() GROUP BY team),
    turns AS (
        -- A team's turn comes by what runs of it and waits before: its first job goes before anybody's second.
        SELECT job_id, coalesce(running.count, 0)
            + row_number() OVER (PARTITION BY team ORDER BY status = 'running' DESC, sequence) AS turn
        FROM batch_jobs LEFT JOIN running USING (team)
        WHERE status IN ('pending', 'running') AND NOT paused
          AND (lease_until IS NULL OR lease_until < clock_timestamp()))
    UPDATE batch_jobs SET
        status = 'running', lease_owner = :owner, lease_token = lease_token + 1,
        lease_until = clock_timestamp() + make_interval(secs => :lease_s), counted_at = clock_timestamp(),
        silent_since = NULL, started_at = COALESCE(started_at, clock_timestamp()), updated_at = clock_timestamp()
    WHERE job_id IN (
        SELECT job_id FROM batch_jobs JOIN turns USING (job_id)
        WHERE status IN ('pending', 'running') AND NOT paused
          AND (lease_until IS NULL OR lease_until < clock_timestamp())
          AND (team <> ALL(CAST(:teams AS text[])) OR job_id = ANY(CAST(:allowed AS text[])))
        ORDER BY turn, sequence LIMIT :limit FOR UPDATE OF batch_jobs SKIP LOCKED)
    RETURNING job_id, lease_token
""")
# Whoever counts what runs of a team also claims, before the next one counts.
_COUNT_ALONE = text("SELECT pg_advisory_xact_lock(hashtextextended('batch claims', 0))")
_ALLOWED = text("""
    WITH limits AS (
        SELECT * FROM unnest(CAST(:teams AS text[]), CAST(:counts AS bigint[])) AS limits (team, allowed)),
    running AS (
        SELECT team, count(*) AS count FROM batch_jobs
        WHERE status = 'running' AND lease_until >= clock_timestamp() GROUP BY team),
    waiting AS (
        -- What was interrupted first: its worker may be alive and late, and then it runs beside what is claimed.
        SELECT job_id, team, row_number() OVER (PARTITION BY team ORDER BY status = 'running' DESC, sequence) AS place
        FROM batch_jobs
        WHERE status IN ('pending', 'running') AND NOT paused
          AND (lease_until IS NULL OR lease_until < clock_timestamp()))
    SELECT job_id FROM waiting JOIN limits USING (team) LEFT JOIN running USING (team)
    WHERE place + coalesce(running.count, 0) <= allowed
""")
_LOCK = text("SELECT metrics FROM batch_jobs WHERE job_id = :job_id AND lease_token = :token FOR UPDATE")
_RENEW = text(f"""
    UPDATE batch_jobs SET lease_until = clock_timestamp() + make_interval(secs => :lease_s), {RUNNING}
    WHERE job_id = :job_id RETURNING {COLUMNS}
""")  # noqa: S608 - constants alone are put in
_RELEASE = text(f"""
    UPDATE batch_jobs SET lease_until = NULL, lease_owner = NULL, status = 'pending', {RUNNING}
    WHERE job_id = :job_id
""")  # noqa: S608 - constants alone are put in
_GET_PLAN = text("SELECT plan FROM batch_jobs WHERE job_id = :job_id")
_SET_PLAN = text("""
    UPDATE batch_jobs SET plan = CAST(:plan AS jsonb), total_records = :rows, total_chunks = :chunks,
        updated_at = clock_timestamp()
    WHERE job_id = :job_id
""")
_INSERT_CHUNKS = text("""
    INSERT INTO batch_chunks (job_id, index, first_row, row_count, start_byte, stop_byte)
    SELECT :job_id, * FROM unnest(CAST(:indexes AS integer[]), CAST(:first_rows AS bigint[]),
        CAST(:counts AS bigint[]), CAST(:starts AS bigint[]), CAST(:stops AS bigint[]))
""")
_PARTS = text("""
    SELECT index AS place, part_name, part_bytes, part_rows FROM batch_chunks
    WHERE job_id = :job_id AND part_name IS NOT NULL
""")
_REOPEN = text("""
    UPDATE batch_chunks SET part_name = NULL, part_bytes = NULL, part_rows = NULL, completed_at = NULL,
        lease_token = 0, lease_until = NULL
    WHERE job_id = :job_id AND index = :index AND part_name IS NOT NULL
    RETURNING row_count, failed_rows
""")
_FORGET_FAILED = text("DELETE FROM batch_failed_rows WHERE job_id = :job_id AND chunk_index = :index")
_INTEND = text("UPDATE batch_jobs SET output_digest = :digest WHERE job_id = :job_id")
_INTENDED = text("SELECT output_digest FROM batch_jobs WHERE job_id = :job_id")
_LEFTOVERS = text("""
    SELECT job_id, status, spec -> 'output' AS output, output_digest FROM batch_jobs
    WHERE NOT cleaned AND status IN ('completed', 'cancelled')
      AND completed_at <= clock_timestamp() - make_interval(secs => :settle_s)
    ORDER BY sequence LIMIT :limit
""")
_LOCK_UNCLEAN = text("""
    SELECT 1 FROM batch_jobs WHERE job_id = :job_id AND NOT cleaned AND status IN ('completed', 'cancelled') FOR UPDATE
""")
_CLEANED = text("UPDATE batch_jobs SET cleaned = true WHERE job_id = :job_id")


class PostgresWorkStore(PostgresChunks):
    """A `WorkStore`."""

    async def claim(
        self, owner: str, *, lease_s: float, limit: int, concurrency: Mapping[str, int] | None = None
    ) -> Sequence[Lease]:
        """Leases jobs that nobody works on."""
        teams = sorted(concurrency or {})
        async with transaction(self._engine) as connection:
            allowed: list[str] = []
            if teams:
                await connection.execute(_COUNT_ALONE)
                counts = [(concurrency or {})[team] for team in teams]
                found = await connection.execute(_ALLOWED, {"teams": teams, "counts": counts})
                allowed = list(found.scalars())
            asked = {"owner": owner, "lease_s": lease_s, "limit": limit, "teams": teams, "allowed": allowed}
            rows = await connection.execute(_CLAIM, asked)
            return [Lease(row.job_id, owner, row.lease_token) for row in rows]

    async def renew(self, lease: Lease, *, lease_s: float) -> Job:
        """Prolongs a lease."""
        async with self._holding(lease) as (connection, _):
            row = (await connection.execute(_RENEW, {"job_id": lease.job_id, "lease_s": lease_s})).one()
            return job_from_row(row)

    async def release(self, lease: Lease) -> None:
        """Gives a job back."""
        async with self._holding(lease) as (connection, _):
            await connection.execute(_RELEASE, {"job_id": lease.job_id})

    async def plan(self, lease: Lease) -> Plan | None:
        """The job's plan."""
        async with self._holding(lease) as (connection, _):
            stored = (await connection.execute(_GET_PLAN, {"job_id": lease.job_id})).scalar_one()
            if stored is None:
                return None
            return await read_plan(connection, lease.job_id, stored)

    async def set_plan(self, lease: Lease, plan: Plan) -> None:
        """Stores a plan with its chunks."""
        head = PLAN.dump_json((plan.fingerprint, plan.columns, plan.key_is_integer, plan.files)).decode()
        async with self._holding(lease) as (connection, _):
            await connection.execute(
                _SET_PLAN,
                {"job_id": lease.job_id, "plan": head, "rows": plan.total_rows, "chunks": len(plan.chunks)},
            )
            await connection.execute(
                _INSERT_CHUNKS,
                {
                    "job_id": lease.job_id,
                    "indexes": [chunk.index for chunk in plan.chunks],
                    "first_rows": [chunk.first_row for chunk in plan.chunks],
                    "counts": [chunk.row_count for chunk in plan.chunks],
                    "starts": [chunk.start for chunk in plan.chunks],
                    "stops": [chunk.stop for chunk in plan.chunks],
                },
            )

    async def parts(self, lease: Lease) -> Mapping[int, Part]:
        """The parts of the chunks that are done."""
        async with self._holding(lease) as (connection, _):
            rows = await connection.execute(_PARTS, {"job_id": lease.job_id})
            return {row.place: Part(row.part_name, row.part_bytes, row.part_rows) for row in rows}

    async def reopen_chunk(self, lease: Lease, index: int) -> None:
        """Takes back that a chunk is done."""
        async with self._holding(lease) as (connection, row):
            key = {"job_id": lease.job_id, "index": index}
            reopened = (await connection.execute(_REOPEN, key)).one_or_none()
            if reopened is None:
                return
            await connection.execute(_FORGET_FAILED, key)
            metrics = SPENT.dump_json(SPENT.validate_python(row.metrics)).decode()
            await connection.execute(
                PROGRESS,
                {
                    "job_id": lease.job_id,
                    "rows": -reopened.row_count,
                    "failed": -reopened.failed_rows,
                    "chunks": -1,
                    "metrics": metrics,
                },
            )

    async def intend(self, lease: Lease, digest: str) -> None:
        """Records what is about to be published."""
        async with self._holding(lease) as (connection, _):
            await connection.execute(_INTEND, {"job_id": lease.job_id, "digest": digest})

    async def intended(self, lease: Lease) -> str:
        """What was about to be published."""
        async with self._holding(lease) as (connection, _):
            return str((await connection.execute(_INTENDED, {"job_id": lease.job_id})).scalar_one())

    async def finish(self, lease: Lease, publish: Callable[[], None]) -> None:
        """Publishes under the job's lock, so that a cancellation comes wholly before or wholly after."""
        async with self._holding(lease) as (connection, _):
            await asyncio.to_thread(publish)
            await connection.execute(END, ending(lease.job_id, Status.COMPLETED))

    async def fail(self, lease: Lease, *, reason: str, message: str) -> None:
        """Records the job as failed."""
        async with self._holding(lease) as (connection, _):
            await connection.execute(END, ending(lease.job_id, Status.FAILED, reason, message))

    async def leftovers(self, *, settle_s: float, limit: int) -> Sequence[Leftover]:
        """Ended jobs whose files have not been cleaned up. Those of failed jobs are kept for a retry."""
        async with transaction(self._engine) as connection:
            rows = await connection.execute(_LEFTOVERS, {"settle_s": settle_s, "limit": limit})
            return [
                Leftover(row.job_id, Status(row.status), OUTPUT.validate_python(row.output), row.output_digest)
                for row in rows
            ]

    async def clean(self, job_id: str, discard: Callable[[], None]) -> None:
        """Discards under the job's lock: a retry comes wholly before, so that nothing is discarded, or wholly after."""
        async with transaction(self._engine) as connection:
            if (await connection.execute(_LOCK_UNCLEAN, {"job_id": job_id})).one_or_none() is None:
                return
            await asyncio.to_thread(discard)
            await connection.execute(_CLEANED, {"job_id": job_id})

    async def failed_after(self, job_id: str, row_number: int, limit: int) -> Sequence[FailedRow]:
        """Rows that failed, by number."""
        return await failed_rows_after(self._engine, job_id, row_number, limit)

    @asynccontextmanager
    async def _holding(self, lease: Lease) -> AsyncIterator[tuple[AsyncConnection, "Row[tuple[object, ...]]"]]:
        async with transaction(self._engine) as connection:
            values = {"job_id": lease.job_id, "token": lease.token}
            row = (await connection.execute(_LOCK, values)).one_or_none()
            if row is None:
                raise FencedError(lease.job_id)
            yield connection, row
