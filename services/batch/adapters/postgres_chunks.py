"""Chunks as workers see them, in PostgreSQL.

A chunk is recorded under the lock of its job's row, where the job goes on, and only by who holds the chunk's newest
token. Tokens come from one sequence: not even a chunk of the same number of the same job, cut anew, has had one before.
"""

from collections.abc import Mapping, Sequence

from pydantic import TypeAdapter
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.batch.adapters.database import COLUMNS, SPEC, SPENT, job_from_row, transaction
from services.batch.domain.chunks import Chunk, ChunkResult, Plan, PlannedFile
from services.batch.domain.job import Input, Job, Status
from services.batch.domain.launched import Standing
from services.batch.domain.shards import choose, packed_spans, share
from services.batch.ports import ChunkLease, FencedError, JobWork, Pace, Renewal

PLAN = TypeAdapter(tuple[str, tuple[str, ...], bool, tuple[PlannedFile, ...]])
"""All of a plan but its chunks, which have a table of their own."""
_PLANNED_FILES = TypeAdapter(tuple[PlannedFile, ...])
_INPUT = TypeAdapter(Input)
RUNNING = """running_s = running_s + GREATEST(0, extract(epoch FROM clock_timestamp() - counted_at)),
        counted_at = clock_timestamp(), updated_at = clock_timestamp()"""
PROGRESS = text(f"""
    UPDATE batch_jobs SET processed_records = processed_records + :rows, failed_records = failed_records + :failed,
        completed_chunks = completed_chunks + :chunks, metrics = CAST(:metrics AS jsonb), {RUNNING}
    WHERE job_id = :job_id RETURNING {COLUMNS}
""")  # noqa: S608 - constants alone are put in
END = text(f"""
    UPDATE batch_jobs SET status = :status, error_reason = :reason, error_message = :message,
        lease_until = NULL, lease_owner = NULL, lease_token = lease_token + 1,
        completed_at = clock_timestamp(), {RUNNING}
    WHERE job_id = :job_id
""")  # noqa: S608 - constants alone are put in
_CHUNKS = text("""
    SELECT index, first_row, row_count, start_byte, stop_byte FROM batch_chunks WHERE job_id = :job_id ORDER BY index
""")
_SILENT = "COALESCE(extract(epoch FROM clock_timestamp() - silent_since), 0)::float8 AS silent_s"
_CARRIED = """status = 'running' AND NOT paused AND plan IS NOT NULL AND lease_until >= clock_timestamp()
          AND completed_chunks < total_chunks"""
_LEASED = """
    SELECT count(*) AS held, count(DISTINCT lease_owner) AS owners,
        COALESCE(bool_or(lease_owner = :owner), false) AS mine
    FROM batch_chunks WHERE job_id = jobs.job_id AND part_name IS NULL AND lease_until >= clock_timestamp()"""
_WAITING = text(f"""
    SELECT job_id FROM batch_jobs AS jobs CROSS JOIN LATERAL ({_LEASED}) AS leased
    WHERE {_CARRIED} AND (leased.mine OR leased.owners < jobs.max_parallelism)
      AND CASE WHEN :job_id = '' THEN COALESCE(spec ->> 'runtime', 'local') = 'local' ELSE job_id = :job_id END
    ORDER BY leased.held, sequence
""")  # noqa: S608 - constants alone are put in
_LOCK_CARRIED = text(f"""
    SELECT attempt, batch_size, max_parallelism, {_SILENT} FROM batch_jobs
    WHERE job_id = :job_id AND {_CARRIED} FOR UPDATE
""")  # noqa: S608 - constants alone are put in
_OWNERS = text(f"""
    SELECT leased.owners, leased.mine FROM batch_jobs AS jobs CROSS JOIN LATERAL ({_LEASED}) AS leased
    WHERE job_id = :job_id
""")  # noqa: S608 - constants alone are put in
# What follows is looked for first: a job may have very many chunks.
_NEXT = text("""
    SELECT index AS place FROM batch_chunks
    WHERE job_id = :job_id AND part_name IS NULL AND index BETWEEN :first AND :last
      AND (lease_until IS NULL OR lease_until < clock_timestamp())
    ORDER BY index
""")
_OPEN = text("""
    SELECT index AS place, COALESCE(lease_until >= clock_timestamp(), false) AS taken FROM batch_chunks
    WHERE job_id = :job_id AND part_name IS NULL ORDER BY index
""")
_FILES = text("""
    SELECT plan -> 3 AS files, spec -> 'input' AS input, total_chunks FROM batch_jobs WHERE job_id = :job_id
""")
_LEASE = text("""
    UPDATE batch_chunks SET lease_owner = :owner, lease_token = nextval('batch_chunk_leases'),
        lease_until = clock_timestamp() + make_interval(secs => :lease_s)
    WHERE job_id = :job_id AND index = ANY(CAST(:indexes AS integer[])) AND part_name IS NULL
    RETURNING index AS place, first_row, row_count, start_byte, stop_byte, lease_token
""")
_THESE = """unnest(CAST(:job_ids AS text[]), CAST(:indexes AS integer[]), CAST(:tokens AS bigint[]))
        AS these (job_id, index, token)"""
