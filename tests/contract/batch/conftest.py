"""Both kinds of stores: every test of this folder holds for either."""

from collections.abc import AsyncIterator

import pytest

from services.batch.adapters.database import SCHEMA
from services.batch.adapters.postgres_jobs import PostgresJobStore
from services.batch.adapters.postgres_outbox import PostgresOutbox
from services.batch.adapters.postgres_schedules import PostgresScheduleStore
from services.batch.adapters.postgres_work import PostgresWorkStore
from services.common.clock import SystemClock
from services.common.database import create_engine, migrate
from tests.support.batch_fakes import MemoryBatchStore
from tests.support.batch_schedules import MemoryScheduleStore
from tests.support.batch_stores import Stores


@pytest.fixture(params=["memory", "postgres"])
def url(request: pytest.FixtureRequest) -> str:
    """Empty: no database."""
    return str(request.getfixturevalue("database_url")) if request.param == "postgres" else ""


@pytest.fixture
async def stores(url: str) -> AsyncIterator[Stores]:
    if not url:
        memory = MemoryBatchStore(SystemClock())
        yield Stores(memory, memory, memory.outbox, MemoryScheduleStore(memory))
        return
    await migrate(url, service=SCHEMA)
    engine = create_engine(url, schema=SCHEMA)
    yield Stores(
        PostgresJobStore(engine), PostgresWorkStore(engine), PostgresOutbox(engine), PostgresScheduleStore(engine)
    )
    await engine.dispose()
