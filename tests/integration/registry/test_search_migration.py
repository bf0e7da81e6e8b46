"""Searching what was registered before there were tables for it."""

from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, event, text

import services
from services.common.database import create_engine, migrate
from services.registry.adapters.database import SCHEMA
from services.registry.adapters.postgres_lineage import PostgresLineageBook
from services.registry.adapters.postgres_search import PostgresFinder
from services.registry.adapters.rows import version_parameters
from services.registry.domain.lineage import Node
from services.registry.domain.search import Comparison, Search
from services.registry.domain.version import Lineage
from tests.support.registry_fakes import content, new

_FOLDER = Path(services.__path__[0])
_MODEL = text("""
    INSERT INTO models (name, description, framework, tags, model_card)
    VALUES ('iris', 'Three flowers', 'onnx', '{garden}', 'grown') RETURNING id
""")


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_FOLDER / "common" / "migrations"))
    config.set_main_option("version_locations", str(_FOLDER / SCHEMA / "migrations" / "versions"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    config.attributes["schema"] = SCHEMA
    return config


def _down(connection: Connection) -> None:
    command.downgrade(_config(connection), "0007")


def _up(connection: Connection) -> list[str]:
    """Goes up again; what was executed for it."""
    statements: list[str] = []

    def executed(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(" ".join(statement.split()))

    event.listen(connection, "before_cursor_execute", executed)
    command.upgrade(_config(connection), "0008")
    return statements


@pytest.mark.asyncio
async def test_models_can_be_read_while_the_tables_are_filled(database_url: str) -> None:
    await migrate(database_url, service=SCHEMA)
    engine = create_engine(database_url, schema=SCHEMA, pool_size=1)
    async with engine.begin() as connection:
        await connection.run_sync(_down)
        statements = await connection.run_sync(_up)
    long = [place for place, one in enumerate(statements) if one.startswith(("SELECT find_version", "CREATE INDEX"))]
    # Dropping a foreign key keeps everybody from the table that it leads to.
    alone = [place for place, one in enumerate(statements) if one.startswith("ALTER TABLE alias_moves DROP")]
    assert len(alone) == 1
    assert max(long) < alone[0]
    await engine.dispose()


@pytest.mark.asyncio
async def test_versions_from_before_are_found_by_everything(database_url: str) -> None:
    await migrate(database_url, service=SCHEMA)
    engine = create_engine(database_url, schema=SCHEMA, pool_size=2)
    async with engine.begin() as connection:
        await connection.run_sync(_down)
    async with engine.begin() as connection:
        model_id = (await connection.execute(_MODEL)).scalar_one()
        for version, accuracy, parent in (("v1.0.0", 0.8, ""), ("v1.10.0", 0.9, "v1.0.0"), ("v1.9.0", 0.7, "v1.0.0")):
            made = content(
                version,
                metrics={"accuracy": accuracy},
                tags=("red",),
                lineage=Lineage(dataset="d", parent_version=parent),
            )
            row = version_parameters(new(version=version, content=made)) | {"model_id": model_id}
            columns = ", ".join(row)
            jsons = ("schema", "mapping", "metrics", "metadata", "lineage", "feature_views")
            places = ", ".join(
                f"CAST(:{name} AS jsonb)"
                if any(one in name for one in jsons) and name != "schema_source"
                else f":{name}"
                for name in row
            )
            await connection.execute(text(f"INSERT INTO model_versions ({columns}) VALUES ({places})"), row)
    await migrate(database_url, service=SCHEMA)
    finder = PostgresFinder(engine)
    for search, expected in (
        (Search(words=("flowers", "grown", "red")), ["v1.10.0", "v1.9.0", "v1.0.0"]),
        (Search(tags=("garden", "red"), latest_only=True), ["v1.10.0"]),
        (Search(metrics=(Comparison("accuracy", "<", 0.85),)), ["v1.9.0", "v1.0.0"]),
        (Search(latest_only=True), ["v1.10.0"]),
        (Search(lineage=(Node("version", "iris@v1.0.0"),)), ["v1.10.0", "v1.9.0"]),
    ):
        found = await finder.find(search, after=(), limit=9)
        assert [one.version.version for one in found] == expected
    edges = await PostgresLineageBook(engine).edges([Node("dataset", "d")], upwards=False, limit=9)
    assert len(edges) == 3
    await engine.dispose()
