"""The real parts start, answer and stop."""

import psycopg
import redis


def test_postgres_answers_queries(database_url: str) -> None:
    with psycopg.connect(database_url.replace("+psycopg", "")) as connection:
        row = connection.execute("SELECT uuidv7() IS NOT NULL, current_setting('server_version_num')::int").fetchone()
    assert row is not None
    assert row[0] is True
    assert row[1] >= 180000


def test_redis_answers_commands(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.set("pred:digits:v1.0.0:abc", b"\x00\x01", ex=60)
        assert client.get("pred:digits:v1.0.0:abc") == b"\x00\x01"
