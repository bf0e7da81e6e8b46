"""A database of an older router: its rules go on as they were, and the way back is open."""

from collections.abc import Callable
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine, text

from services.common import database
from services.common.database import migrate
from services.router.adapters.postgres import SCHEMA
from services.router.adapters.rule_store import PostgresRuleStore
from services.router.domain.places import in_order
from services.router.domain.rules import NewChange, Split, Strategy, with_weights
from services.router.domain.shadows import Shadow

SERVICES = Path(database.__file__).parent.parent
BEFORE = """
    INSERT INTO traffic_rules
        (model_id, rule_name, rule_type, version_weights, version_order, routing_strategy, sticky_key_header)
    VALUES
        ('digits', 'split', 'split', '{"v1.0.0": 70, "v1.1.0": 30, "v0.9.0": 0}', '["v1.1.0", "v1.0.0", "v0.9.0"]',
         'sticky', 'x-user-id');
    INSERT INTO traffic_changes (model_id, action, before, after, generation) VALUES
        ('digits', 'update',
         '{"version_weights": {"v1.0.0": 100}, "version_order": ["v1.0.0"], "routing_strategy": "random",
           "sticky_key_header": ""}',
         '{"version_weights": {"v1.0.0": 70, "v1.1.0": 30, "v0.9.0": 0},
           "version_order": ["v1.1.0", "v1.0.0", "v0.9.0"], "routing_strategy": "sticky",
           "sticky_key_header": "x-user-id"}',
         1);
"""
KNOWN = Split({"v1.1.0": 30, "v1.0.0": 70, "v0.9.0": 0}, Strategy.STICKY, "x-user-id")


def on_schema(url: str, work: Callable[[Connection, Config], object]) -> None:
    """Does `work` in a transaction on the router's schema."""
    engine = create_engine(url, connect_args={"options": f"-c search_path={SCHEMA},public"})
    config = Config()
    config.set_main_option("script_location", str(SERVICES / "common" / "migrations"))
    config.set_main_option("version_locations", str(SERVICES / "router" / "migrations" / "versions"))
    config.set_main_option("path_separator", "os")
    config.attributes["schema"] = SCHEMA
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        work(connection, config)
    engine.dispose()


def columns(connection: Connection) -> set[str]:
    """Those of the rules."""
    found = connection.execute(
        text("SELECT column_name FROM information_schema.columns WHERE table_schema = :s AND table_name = :t"),
        {"s": SCHEMA, "t": "traffic_rules"},
    )
    return set(found.scalars())


async def test_rules_from_before_keep_their_places_and_the_way_back_is_open(database_url: str) -> None:
    def older(connection: Connection, config: Config) -> None:
        connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
        command.upgrade(config, "0001")
        connection.execute(text(BEFORE))

    on_schema(database_url, older)
    await migrate(database_url, service=SCHEMA)
    engine = database.create_engine(database_url, schema=SCHEMA)
    store = PostgresRuleStore(engine)
    rule = await store.find("digits")
    assert rule is not None
    assert (rule.split, rule.split.runs) == (KNOWN, in_order(KNOWN.weights))
    (change,) = await store.changes("digits", before=None, limit=9)
    assert (change.before, change.after) == (Split({"v1.0.0": 100}), KNOWN)
    weighted = Split(with_weights(KNOWN, {"v2.0.0": 100}).weights, Strategy.WEIGHTED, shadows=(Shadow("v1.0.0"),))
    saved = await store.save(NewChange("digits", "", "update", "", "", KNOWN, weighted), generation=1)
    assert saved is not None
    await engine.dispose()

    def back(connection: Connection, config: Config) -> None:
        command.downgrade(config, "0001")
        assert not {"places", "shadows", "governing_rule", "log_labels"} & columns(connection)
        rows = connection.execute(text("SELECT rule_name, routing_strategy, version_weights FROM traffic_rules"))
        assert [tuple(row) for row in rows] == [("split", "random", {"v2.0.0": 100})]

    on_schema(database_url, back)
    await migrate(database_url, service=SCHEMA)


async def test_without_rollouts_nothing_governs_that_nobody_could_end(database_url: str) -> None:
    await migrate(database_url, service=SCHEMA)
    engine = database.create_engine(database_url, schema=SCHEMA)
    store = PostgresRuleStore(engine)
    split = Split({"v1.0.0": 100})
    await store.save(NewChange("digits", "", "canary", "", "", split, split, governing="canary-1"), generation=0)
    on_schema(database_url, lambda _, config: command.downgrade(config, "0002"))
    rule = await store.find("digits")
    assert rule is not None
    assert (rule.governing, rule.etag) == ("", "g1")
    await engine.dispose()
    await migrate(database_url, service=SCHEMA)
