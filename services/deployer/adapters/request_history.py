"""What deployments were asked for, in PostgreSQL: the table `request_history`."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.deployer.adapters.postgres import transaction
from services.deployer.domain.history import Bucket, Key

# Within a bucket the decisions are the last version's. Rows that two deployers add to are locked in the same order.
_ADD = text("""
    INSERT INTO request_history AS kept
        (model_id, deployment_name, started_at, known_s, requests, version_id, decisions, short, per_replica)
    SELECT * FROM unnest(
        CAST(:models AS text[]), CAST(:names AS text[]), CAST(:starts AS timestamptz[]), CAST(:known AS float8[]),
        CAST(:requests AS float8[]), CAST(:versions AS text[]), CAST(:decisions AS int[]), CAST(:short AS int[]),
        CAST(:per_replica AS float8[])
    ) AS added (model, name, start, known_s, requests, version, decisions, short, per_replica)
    ORDER BY model, name, start
    ON CONFLICT (model_id, deployment_name, started_at) DO UPDATE SET
        known_s = kept.known_s + excluded.known_s,
        requests = kept.requests + excluded.requests,
        version_id = coalesce(nullif(excluded.version_id, ''), kept.version_id),
        decisions = excluded.decisions
            + CASE WHEN excluded.version_id IN ('', kept.version_id) THEN kept.decisions ELSE 0 END,
        short = excluded.short + CASE WHEN excluded.version_id IN ('', kept.version_id) THEN kept.short ELSE 0 END,
        per_replica = excluded.per_replica
            + CASE WHEN excluded.version_id IN ('', kept.version_id) THEN kept.per_replica ELSE 0 END
""")
_READ = text("""
    SELECT started_at, known_s, requests, version_id, decisions, short, per_replica FROM request_history
    WHERE model_id = :model AND deployment_name = :name AND started_at >= CAST(:since AS timestamptz)
    ORDER BY started_at
""")
_PRUNE = text("DELETE FROM request_history WHERE started_at < CAST(:before AS timestamptz)")


class PostgresRequestHistory:
    """A `RequestHistoryStore`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def add(self, buckets: Mapping[Key, Sequence[Bucket]]) -> None:
        """In one statement."""
        rows = [(key, one) for key, added in buckets.items() for one in _one_each(added)]
        if not rows:
            return
        parameters = {
            "models": [key[0] for key, _ in rows],
            "names": [key[1] for key, _ in rows],
            "starts": [one.started_at for _, one in rows],
            "known": [one.known_s for _, one in rows],
            "requests": [one.requests for _, one in rows],
            "versions": [one.version for _, one in rows],
            "decisions": [one.decisions for _, one in rows],
            "short": [one.short for _, one in rows],
            "per_replica": [one.per_replica for _, one in rows],
        }
        async with transaction(self._engine) as connection:
            await connection.execute(_ADD, parameters)

    async def read(self, key: Key, since: datetime) -> Sequence[Bucket]:
        """Those of one deployment."""
        async with transaction(self._engine) as connection:
            found = await connection.execute(_READ, {"model": key[0], "name": key[1], "since": since})
            return [Bucket(row.started_at.astimezone(UTC), *row[1:]) for row in found]

    async def prune(self, before: datetime) -> None:
        """Removes what is older."""
        async with transaction(self._engine) as connection:
            await connection.execute(_PRUNE, {"before": before})


def _one_each(buckets: Sequence[Bucket]) -> Sequence[Bucket]:
    """One bucket for each beginning: a statement may add to a row but once."""
    joined: dict[datetime, Bucket] = {}
    for one in buckets:
        joined[one.started_at] = joined[one.started_at].plus(one) if one.started_at in joined else one
    return list(joined.values())
