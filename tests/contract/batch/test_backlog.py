"""What has not ended, counted in PostgreSQL."""

from dataclasses import replace

import pytest

from services.batch.adapters.database import SCHEMA
from services.batch.adapters.postgres_backlog import PostgresBacklog
from services.batch.adapters.postgres_jobs import PostgresJobStore
from services.batch.adapters.postgres_outbox import PostgresOutbox
from services.batch.adapters.postgres_schedules import PostgresScheduleStore
from services.batch.adapters.postgres_work import PostgresWorkStore
from services.batch.ports import StoreAwayError
from services.batch.ports_backlog import Backlog
from services.common.database import create_engine, migrate
from tests.support.batch_stores import PLAN, Stores, done, leased, new, running


async def test_jobs_and_chunks_that_are_open_are_counted(database_url: str) -> None:
    await migrate(database_url, service=SCHEMA)
    engine = create_engine(database_url, schema=SCHEMA)
    reader = PostgresBacklog(engine)
    stores = Stores(
        PostgresJobStore(engine), PostgresWorkStore(engine), PostgresOutbox(engine), PostgresScheduleStore(engine)
    )
    try:
        assert await reader.backlog() == Backlog()
        await running(stores)
        await stores.jobs.create(new(2))
        open_chunks = len(PLAN.chunks)
        found = Backlog(pending=1, running=1, chunks_waiting=open_chunks)
        assert await reader.backlog() == found
        lease = await leased(stores, 0)
        found = replace(found, chunks_leased=1, chunks_waiting=open_chunks - 1)
        assert await reader.backlog() == found
        await stores.work.complete_chunk(lease, done(0))
        found = replace(found, chunks_leased=0)
        assert await reader.backlog() == found
    finally:
        await engine.dispose()


async def test_a_database_that_is_away_is_said_to_be() -> None:
    engine = create_engine("postgresql+psycopg://nobody@127.0.0.1:1/none", schema=SCHEMA)
    with pytest.raises(StoreAwayError):
        await PostgresBacklog(engine).backlog()
    await engine.dispose()
