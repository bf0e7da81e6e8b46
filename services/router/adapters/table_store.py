"""The last good serving table, and the revisions given out, in PostgreSQL."""

from collections.abc import Mapping, Sequence

from infermesh.common.v1 import serving_pb2
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.router.adapters.postgres import transaction
from services.router.convert import serving_from_proto, serving_to_proto
from services.router.domain.merge import ServingModel

_LOAD = text("SELECT served FROM serving_models ORDER BY model_id")
_SAVE = text("""
    INSERT INTO serving_models (model_id, served) VALUES (:model, :served)
    ON CONFLICT (model_id) DO UPDATE SET served = excluded.served, updated_at = now()
""")
_FORGET = text("DELETE FROM serving_models WHERE model_id = ANY(:models)")
_RESERVE = text(
    "SELECT nextval('table_revision') AS first, increment_by AS size FROM pg_sequences"
    " WHERE schemaname = 'router' AND sequencename = 'table_revision'"
)


class PostgresTableStore:
    """A `TableStore`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def load(self) -> Mapping[str, ServingModel] | None:
        """What was saved last."""
        async with transaction(self._engine) as connection:
            rows = (await connection.execute(_LOAD)).scalars().all()
        saved = [serving_pb2.ServedModel.FromString(row) for row in rows]
        return {one.model_name: serving_from_proto(one) for one in saved} or None

    async def save(self, models: Sequence[ServingModel], removed: Sequence[str]) -> None:
        """Keeps these and forgets those."""
        rows = [
            {"model": model.ready.model_name, "served": serving_to_proto(model).SerializeToString()} for model in models
        ]
        async with transaction(self._engine) as connection:
            if rows:
                await connection.execute(_SAVE, rows)
            if removed:
                await connection.execute(_FORGET, {"models": list(removed)})

    async def reserve_revisions(self) -> range:
        """The next block."""
        async with transaction(self._engine) as connection:
            row = (await connection.execute(_RESERVE)).one()
        return range(row.first, row.first + row.size)
