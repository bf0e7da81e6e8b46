"""What promises of stores are held to: the real store, and the one that other tests use."""

from collections.abc import AsyncIterator

import pytest

from services.common.database import create_engine, migrate
from services.deployer.adapters.postgres import SCHEMA, PostgresDeploymentStore
from services.deployer.ports import DeploymentStore
from tests.support.clock import FakeClock
from tests.support.deployer_store import MemoryStore


@pytest.fixture(params=["memory", "postgres"])
def url(request: pytest.FixtureRequest) -> str:
    """Where the store is; "" for memory."""
    return str(request.getfixturevalue("database_url")) if request.param == "postgres" else ""


@pytest.fixture
async def store(url: str) -> AsyncIterator[DeploymentStore]:
    if not url:
        yield MemoryStore(FakeClock())
        return
    await migrate(url, service=SCHEMA)
    engine = create_engine(url, schema=SCHEMA, pool_size=4)
    yield PostgresDeploymentStore(engine)
    await engine.dispose()
