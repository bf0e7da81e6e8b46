"""Rollouts in PostgreSQL: each in `rollouts`, and as a row of its own in `traffic_rules` for those who read that."""

import json
from collections.abc import Sequence

from psycopg import Error as DriverError
from sqlalchemy import RowMapping, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.router.adapters.event_store import write_events
from services.router.adapters.leases import holds
from services.router.adapters.postgres import transaction
from services.router.adapters.rule_store import write_change
from services.router.domain.rollouts import (
    PAUSED,
    ROLLOUTS_LEASE,
    Document,
    Mismatch,
    Rollout,
    RolloutEvent,
    RolloutKind,
    Saved,
)
from services.router.domain.rules import NewChange, Rule

_RUNNING = text("SELECT * FROM rollouts WHERE status IN ('running', 'paused') ORDER BY number")
_FIND = text("SELECT * FROM rollouts WHERE model_id = :model AND name = :name")
_PAGE = text("""
    SELECT * FROM rollouts
    WHERE model_id = :model AND kind = :kind AND (:status = '' OR status = :status)
        AND (CAST(:before AS bigint) IS NULL OR number < CAST(:before AS bigint))
    ORDER BY number DESC
    LIMIT :limit
""")
_INSERT = text("""
    INSERT INTO rollouts
        (id, created_at, updated_at, ended_at, model_id, name, kind, status, document, results, created_by, request_id,
         request_digest)
    VALUES
        (CAST(:id AS uuid), :created_at, :updated_at, :ended_at, :model, :name, :kind, :status,
         CAST(:document AS jsonb), CAST(:results AS jsonb), :created_by, :request_id, :request_digest)
    RETURNING *
""")
_UPDATE = text("""
    UPDATE rollouts SET
        updated_at = :updated_at, ended_at = :ended_at, status = :status, document = CAST(:document AS jsonb),
        results = CAST(:results AS jsonb), generation = generation + 1
    WHERE id = CAST(:id AS uuid) AND generation = :generation
    RETURNING *
""")
_NOTE = text("""
    UPDATE rollouts SET results = CAST(:results AS jsonb)
    WHERE id = CAST(:id AS uuid) AND generation = :generation
    RETURNING id
""")
# What the row of a rollout shows of shares is what its last change of the rule made of them.
_SHOW = text("""
    INSERT INTO traffic_rules
        (model_id, deployment_id, rule_name, rule_type, version_weights, version_order, routing_strategy,
         sticky_key_header, start_time, end_time, status, success_criteria, auto_promote, created_by, created_at)
    SELECT :model, deployment_id, :name, :kind, version_weights, version_order, routing_strategy, sticky_key_header,
        :created_at, :ended_at, :shown_status, CAST(:criteria AS jsonb), :auto_promote, :created_by, :created_at
    FROM traffic_rules WHERE model_id = :model AND rule_name = 'split'
""")
_SHOW_AGAIN = text("""
    UPDATE traffic_rules shown SET
        end_time = :ended_at, status = :shown_status, updated_at = :updated_at, generation = shown.generation + 1,
        version_weights = CASE WHEN :changed THEN split.version_weights ELSE shown.version_weights END,
        version_order = CASE WHEN :changed THEN split.version_order ELSE shown.version_order END
    FROM traffic_rules split
    WHERE shown.model_id = :model AND shown.rule_name = :name
        AND split.model_id = shown.model_id AND split.rule_name = 'split'
""")
_TAKEN = {
    "rollouts_name": Mismatch.NAME,
    "traffic_rules_name": Mismatch.NAME,
    "rollouts_running": Mismatch.RUNNING,
    "rollouts_request": Mismatch.REQUEST,
    "rollouts_pkey": Mismatch.ROLLOUT,
    "traffic_changes_request": Mismatch.RULE,
    "traffic_changes_generation": Mismatch.RULE,
}
"""What a constraint that is broken says."""


class _NothingStoredError(Exception):
    """Ends the transaction with nothing stored."""

    def __init__(self, mismatch: Mismatch) -> None:
        super().__init__(mismatch)
        self.mismatch = mismatch


