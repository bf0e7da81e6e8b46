"""The lease of rollouts while the clock of the database is set back."""

from sqlalchemy import text

from services.common.database import create_engine, migrate
from services.router.adapters.leases import PostgresLeases
from services.router.adapters.postgres import SCHEMA


async def test_after_the_clock_was_set_back_a_dead_leader_is_followed_all_the_same(database_url: str) -> None:
    await migrate(database_url, service=SCHEMA)
    engine = create_engine(database_url, schema=SCHEMA, pool_size=2)
    leases = PostgresLeases(engine)
    first = await leases.acquire("x", "a", ttl_s=60.0)
    assert first is not None
    async with engine.begin() as connection:
        # As if the clock had been two hours ahead when it was given.
        await connection.execute(text("UPDATE leases SET expires_at = expires_at + interval '2 hours'"))
    second = await leases.acquire("x", "b", ttl_s=60.0)
    assert second == first + 1
    assert not await leases.renew("x", first, ttl_s=60.0)
    assert await leases.acquire("x", "c", ttl_s=60.0) is None
    await engine.dispose()
