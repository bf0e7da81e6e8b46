"""Rows of `traffic_rules` that no router of today has written: one model's do not stand in the way of the others'."""

import logging

import pytest
from sqlalchemy import text

from services.common.database import create_engine, migrate
from services.router.adapters.postgres import SCHEMA
from services.router.adapters.rule_store import PostgresRuleStore
from services.router.domain.places import moved_places
from services.router.domain.rules import NewChange, Split, Strategy, with_weights
from services.router.engines.rules import RuleBook

BEFORE = with_weights(Split({"v1.0.0": 60, "v0.9.0": 40}, Strategy.STICKY, "x-user-id"), {"v1.0.0": 100})
SPLIT = with_weights(BEFORE, {"v1.0.0": 70, "v0.9.0": 30})


@pytest.mark.logs_errors
async def test_rows_that_others_wrote_keep_no_router_from_starting(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    await migrate(database_url, service=SCHEMA)
    engine = create_engine(database_url, schema=SCHEMA, pool_size=2)
    store = PostgresRuleStore(engine)
    for model in ("by-hand", "in-turn", "sound", "too-much"):
        await store.save(NewChange(model, "", "update", "ada", "", BEFORE, SPLIT), generation=0)
    async with engine.begin() as connection:
        # An older router knows no places, and whoever changes weights by hand thinks of none.
        await connection.execute(
            text("""
                UPDATE traffic_rules SET version_weights = '{"v1.0.0": 50, "v0.9.0": 50}' WHERE model_id = 'by-hand'
            """)
        )
        await connection.execute(
            text("UPDATE traffic_rules SET routing_strategy = 'round_robin' WHERE model_id = 'in-turn'")
        )
        await connection.execute(
            text("""UPDATE traffic_rules SET version_weights = '{"v1.0.0": 999}' WHERE model_id = 'too-much'""")
        )
    book = RuleBook(store=store, period_s=10.0)
    with caplog.at_level(logging.ERROR):
        await book.load()
    assert sorted(book.rules) == ["by-hand", "sound"]
    assert book.rules["sound"].split.same_as(SPLIT)
    by_hand = book.rules["by-hand"].split
    assert by_hand.positive == {"v1.0.0": 50, "v0.9.0": 50}
    assert moved_places(SPLIT.runs, by_hand.runs) == 20
    assert any("cannot be read" in record.getMessage() for record in caplog.records)
    await engine.dispose()
