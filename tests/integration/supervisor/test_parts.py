"""The real parts start, answer and stop."""

from pathlib import Path

import psycopg
import redis

from services.supervisor.parts.valkey import valkey_part
from tests.support.parts import free_port, running


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


async def test_redis_that_is_stopped_in_order_has_everything_the_next_time(tmp_path: Path) -> None:
    part = valkey_part(port=free_port(), data_dir=tmp_path / "redis", log_path=tmp_path / "redis.log")
    with redis.Redis(port=part.ports["redis"]) as client:
        async with running(part):
            client.hset("features:flower=f1", "flowers", "{}")
            client.expire("features:flower=f1", 3600)
        async with running(part):
            assert client.hgetall("features:flower=f1") == {b"flowers": b"{}"}
            assert 3500 < client.ttl("features:flower=f1") <= 3600
