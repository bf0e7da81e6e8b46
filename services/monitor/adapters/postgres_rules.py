"""Alert rules in PostgreSQL, and what they remember between looks."""

import hashlib
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.common.errors import MeshError, Reason
from services.monitor.adapters.alert_rows import (
    COLUMNS,
    SPEC,
    alert_of,
    end_alerts_of,
    lock_alerts,
    put_alerts,
    settle,
)
from services.monitor.adapters.database import transaction
from services.monitor.domain.alerts import resolved
from services.monitor.domain.rounds import Known, Round
from services.monitor.domain.rules import Happened, Rule, RuleSpec
from services.monitor.domain.watches import Watch, WatchedBy
from services.monitor.ports_alerts import Asked

_FIELDS = "spec, etag, created_at, updated_at, created_by"
_GET = text(f"SELECT {_FIELDS} FROM alert_rules WHERE name = :name")  # noqa: S608 - names out of this file
_BY_REQUEST = text(
    f"SELECT {_FIELDS}, request_digest FROM alert_rules WHERE request_id = :request_id AND request_id <> ''"  # noqa: S608
)
_FIND = text(f"""
    SELECT {_FIELDS} FROM alert_rules
    WHERE name > :after AND (:model = '' OR model_id = :model)
      AND (CAST(:models AS text[]) IS NULL OR model_id = '' OR model_id = ANY(CAST(:models AS text[])))
    ORDER BY name LIMIT :limit
""")  # noqa: S608 - names out of this file
_CREATE = text(f"""
    INSERT INTO alert_rules (name, model_id, spec, etag, created_at, updated_at, created_by, request_id, request_digest)
    VALUES (:name, :model, CAST(:spec AS jsonb), nextval('alert_revisions')::text, :now, :now, :by, :request_id,
            :digest)
    ON CONFLICT (name) DO NOTHING RETURNING {_FIELDS}
""")  # noqa: S608 - names out of this file
_UPDATE = text(f"""
    UPDATE alert_rules SET model_id = :model, spec = CAST(:spec AS jsonb), etag = nextval('alert_revisions')::text,
        updated_at = :now
    WHERE name = :name RETURNING {_FIELDS}
""")  # noqa: S608 - names out of this file
_DELETE = text("DELETE FROM alert_rules WHERE name = :name")
_MISSING = text("""
    SELECT wished FROM unnest(CAST(:names AS text[])) AS wished
    WHERE wished NOT IN (SELECT name FROM notification_channels)
""")
_FORGET = text("DELETE FROM alert_watches WHERE rule_name = :name")
_REVISION = text("SELECT revision FROM alert_looks")
_NEXT = text("UPDATE alert_looks SET revision = revision + 1")
_ALL = text("SELECT spec FROM alert_rules")
_WATCHES = text("""
    SELECT rule_name, model_id, version_id, holding_since, calm_since, decided_at, looked_at, alert_id, seen_at
    FROM alert_watches
""")
_KEEP = text("""
    INSERT INTO alert_watches
        (rule_name, model_id, version_id, holding_since, calm_since, decided_at, looked_at, alert_id, seen_at)
    VALUES (:rule, :model, :version, :holding_since, :calm_since, :decided_at, :looked_at, :alert_id, :seen_at)
    ON CONFLICT (rule_name, model_id, version_id) DO UPDATE SET
        holding_since = :holding_since, calm_since = :calm_since, decided_at = :decided_at, looked_at = :looked_at,
        alert_id = :alert_id, seen_at = :seen_at
""")
_DROP = text("DELETE FROM alert_watches WHERE rule_name = :rule AND model_id = :model AND version_id = :version")
_OPEN = text(f"SELECT {COLUMNS} FROM alerts WHERE status <> 'resolved' AND alert_id = ANY(CAST(:ids AS text[]))")  # noqa: S608


