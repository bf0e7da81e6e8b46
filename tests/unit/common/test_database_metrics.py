"""What is shown of a database without one: the pool's connections, by an engine that never dials."""

from prometheus_client import CollectorRegistry

from services.common.database import create_engine


def test_connections_are_shown_before_there_are_any() -> None:
    registry = CollectorRegistry()
    create_engine("postgresql+psycopg://nobody@127.0.0.1:1/none", schema="x", pool_size=7, metrics=registry)
    assert registry.get_sample_value("database_connections", {"state": "in_use"}) == 0
    assert registry.get_sample_value("database_connections", {"state": "idle"}) == 0
    assert registry.get_sample_value("database_connections_max") == 7
    assert registry.get_sample_value("database_failures_total") == 0
