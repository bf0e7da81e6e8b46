"""Examples of shadow copies that were answered differently, in PostgreSQL: the newest of each pair of versions."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.monitor.adapters.copying import copy_rows
from services.monitor.adapters.database import transaction
from services.monitor.domain.records import ShadowExample
from services.monitor.domain.shadows import EXAMPLES_MAX, ShadowPair

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_COPY = """COPY shadow_examples (model_id, shadow_version, primary_version, "timestamp", request_id, row_index,
    primary_output, shadow_output, difference) FROM STDIN"""
_TRIM = text("""
    DELETE FROM shadow_examples
    WHERE model_id = :model AND shadow_version = :shadow AND primary_version = :primary
      AND id NOT IN (
        SELECT id FROM shadow_examples
        WHERE model_id = :model AND shadow_version = :shadow AND primary_version = :primary
        ORDER BY "timestamp" DESC, request_id, id LIMIT :kept)
""")
_EXAMPLES = text("""
    SELECT shadow_version, primary_version, request_id, "timestamp", row_index, primary_output, shadow_output,
           difference
    FROM (
        SELECT *, row_number() OVER (PARTITION BY shadow_version, primary_version
                                     ORDER BY "timestamp" DESC, request_id, id) AS place
        FROM shadow_examples WHERE model_id = :model AND "timestamp" >= :first AND "timestamp" < :end
    ) AS ordered
    WHERE place <= :limit ORDER BY shadow_version, primary_version, place
""")
_FORGET = text('DELETE FROM shadow_examples WHERE "timestamp" < :before')


class PostgresExampleStore:
    """An `ExampleStore`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def examples(
        self, model: str, *, first: datetime, end: datetime, limit: int
    ) -> Mapping[ShadowPair, Sequence[ShadowExample]]:
        """The newest of each pair."""
        found: dict[ShadowPair, list[ShadowExample]] = {}
        asked = {"model": model, "first": first, "end": end, "limit": limit}
        async with transaction(self._engine) as connection:
            for shadow, primary, request_id, moment, *rest in await connection.execute(_EXAMPLES, asked):
                pair = ShadowPair(model, shadow, primary)
                time_us = (moment - _EPOCH) // timedelta(microseconds=1)
                found.setdefault(pair, []).append(ShadowExample(request_id, time_us, *rest))
        return found

    async def forget(self, *, before: datetime) -> None:
        """Removes old ones."""
        async with transaction(self._engine) as connection:
            await connection.execute(_FORGET, {"before": before})


async def add_examples(connection: AsyncConnection, examples: Mapping[ShadowPair, Sequence[ShadowExample]]) -> None:
    """Adds examples and keeps the newest of each pair. Whoever calls this holds the counting lock."""
    await copy_rows(
        connection,
        _COPY,
        (
            (
                pair.model,
                pair.shadow_version,
                pair.primary_version,
                _EPOCH + timedelta(microseconds=example.time_us),
                example.request_id,
                example.row,
                example.primary_output,
                example.shadow_output,
                example.difference,
            )
            for pair, found in sorted(examples.items())
            for example in found
        ),
    )
    for pair in sorted(examples):
        await connection.execute(
            _TRIM,
            {
                "model": pair.model,
                "shadow": pair.shadow_version,
                "primary": pair.primary_version,
                "kept": EXAMPLES_MAX,
            },
        )
