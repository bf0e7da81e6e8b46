"""What is old is forgotten, with all that belongs to it and nothing else."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from services.batch.adapters.database import SCHEMA
from services.batch.adapters.files import LocalWorkspace
from services.batch.adapters.postgres_attic import PostgresAttic
from services.batch.adapters.postgres_jobs import PostgresJobStore
from services.batch.adapters.postgres_outbox import PostgresOutbox
from services.batch.adapters.postgres_work import PostgresWorkStore
from services.batch.domain.chunks import ChunkResult, FailedRow, Part, Plan, cut_rows
from services.batch.domain.job import Notice, Spent, Status
from services.batch.engines.sweeper import Sweeper
from services.batch.ports import Change, JobQuery, Lease, NewJob
from services.common.clock import SystemClock
from services.common.database import create_engine, migrate
from tests.support.batch_fakes import spec_of

DAY_S = 86_400.0
PLAN = Plan("10:1", ("id", "a", "b"), key_is_integer=True, chunks=cut_rows(10, 4))


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    await migrate(database_url, service=SCHEMA)
    made = create_engine(database_url, schema=SCHEMA)
    yield made
    await made.dispose()


async def ended(engine: AsyncEngine, number: int, status: Status, folder: Path) -> Lease:
    """A job with a part and a failed row; its output is there."""
    output = folder / f"out-{number}.jsonl"
    spec = spec_of("/in.csv", str(output), notices=(Notice("webhook", "https://a.example/", ("completed", "failed")),))
    await PostgresJobStore(engine).create(NewJob(f"job-{number}", spec, "ann", "red"))
    work = PostgresWorkStore(engine)
    (lease,) = await work.claim("one", lease_s=60, limit=1)
    await work.set_plan(lease, PLAN)
    failed = [FailedRow(1, "k", "MODEL_FAILED", "no")]
    (chunk,), _ = await work.lease_chunks("one", lease_s=60, limit=1, after={})
    await work.complete_chunk(chunk, ChunkResult(chunk.chunk, Part("0.part", 1, 3), failed, Spent()))
    part = folder / "data" / "jobs" / lease.job_id / "0.part"
    await asyncio.to_thread(part.parent.mkdir, parents=True)
    await asyncio.to_thread(part.write_text, "x")
    await asyncio.to_thread(output.write_text, "{}")
    if status is Status.COMPLETED:
        await work.finish(lease, lambda: None)
    elif status is Status.FAILED:
        await work.fail(lease, reason="INTERNAL", message="broken")
    elif status is Status.CANCELLED:
        change = Change(status=status, fence=True, ended=True)
        await PostgresJobStore(engine).change(lease.job_id, lambda _: change)
    return lease


async def age(url: str, job_id: str, days: float) -> None:
    async with await psycopg.AsyncConnection.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        await connection.execute(
            "UPDATE batch.batch_jobs SET completed_at = completed_at - make_interval(secs => %s) WHERE job_id = %s",
            (days * DAY_S, job_id),
        )


async def count(url: str, table: str) -> int:
    async with await psycopg.AsyncConnection.connect(url.replace("+psycopg", "")) as connection:
        found = await connection.execute(f"SELECT count(*) FROM batch.{table}")
        row = await found.fetchone()
        assert row is not None
        return int(row[0])


def sweeper(engine: AsyncEngine, folder: Path) -> Sweeper:
    workspace = LocalWorkspace(folder / "data")
    return Sweeper(attic=PostgresAttic(engine), workspace=workspace, clock=SystemClock(), age_s=30 * DAY_S)


async def test_old_jobs_go_with_rows_and_parts_and_their_outputs_stay(
    engine: AsyncEngine, database_url: str, tmp_path: Path
) -> None:
    statuses = (Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.COMPLETED, Status.RUNNING)
    for number, status in enumerate(statuses):
        lease = await ended(engine, number, status, tmp_path)
        await age(database_url, lease.job_id, 29 if number == 3 else 31)
    await sweeper(engine, tmp_path).sweep()
    left = [job.job_id for job in await PostgresJobStore(engine).query(JobQuery())]
    assert left == ["job-4", "job-3"]
    assert (await count(database_url, "batch_chunks"), await count(database_url, "batch_failed_rows")) == (6, 2)
    kept = await asyncio.to_thread(lambda: sorted(path.name for path in (tmp_path / "data" / "jobs").iterdir()))
    assert kept == ["job-3", "job-4"]
    assert len(await asyncio.to_thread(lambda: list(tmp_path.glob("out-*.jsonl")))) == len(statuses)


async def test_a_job_that_begins_again_meanwhile_is_not_forgotten(
    engine: AsyncEngine, database_url: str, tmp_path: Path
) -> None:
    lease = await ended(engine, 1, Status.FAILED, tmp_path)
    await age(database_url, lease.job_id, 31)
    attic = PostgresAttic(engine)
    assert [old.job_id for old in await attic.ended_before(age_s=30 * DAY_S, limit=9)] == ["job-1"]
    again = Change(status=Status.PENDING, fence=True, begin_again=True)
    await PostgresJobStore(engine).change("job-1", lambda _: again)
    assert not await attic.forget("job-1", age_s=30 * DAY_S, discard=lambda: pytest.fail("discarded"))
    assert (await PostgresJobStore(engine).get("job-1")).processed_rows == 4


async def test_files_that_stay_keep_their_job(engine: AsyncEngine, database_url: str, tmp_path: Path) -> None:
    lease = await ended(engine, 1, Status.FAILED, tmp_path)
    await age(database_url, lease.job_id, 31)

    class Stubborn(LocalWorkspace):
        def discard(self, job_id: str, output: object) -> None:
            raise PermissionError("not mine")

    stubborn = Stubborn(tmp_path / "data")
    attic = PostgresAttic(engine)
    await Sweeper(attic=attic, workspace=stubborn, clock=SystemClock(), age_s=30 * DAY_S).sweep()
    assert (await PostgresJobStore(engine).get("job-1")).status is Status.FAILED
    assert await count(database_url, "batch_failed_rows") == 1


async def test_hundreds_of_thousands_of_failed_rows_go_in_bounded_steps(
    engine: AsyncEngine, database_url: str, tmp_path: Path
) -> None:
    lease = await ended(engine, 1, Status.FAILED, tmp_path)
    await age(database_url, lease.job_id, 31)
    async with await psycopg.AsyncConnection.connect(
        database_url.replace("+psycopg", ""), autocommit=True
    ) as connection:
        await connection.execute(
            "INSERT INTO batch.batch_failed_rows SELECT 'job-1', n, 0, '', '', '' FROM generate_series(10, 100000) AS n"
        )
    await sweeper(engine, tmp_path).sweep()
    assert await count(database_url, "batch_failed_rows") == 0
    assert await count(database_url, "batch_jobs") == 0


async def test_old_notifications_go_too_and_those_that_wait_stay(
    engine: AsyncEngine, database_url: str, tmp_path: Path
) -> None:
    for number in range(3):
        await ended(engine, number, Status.COMPLETED, tmp_path)
    outbox = PostgresOutbox(engine)
    first, second, _ = await outbox.take(limit=9, hold_s=60)
    await outbox.end(first, "sent")
    await outbox.end(second, "given_up", why="gone")
    attic = PostgresAttic(engine)
    assert await attic.forget_letters(age_s=60, limit=10) == 0
    assert await attic.forget_letters(age_s=0, limit=1) == 1
    assert await attic.forget_letters(age_s=0, limit=10) == 1
    assert await outbox.waiting() == 1
