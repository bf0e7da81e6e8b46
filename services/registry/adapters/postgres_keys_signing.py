"""The public halves of signing keys, in PostgreSQL, so that every registry publishes those of all."""

from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.registry.adapters.change_rows import NewChange, note
from services.registry.adapters.database import transaction
from services.registry.adapters.postgres_keys import distrusted
from services.registry.domain.jwk import PublicKey, key_set

_PUBLISH = text("""
    INSERT INTO signing_keys (kid, x, y, in_use_at) VALUES (:kid, :x, :y, :now)
    ON CONFLICT (kid) DO UPDATE SET in_use_at = EXCLUDED.in_use_at
    RETURNING xmax = 0 AS made, distrusted_at IS NULL AS trusted
""")
_PUBLISHED = text("""
    SELECT s.x, s.y FROM signing_keys s WHERE s.distrusted_at IS NULL AND (s.in_use_at > :lately OR EXISTS
        (SELECT FROM api_keys k WHERE k.signed_by = s.kid AND k.revoked_at IS NULL
            AND (k.expires_at IS NULL OR k.expires_at > :now)))
""")
_LATELY = timedelta(days=1)
"""Longer than the tokens live that are signed and not noted, and than a registry is away between two looks."""


class PostgresSigningKeys:
    """A `SigningKeys`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def publish(self, key: PublicKey, *, now: datetime) -> None:
        """Notes that a registry signs with `key` now."""
        async with transaction(self._engine) as connection:
            asked = {"kid": key.kid, "x": key.x, "y": key.y, "now": now}
            row = (await connection.execute(_PUBLISH, asked)).mappings().one()
            if not row["trusted"]:
                raise distrusted(key.kid)
            if row["made"]:
                change = NewChange(resource_type="api_key", resource_name=f"signing-key/{key.kid}", action="created")
                await note(connection, change)

    async def key_set(self, *, now: datetime) -> str:
        """The JSON Web Key Set."""
        async with transaction(self._engine) as connection:
            return await read_key_set(connection, now=now)


async def read_key_set(connection: AsyncConnection, *, now: datetime) -> str:
    """The key set as a transaction sees it."""
    rows = (await connection.execute(_PUBLISHED, {"now": now, "lately": now - _LATELY})).mappings()
    return key_set(PublicKey(row["x"], row["y"]) for row in rows)