class PostgresRolloutStore:
    """A `RolloutStore`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def running(self) -> Sequence[Rollout]:
        """All that run or are paused."""
        async with transaction(self._engine) as connection:
            return [_rollout(row) for row in (await connection.execute(_RUNNING)).mappings()]

    async def find(self, model_name: str, name: str) -> Rollout | None:
        """The rollout of that name."""
        async with transaction(self._engine) as connection:
            row = (await connection.execute(_FIND, {"model": model_name, "name": name})).mappings().one_or_none()
        return _rollout(row) if row is not None else None

    async def page(
        self, model_name: str, kind: RolloutKind, *, status: str = "", before: int | None = None, limit: int
    ) -> Sequence[Rollout]:
        """Newest first."""
        parameters = {"model": model_name, "kind": kind.value, "status": status, "before": before, "limit": limit}
        async with transaction(self._engine) as connection:
            return [_rollout(row) for row in (await connection.execute(_PAGE, parameters)).mappings()]

    async def save(
        self,
        rollout: Rollout,
        *,
        generation: int,
        change: NewChange | None = None,
        rule_generation: int = 0,
        fence: int | None = None,
        events: Sequence[RolloutEvent] = (),
    ) -> Saved | Mismatch:
        """All or nothing, in one transaction."""
        try:
            async with transaction(self._engine) as connection:
                if fence is not None:
                    _go_on(await holds(connection, ROLLOUTS_LEASE, fence), else_=Mismatch.FENCE)
                stored = await _write(connection, rollout, generation=generation)
                rule: Rule | None = None
                if change is not None:
                    rule = await write_change(connection, change, generation=rule_generation)
                    _go_on(rule is not None, else_=Mismatch.RULE)
                await _show(connection, stored, new=generation == 0, changed=change is not None)
                await write_events(connection, events)
        except _NothingStoredError as nothing:
            return nothing.mismatch
        except IntegrityError as error:
            broken = error.orig.diag.constraint_name if isinstance(error.orig, DriverError) else None
            if broken not in _TAKEN:
                raise
            return _TAKEN[broken]
        return Saved(stored, rule)

    async def note(self, rollout: Rollout, results: Document, *, fence: int) -> bool:
        """Keeps what it shows."""
        parameters = {"id": rollout.rollout_id, "generation": rollout.generation, "results": json.dumps(results)}
        async with transaction(self._engine) as connection:
            if not await holds(connection, ROLLOUTS_LEASE, fence):
                return False
            return (await connection.execute(_NOTE, parameters)).scalar_one_or_none() is not None


def _go_on(as_read: bool, *, else_: Mismatch) -> None:
    if not as_read:
        raise _NothingStoredError(else_)


async def _write(connection: AsyncConnection, rollout: Rollout, *, generation: int) -> Rollout:
    parameters = {
        "id": rollout.rollout_id,
        "created_at": rollout.created_at,
        "updated_at": rollout.updated_at,
        "ended_at": rollout.ended_at,
        "model": rollout.model_name,
        "name": rollout.name,
        "kind": rollout.kind.value,
        "status": rollout.status,
        "document": json.dumps(rollout.document),
        "results": json.dumps(rollout.results),
        "created_by": rollout.created_by,
        "request_id": rollout.request_id or None,
        "request_digest": rollout.request_digest,
        "generation": generation,
    }
    statement = _UPDATE if generation else _INSERT
    row = (await connection.execute(statement, parameters)).mappings().one_or_none()
    if row is None:
        raise _NothingStoredError(Mismatch.ROLLOUT)
    return _rollout(row)


async def _show(connection: AsyncConnection, rollout: Rollout, *, new: bool, changed: bool) -> None:
    shown_status = "paused" if rollout.status == PAUSED else "active" if rollout.running else "completed"
    criteria = rollout.document.get("success_criteria")
    parameters = {
        "model": rollout.model_name,
        "name": rollout.name,
        "kind": rollout.kind.value,
        "created_at": rollout.created_at,
        "updated_at": rollout.updated_at,
        "ended_at": rollout.ended_at,
        "shown_status": shown_status,
        "criteria": json.dumps(criteria) if criteria is not None else None,
        "auto_promote": rollout.document.get("auto_promote") is True,
        "created_by": rollout.created_by,
        "changed": changed and rollout.running,
    }
    await connection.execute(_SHOW if new else _SHOW_AGAIN, parameters)


def _rollout(row: RowMapping) -> Rollout:
    return Rollout(
        rollout_id=str(row["id"]),
        model_name=row["model_id"],
        name=row["name"],
        kind=RolloutKind(row["kind"]),
        status=row["status"],
        document=row["document"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        ended_at=row["ended_at"],
        created_by=row["created_by"],
        request_id=row["request_id"] or "",
        request_digest=row["request_digest"],
        generation=row["generation"],
        number=row["number"],
        results=row["results"],
    )