_RENEW = text(f"""
    UPDATE batch_chunks AS chunks SET lease_until = clock_timestamp() + make_interval(secs => :lease_s)
    FROM {_THESE}, batch_jobs AS jobs
    WHERE chunks.job_id = these.job_id AND chunks.index = these.index AND chunks.lease_token = these.token
      AND chunks.part_name IS NULL AND jobs.job_id = chunks.job_id
      AND jobs.status IN ('pending', 'running') AND NOT jobs.paused
    RETURNING chunks.lease_token
""")  # noqa: S608 - constants alone are put in
_PACES = text(f"""
    SELECT job_id, batch_size, max_parallelism, leased.owners, {_SILENT}
    FROM batch_jobs AS jobs CROSS JOIN LATERAL ({_LEASED}) AS leased
    WHERE job_id = ANY(CAST(:job_ids AS text[]))
""")  # noqa: S608 - constants alone are put in
# An answer to anybody ends a silence; it begins where somebody has none. Most heartbeats change nothing.
_NEWLY_HEARD = text("""
    SELECT job_id, these.heard AS heard FROM batch_jobs
    JOIN unnest(CAST(:job_ids AS text[]), CAST(:heard AS boolean[])) AS these (job_id, heard) USING (job_id)
    WHERE status IN ('pending', 'running') AND (silent_since IS NOT NULL) = these.heard
""")
_HEARD = text("""
    UPDATE batch_jobs SET silent_since = CASE WHEN :heard THEN NULL ELSE COALESCE(silent_since, clock_timestamp()) END
    WHERE job_id = :job_id AND status IN ('pending', 'running')
""")
_GIVE_BACK = text(f"""
    UPDATE batch_chunks AS chunks SET lease_until = NULL FROM {_THESE}
    WHERE chunks.job_id = these.job_id AND chunks.index = these.index AND chunks.lease_token = these.token
      AND chunks.part_name IS NULL
""")  # noqa: S608 - constants alone are put in
_FREE = text("""
    UPDATE batch_chunks SET lease_until = NULL
    WHERE lease_owner = :owner AND part_name IS NULL AND lease_until IS NOT NULL
""")
_LOCK_GOING = text("""
    SELECT metrics FROM batch_jobs
    WHERE job_id = :job_id AND status IN ('pending', 'running') AND NOT paused FOR UPDATE
""")
_COMPLETE = text("""
    UPDATE batch_chunks SET part_name = :part_name, part_bytes = :part_bytes, part_rows = :part_rows,
        failed_rows = :failed, worker = :worker, completed_at = clock_timestamp(), lease_until = NULL
    WHERE job_id = :job_id AND index = :index AND lease_token = :token AND part_name IS NULL
""")
_COMPLETED = text("""
    SELECT 1 FROM batch_chunks
    WHERE job_id = :job_id AND index = :index AND lease_token = :token AND part_name = :part_name
""")
_HELD = text("""
    SELECT 1 FROM batch_chunks
    WHERE job_id = :job_id AND index = :index AND lease_token = :token AND part_name IS NULL
""")
_INSERT_FAILED = text("""
    INSERT INTO batch_failed_rows (job_id, chunk_index, row_number, key, error_reason, error_message)
    SELECT :job_id, :index, * FROM unnest(CAST(:numbers AS bigint[]), CAST(:keys AS text[]),
        CAST(:reasons AS text[]), CAST(:messages AS text[]))
""")
_STANDINGS = text("""
    SELECT job_id, status, paused, attempt, total_chunks, completed_chunks FROM batch_jobs
    WHERE job_id = ANY(CAST(:job_ids AS text[]))
""")
_EVER_LEASED = text("""
    SELECT EXISTS (SELECT 1 FROM batch_chunks WHERE job_id = :job_id AND lease_owner IS NOT NULL)
""")
_GET_JOB = text(f"SELECT {COLUMNS} FROM batch_jobs WHERE job_id = :job_id")  # noqa: S608 - constants alone are put in
_WORK = text("""
    SELECT attempt, spec, team, created_by, plan FROM batch_jobs WHERE job_id = :job_id AND plan IS NOT NULL
""")


