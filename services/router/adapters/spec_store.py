"""How versions were deployed last, in PostgreSQL."""

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.router.adapters.postgres import transaction
from services.router.domain.deployments import Spec

_KEEP = text("""
    INSERT INTO deployed_versions (model_id, version_id, deployment_id, spec)
    VALUES (:model, :version, :deployment, :spec)
    ON CONFLICT (model_id, version_id) DO UPDATE SET
        deployment_id = excluded.deployment_id, spec = excluded.spec, updated_at = now()
    WHERE (deployed_versions.deployment_id, deployed_versions.spec) <> (excluded.deployment_id, excluded.spec)
""")
_FIND = text("SELECT deployment_id, spec FROM deployed_versions WHERE model_id = :model AND version_id = :version")


class PostgresSpecStore:
    """A `SpecStore`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def keep(self, specs: Sequence[Spec]) -> None:
        """Keeps these."""
        rows = [
            {"model": one.model_name, "version": one.version, "deployment": one.deployment_name, "spec": one.spec}
            for one in specs
        ]
        if rows:
            async with transaction(self._engine) as connection:
                await connection.execute(_KEEP, rows)

    async def find(self, model_name: str, version: str) -> Spec | None:
        """How it was deployed last."""
        async with transaction(self._engine) as connection:
            row = (await connection.execute(_FIND, {"model": model_name, "version": version})).one_or_none()
        return Spec(model_name, version, row.deployment_id, bytes(row.spec)) if row is not None else None
