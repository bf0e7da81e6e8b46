"""What is counted of statements at a real PostgreSQL."""

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, ProgrammingError

from services.common.database import create_engine


async def test_statements_failures_and_connections_are_counted(database_url: str) -> None:
    registry = CollectorRegistry()
    engine = create_engine(database_url, schema="public", metrics=registry)

    def figure(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    async with engine.connect() as connection:
        await connection.execute(text("SELECT pg_sleep(0.06)"))
        assert figure("database_connections", state="in_use") == 1
        with pytest.raises(ProgrammingError):
            await connection.execute(text("SELECT nothing FROM nowhere"))
    assert figure("database_connections", state="in_use") == 0
    assert figure("database_connections", state="idle") == 1
    assert figure("database_statement_seconds_count") == 1, "what failed took no time that says anything"
    assert figure("database_statement_seconds_bucket", le="0.05") == 0
    assert figure("database_failures_total") == 1
    await engine.dispose()


async def test_a_database_that_is_not_there_is_a_failure() -> None:
    registry = CollectorRegistry()
    engine = create_engine("postgresql+psycopg://nobody@127.0.0.1:1/none", schema="public", metrics=registry)
    with pytest.raises(DBAPIError):
        async with engine.connect():
            raise AssertionError("it connected to nothing")
    assert registry.get_sample_value("database_failures_total") == 1
    await engine.dispose()