class PostgresRuleStore:
    """A `RuleStore`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def create(self, spec: RuleSpec, asked: Asked, *, now: datetime) -> Rule:
        """Makes a rule."""
        document = SPEC.dump_json(spec).decode()
        digest = digest_of(document)
        async with transaction(self._engine) as connection:
            await lock_alerts(connection)
            known = (await connection.execute(_BY_REQUEST, {"request_id": asked.request_id})).first()
            if known is not None:
                check_same_request(known.request_digest, digest, asked.request_id)
                return _rule(known)
            await _check_channels(connection, spec)
            values = {**_values(spec, document, now), "by": asked.by, "request_id": asked.request_id, "digest": digest}
            made = (await connection.execute(_CREATE, values)).first()
            if made is None:
                raise MeshError(
                    Reason.ALERT_RULE_EXISTS,
                    f"there is an alert rule {spec.name!r}; change it with UpdateAlertRule, or take another name",
                    metadata={"alert_rule": spec.name},
                )
            await connection.execute(_NEXT)
            return _rule(made)

    async def get(self, name: str) -> Rule | None:
        """One rule."""
        async with transaction(self._engine) as connection:
            return await _get(connection, name)

    async def find(
        self, model: str, *, after: str, limit: int, models: Collection[str] | None = None
    ) -> Sequence[Rule]:
        """Rules by name."""
        names = None if models is None else sorted(models)
        async with transaction(self._engine) as connection:
            found = await connection.execute(_FIND, {"model": model, "after": after, "limit": limit, "models": names})
            return [_rule(row) for row in found]

    async def update(self, spec: RuleSpec, *, etag: str, now: datetime) -> Rule | None:
        """Changes a rule. What it remembered of another condition it forgets, but for alerts that are open."""
        async with transaction(self._engine) as connection:
            await lock_alerts(connection)
            before = await _get(connection, spec.name)
            if before is None:
                return None
            check_etag(etag, before.etag, f"alert rule {spec.name!r}")
            await _check_channels(connection, spec)
            document = SPEC.dump_json(spec).decode()
            row = (await connection.execute(_UPDATE, _values(spec, document, now))).one()
            looks_elsewhere = (spec.condition, spec.model, spec.version) != (
                before.spec.condition,
                before.spec.model,
                before.spec.version,
            )
            if not spec.enabled or looks_elsewhere:
                await end_alerts_of(connection, spec.name, now)
                await connection.execute(_FORGET, {"name": spec.name})
            await connection.execute(_NEXT)
            await settle(connection, now)
            return _rule(row)

    async def delete(self, name: str, *, etag: str, now: datetime) -> bool:
        """Removes a rule and ends its alerts."""
        async with transaction(self._engine) as connection:
            await lock_alerts(connection)
            before = await _get(connection, name)
            if before is None:
                return False
            check_etag(etag, before.etag, f"alert rule {name!r}")
            await end_alerts_of(connection, name, now)
            await settle(connection, now)
            await connection.execute(_DELETE, {"name": name})
            await connection.execute(_NEXT)
            return True

    async def known(self) -> Known:
        """What a look begins with, all of one moment."""
        async with transaction(self._engine) as connection:
            await connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"))
            revision = int((await connection.execute(_REVISION)).scalar_one())
            specs = [SPEC.validate_python(row.spec) for row in await connection.execute(_ALL)]
            watches = {WatchedBy(*row[:3]): Watch(*row[3:]) for row in await connection.execute(_WATCHES)}
        rules = {spec.name: spec for spec in specs if spec.enabled and not isinstance(spec.condition, Happened)}
        return Known(revision, rules, watches)

    async def apply(self, known: Known, turned: Round, *, now: datetime) -> bool:
        """Stores what a look changes, unless it was overtaken."""
        async with transaction(self._engine) as connection:
            await lock_alerts(connection)
            if int((await connection.execute(_REVISION)).scalar_one()) != known.revision:
                return False
            await connection.execute(_NEXT)
            kept = [{**_key(by), **_columns(watch)} for by, watch in turned.watches.items()]
            if kept:
                await connection.execute(_KEEP, kept)
            if turned.gone:
                await connection.execute(_DROP, [_key(by) for by in turned.gone])
            await put_alerts(connection, turned.fired)
            if turned.ended:
                ended = [alert_of(row) for row in await connection.execute(_OPEN, {"ids": list(turned.ended)})]
                await put_alerts(connection, [resolved(alert, now) for alert in ended])
            await settle(connection, now)
            return True


def digest_of(document: str) -> str:
    """What a call asked for, to tell whether another of the same id asks for the same."""
    return hashlib.sha256(document.encode()).hexdigest()


def check_same_request(known: str, digest: str, request_id: str) -> None:
    """Raises REQUEST_ID_REUSED where a call of this id asked for something else."""
    if known != digest:
        raise MeshError(
            Reason.REQUEST_ID_REUSED,
            f"request_id {request_id!r} was used for another call; send a new one with each new call",
            metadata={"request_id": request_id[:100]},
        )


def check_etag(given: str, current: str, what: str) -> None:
    """Raises ETAG_MISMATCH where someone else changed it since it was read."""
    if given and given != current:
        raise MeshError(
            Reason.ETAG_MISMATCH,
            f"{what} was changed since it was read; read it again and repeat the call with its etag",
        )


async def _check_channels(connection: AsyncConnection, spec: RuleSpec) -> None:
    missing = (await connection.execute(_MISSING, {"names": list(spec.channels)})).scalars().first()
    if missing is not None:
        raise MeshError(
            Reason.CHANNEL_NOT_FOUND,
            f"there is no notification channel {missing!r}; ListNotificationChannels shows those that there are",
            metadata={"notification_channel": str(missing)[:100]},
        )


async def _get(connection: AsyncConnection, name: str) -> Rule | None:
    row = (await connection.execute(_GET, {"name": name})).first()
    return None if row is None else _rule(row)


def _rule(row: Row[Any]) -> Rule:
    return Rule(SPEC.validate_python(row.spec), row.etag, row.created_at, row.updated_at, row.created_by)


def _values(spec: RuleSpec, document: str, now: datetime) -> dict[str, object]:
    return {"name": spec.name, "model": spec.model, "spec": document, "now": now}


def _key(by: WatchedBy) -> dict[str, object]:
    return {"rule": by.rule, "model": by.model, "version": by.version}


def _columns(watch: Watch) -> dict[str, object]:
    return {
        "holding_since": watch.holding_since,
        "calm_since": watch.calm_since,
        "decided_at": watch.decided_at,
        "looked_at": watch.looked_at,
        "alert_id": watch.alert_id,
        "seen_at": watch.seen_at,
    }
