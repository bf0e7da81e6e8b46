"""Logging policies in PostgreSQL. Changes are numbered under a lock, in the order of their commits: who follows them
misses none."""

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.monitor.adapters.database import transaction
from services.monitor.domain.logging_policies import LoggingPolicy

_LOCK_NUMBER = 0x1F40
_LOCK = text("SELECT pg_advisory_xact_lock(:lock)")
_COLUMNS = "model_id, version_id, sample_rate, log_input_hash, log_output, redacted_fields, revision"
_GET = text(f"SELECT {_COLUMNS} FROM logging_policies WHERE model_id = :model AND version_id = :version")  # noqa: S608
_PUT = text(f"""
    INSERT INTO logging_policies AS known ({_COLUMNS}, change)
    VALUES (:model, :version, :sample_rate, :log_input_hash, :log_output, :redacted_fields, 1,
            nextval('logging_policy_changes'))
    ON CONFLICT (model_id, version_id) DO UPDATE SET
        sample_rate = :sample_rate, log_input_hash = :log_input_hash, log_output = :log_output,
        redacted_fields = :redacted_fields, revision = known.revision + 1, change = excluded.change, updated_at = now()
    RETURNING {_COLUMNS}
""")  # noqa: S608 - names out of this file
_CHANGED = text(f"""
    SELECT change, {_COLUMNS} FROM logging_policies WHERE change > :after ORDER BY change LIMIT :limit
""")  # noqa: S608 - names out of this file


class PostgresPolicyStore:
    """A `PolicyStore`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def get(self, model: str, version: str) -> LoggingPolicy | None:
        """The policy that was set."""
        async with transaction(self._engine) as connection:
            row = (await connection.execute(_GET, {"model": model, "version": version})).first()
        return None if row is None else _policy(row)

    async def put(self, policy: LoggingPolicy, *, expected: int) -> LoggingPolicy | None:
        """Stores it where nobody changed it since."""
        key = {"model": policy.model, "version": policy.version}
        async with transaction(self._engine) as connection:
            await connection.execute(_LOCK, {"lock": _LOCK_NUMBER})
            before = (await connection.execute(_GET, key)).first()
            if (0 if before is None else _policy(before).revision) != expected:
                return None
            values = {
                **key,
                "sample_rate": policy.sample_rate,
                "log_input_hash": policy.log_input_hash,
                "log_output": policy.log_output,
                "redacted_fields": list(policy.redacted_fields),
            }
            return _policy((await connection.execute(_PUT, values)).one())

    async def changed(self, *, after: int, limit: int) -> Sequence[tuple[int, LoggingPolicy]]:
        """What changed since."""
        async with transaction(self._engine) as connection:
            rows = (await connection.execute(_CHANGED, {"after": after, "limit": limit})).all()
        return [(int(row[0]), _policy(row[1:])) for row in rows]


def _policy(row: Sequence[object]) -> LoggingPolicy:
    model, version, rate, log_input_hash, log_output, redacted, revision = row
    assert isinstance(redacted, list)
    return LoggingPolicy(
        str(model),
        str(version),
        float(str(rate)),
        log_input_hash is True,
        log_output is True,
        tuple(str(name) for name in redacted),
        int(str(revision)),
    )
