"""Leases in PostgreSQL, by the database's clock: no router's own clock decides who leads."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.router.adapters.postgres import transaction

_LONGEST_S = 120.0
"""No lease is given for so long. One that ends later was given before the clock was set back, and is over."""
_ACQUIRE = text("""
    INSERT INTO leases (name, holder, token, expires_at)
    VALUES (:name, :holder, 1, clock_timestamp() + make_interval(secs => :ttl))
    ON CONFLICT (name) DO UPDATE SET
        holder = excluded.holder, token = leases.token + 1,
        expires_at = clock_timestamp() + make_interval(secs => :ttl)
    WHERE leases.expires_at <= clock_timestamp()
        OR leases.expires_at > clock_timestamp() + make_interval(secs => :longest)
    RETURNING token
""")
_RENEW = text("""
    UPDATE leases SET expires_at = clock_timestamp() + make_interval(secs => :ttl)
    WHERE name = :name AND token = :token
    RETURNING token
""")
_RELEASE = text("UPDATE leases SET expires_at = clock_timestamp() WHERE name = :name AND token = :token")
_HOLDS = text("SELECT token FROM leases WHERE name = :name AND token = :token FOR SHARE")


class PostgresLeases:
    """A `Leases`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def acquire(self, name: str, holder: str, *, ttl_s: float) -> int | None:
        """A token, or None."""
        parameters = {"name": name, "holder": holder, "ttl": ttl_s, "longest": _LONGEST_S}
        async with transaction(self._engine) as connection:
            token: int | None = (await connection.execute(_ACQUIRE, parameters)).scalar_one_or_none()
        return token

    async def renew(self, name: str, token: int, *, ttl_s: float) -> bool:
        """Whether it is still held."""
        parameters = {"name": name, "token": token, "ttl": ttl_s}
        async with transaction(self._engine) as connection:
            return (await connection.execute(_RENEW, parameters)).scalar_one_or_none() is not None

    async def release(self, name: str, token: int) -> None:
        """Lets it go."""
        async with transaction(self._engine) as connection:
            await connection.execute(_RELEASE, {"name": name, "token": token})


async def holds(connection: AsyncConnection, name: str, token: int) -> bool:
    """Whether `token` is the newest of the lease, and stays so until the caller's transaction ends: who would take the
    lease over waits for that."""
    return (await connection.execute(_HOLDS, {"name": name, "token": token})).scalar_one_or_none() is not None