class PostgresChunks:
    """The part of a `WorkStore` that workers use."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def lease_chunks(
        self, owner: str, *, lease_s: float, limit: int, after: Mapping[str, int], job_id: str = ""
    ) -> tuple[Sequence[ChunkLease], Pace | None]:
        """Leases chunks of the job of which the fewest are being done."""
        async with transaction(self._engine) as connection:
            waiting = list((await connection.execute(_WAITING, {"owner": owner, "job_id": job_id})).scalars())
        for found_id in waiting:
            # A transaction for each: nobody holds the rows of two jobs.
            async with transaction(self._engine) as connection:
                job = (await connection.execute(_LOCK_CARRIED, {"job_id": found_id})).one_or_none()
                if job is None:
                    continue
                leased = (await connection.execute(_OWNERS, {"job_id": found_id, "owner": owner})).one()
                owners = leased.owners + (0 if leased.mine else 1)
                if owners > job.max_parallelism:
                    continue
                indexes = await _choose(connection, found_id, after=after.get(found_id), limit=limit)
                if not indexes:
                    continue
                asked = {"job_id": found_id, "owner": owner, "lease_s": lease_s, "indexes": list(indexes)}
                rows = sorted(await connection.execute(_LEASE, asked), key=lambda row: int(row.place))
                leases = [ChunkLease(found_id, job.attempt, Chunk(*row[:5]), owner, row.lease_token) for row in rows]
                return leases, Pace(job.batch_size, share(job.max_parallelism, owners), job.silent_s)
        return (), None

    async def renew_chunks(
        self, leases: Sequence[ChunkLease], *, lease_s: float, heard: Mapping[str, bool] | None = None
    ) -> Renewal:
        """Prolongs leases."""
        if heard:
            await self._hear(heard)
        if not leases:
            return Renewal(frozenset(), {})
        async with transaction(self._engine) as connection:
            held = (await connection.execute(_RENEW, {**_these(leases), "lease_s": lease_s})).scalars()
            job_ids = sorted({lease.job_id for lease in leases})
            asked = {"job_ids": job_ids, "owner": leases[0].owner}
            paces = {
                str(row.job_id): Pace(row.batch_size, share(row.max_parallelism, row.owners), row.silent_s)
                for row in await connection.execute(_PACES, asked)
            }
            return Renewal(frozenset(held), paces)

    async def _hear(self, heard: Mapping[str, bool]) -> None:
        async with transaction(self._engine) as connection:
            asked = {"job_ids": list(heard), "heard": list(heard.values())}
            changed = list(await connection.execute(_NEWLY_HEARD, asked))
        for row in changed:
            async with transaction(self._engine) as connection:
                await connection.execute(_HEARD, {"job_id": row.job_id, "heard": row.heard})

    async def complete_chunk(self, lease: ChunkLease, result: ChunkResult) -> Job:
        """Records a chunk, its failed rows and the progress in one transaction."""
        async with transaction(self._engine) as connection:
            metrics = (await connection.execute(_LOCK_GOING, {"job_id": lease.job_id})).scalar_one_or_none()
            if metrics is None:
                raise FencedError(lease.job_id)
            key = {"job_id": lease.job_id, "index": lease.chunk.index, "token": lease.token}
            part = {
                "part_name": result.part.name,
                "part_bytes": result.part.size_bytes,
                "part_rows": result.part.row_count,
                "failed": len(result.failed),
                "worker": lease.owner,
            }
            if not (await connection.execute(_COMPLETE, {**key, **part})).rowcount:
                return await _completed_before(connection, lease, result)
            if result.failed:
                await connection.execute(_INSERT_FAILED, _failed_columns(lease, result))
            progress = {
                "job_id": lease.job_id,
                "rows": lease.chunk.row_count,
                "failed": len(result.failed),
                "chunks": 1,
                "metrics": SPENT.dump_json(SPENT.validate_python(metrics) + result.spent).decode(),
            }
            return job_from_row((await connection.execute(PROGRESS, progress)).one())

    async def fail_chunk(self, lease: ChunkLease, *, reason: str, message: str) -> None:
        """Records the job as failed."""
        async with transaction(self._engine) as connection:
            going = (await connection.execute(_LOCK_GOING, {"job_id": lease.job_id})).one_or_none()
            key = {"job_id": lease.job_id, "index": lease.chunk.index, "token": lease.token}
            if going is None or (await connection.execute(_HELD, key)).one_or_none() is None:
                raise FencedError(lease.job_id)
            await connection.execute(END, ending(lease.job_id, Status.FAILED, reason, message))

    async def give_back_chunks(self, leases: Sequence[ChunkLease]) -> None:
        """Lets others have them."""
        if leases:
            async with transaction(self._engine) as connection:
                await connection.execute(_GIVE_BACK, _these(leases))

    async def free_chunks(self, owner: str) -> None:
        """Lets others have all of somebody's."""
        async with transaction(self._engine) as connection:
            await connection.execute(_FREE, {"owner": owner})

    async def standings(self, job_ids: Sequence[str]) -> Mapping[str, Standing]:
        """How jobs stand."""
        async with transaction(self._engine) as connection:
            rows = await connection.execute(_STANDINGS, {"job_ids": list(job_ids)})
            return {
                str(row.job_id): Standing(
                    Status(row.status), row.paused, row.attempt, row.total_chunks, row.completed_chunks
                )
                for row in rows
            }

    async def ever_leased(self, job_id: str) -> bool:
        """Whether any chunk has or had an owner: what is given back keeps his name."""
        async with transaction(self._engine) as connection:
            return bool((await connection.execute(_EVER_LEASED, {"job_id": job_id})).scalar_one())

    async def work_of(self, job_id: str) -> JobWork | None:
        """What a worker must know of a job."""
        async with transaction(self._engine) as connection:
            row = (await connection.execute(_WORK, {"job_id": job_id})).one_or_none()
            if row is None:
                return None
            plan = await read_plan(connection, job_id, row.plan)
            job = (await connection.execute(_GET_JOB, {"job_id": job_id})).one()
        return JobWork(job_id, row.attempt, SPEC.validate_python(row.spec), row.team, job_from_row(job).user, plan)


