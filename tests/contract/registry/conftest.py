"""Both forms of what the registry keeps: in memory, and in the real PostgreSQL."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from sqlalchemy import text

from services.common.database import create_engine, migrate
from services.registry.adapters.database import SCHEMA
from services.registry.adapters.postgres import PostgresCatalogue
from services.registry.adapters.postgres_aliases import PostgresAliasBook
from services.registry.adapters.postgres_search import PostgresFinder
from services.registry.ports import AliasBook, Catalogue, Finder
from tests.support.clock import FakeClock
from tests.support.registry_fakes import MemoryAliasBook, MemoryCatalogue, MemoryFinder

TEAMS = ("vision", "fraud")


@dataclass(frozen=True)
class Kept:
    """The three ports over one set of data, with two teams."""

    catalogue: Catalogue
    finder: Finder
    book: AliasBook


@pytest.fixture(params=["memory", "postgres"])
def url(request: pytest.FixtureRequest) -> str:
    """Where the data is; "" for memory."""
    return str(request.getfixturevalue("database_url")) if request.param == "postgres" else ""


@pytest.fixture
async def kept(url: str) -> AsyncIterator[Kept]:
    if not url:
        memory = MemoryCatalogue(FakeClock(), TEAMS)
        yield Kept(memory, MemoryFinder(memory), MemoryAliasBook(memory))
        return
    await migrate(url, service=SCHEMA)
    engine = create_engine(url, schema=SCHEMA, pool_size=4)
    async with engine.begin() as connection:
        for team in TEAMS:
            await connection.execute(text("INSERT INTO teams (name, namespace) VALUES (:team, :team)"), {"team": team})
    yield Kept(PostgresCatalogue(engine), PostgresFinder(engine), PostgresAliasBook(engine))
    await engine.dispose()


@pytest.fixture
def catalogue(kept: Kept) -> Catalogue:
    return kept.catalogue