async def read_plan(connection: AsyncConnection, job_id: str, head: list[object]) -> Plan:
    """A job's plan with its chunks; `head` is the job's column."""
    chunks = tuple(Chunk(*row) for row in await connection.execute(_CHUNKS, {"job_id": job_id}))
    # Plans of before there could be several files end before them.
    fingerprint, columns, key_is_integer, files = PLAN.validate_python(head if len(head) > 3 else [*head, []])
    return Plan(fingerprint, columns, key_is_integer, chunks, files)


def ending(job_id: str, status: Status, reason: str = "", message: str = "") -> dict[str, object]:
    """The values of `END`."""
    return {"job_id": job_id, "status": status, "reason": reason, "message": message}


async def _choose(connection: AsyncConnection, job_id: str, *, after: int | None, limit: int) -> Sequence[int]:
    if after is not None:
        asked = {"job_id": job_id, "first": after + 1, "last": after + limit}
        following = list((await connection.execute(_NEXT, asked)).scalars())
        if following and following[0] == after + 1:
            return choose(following, (), after=after, limit=limit)
    rows = list(await connection.execute(_OPEN, {"job_id": job_id}))
    free = [int(row.place) for row in rows if not row.taken]
    if not free:
        return ()
    files = (await connection.execute(_FILES, {"job_id": job_id})).one()
    planned = _PLANNED_FILES.validate_python(files.files or ())
    packed = packed_spans(planned, files.total_chunks, _INPUT.validate_python(files.input))
    return choose(free, {int(row.place) for row in rows if row.taken}, after=after, limit=limit, packed=packed)


async def _completed_before(connection: AsyncConnection, lease: ChunkLease, result: ChunkResult) -> Job:
    """The job, where the same lease has recorded the same part before: its worker did not hear of it."""
    key = {"job_id": lease.job_id, "index": lease.chunk.index, "token": lease.token}
    found = await connection.execute(_COMPLETED, {**key, "part_name": result.part.name})
    if found.one_or_none() is None:
        raise FencedError(lease.job_id)
    return job_from_row((await connection.execute(_GET_JOB, {"job_id": lease.job_id})).one())


def _these(leases: Sequence[ChunkLease]) -> dict[str, object]:
    return {
        "job_ids": [lease.job_id for lease in leases],
        "indexes": [lease.chunk.index for lease in leases],
        "tokens": [lease.token for lease in leases],
    }


def _failed_columns(lease: ChunkLease, result: ChunkResult) -> dict[str, object]:
    return {
        "job_id": lease.job_id,
        "index": lease.chunk.index,
        "numbers": [row.row_number for row in result.failed],
        # PostgreSQL's text holds no NUL.
        "keys": [row.key.replace("\0", "\ufffd") for row in result.failed],
        "reasons": [row.reason for row in result.failed],
        "messages": [row.message.replace("\0", "\ufffd") for row in result.failed],
    }
