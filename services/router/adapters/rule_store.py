"""Traffic rules and their history in PostgreSQL."""

import json
from collections.abc import Mapping, Sequence

from sqlalchemy import RowMapping, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.common.telemetry.logging import get_logger
from services.router.adapters.postgres import transaction
from services.router.adapters.split_json import conditions_from_json, split_from_json, split_to_json
from services.router.domain.places import PLACES
from services.router.domain.rules import Change, ChangeMark, NewChange, Rule, ShownRule, etag_of

log = get_logger(__name__)

_GENERATIONS = text("SELECT model_id, generation FROM traffic_rules WHERE rule_name = 'split'")
_SOME = text("SELECT * FROM traffic_rules WHERE rule_name = 'split' AND model_id = ANY(:models) ORDER BY model_id")
_FIND = text("SELECT * FROM traffic_rules WHERE model_id = :model AND rule_name = 'split'")
_INSERT = text("""
    INSERT INTO traffic_rules
        (model_id, deployment_id, rule_name, rule_type, version_weights, version_order, places, routing_strategy,
         sticky_key_header, conditions, shadows, created_by, updated_by, reason, governing_rule, log_labels)
    VALUES
        (:model, :deployment, 'split', 'split', CAST(:version_weights AS jsonb), CAST(:version_order AS jsonb),
         CAST(:places AS jsonb), :routing_strategy, :sticky_key_header, CAST(:conditions AS jsonb),
         CAST(:shadows AS jsonb), :actor, :actor, :reason, :governing, :log_labels)
    ON CONFLICT (model_id, rule_name) DO NOTHING
    RETURNING *
""")
_UPDATE = text("""
    UPDATE traffic_rules SET
        deployment_id = :deployment, version_weights = CAST(:version_weights AS jsonb),
        version_order = CAST(:version_order AS jsonb), places = CAST(:places AS jsonb),
        routing_strategy = :routing_strategy, sticky_key_header = :sticky_key_header,
        conditions = CAST(:conditions AS jsonb), shadows = CAST(:shadows AS jsonb),
        updated_by = :actor, reason = :reason, governing_rule = :governing, log_labels = :log_labels,
        generation = generation + 1, updated_at = now()
    WHERE model_id = :model AND rule_name = 'split' AND generation = :generation
    RETURNING *
""")
# Shadows are part of the rule; who reads the table finds them in a row of their own as well.
_SHOW_SHADOWS = text("""
    INSERT INTO traffic_rules
        (model_id, deployment_id, rule_name, rule_type, version_weights, version_order, routing_strategy, created_by,
         updated_by, reason)
    VALUES
        (:model, :deployment, 'shadow', 'shadow', CAST(:shadow_weights AS jsonb), CAST(:shadow_order AS jsonb),
         'random', :actor, :actor, :reason)
    ON CONFLICT (model_id, rule_name) DO UPDATE SET
        deployment_id = excluded.deployment_id, version_weights = excluded.version_weights,
        version_order = excluded.version_order, updated_by = excluded.updated_by, reason = excluded.reason,
        generation = traffic_rules.generation + 1, updated_at = now(), status = 'active', end_time = NULL,
        start_time = CASE WHEN traffic_rules.status = 'active' THEN traffic_rules.start_time ELSE now() END
    WHERE traffic_rules.rule_type = 'shadow' AND (
        traffic_rules.status <> 'active' OR traffic_rules.version_weights <> excluded.version_weights)
""")
_END_SHADOWS = text("""
    UPDATE traffic_rules SET
        status = 'completed', end_time = now(), updated_by = :actor, reason = :reason, generation = generation + 1,
        updated_at = now()
    WHERE model_id = :model AND rule_name = 'shadow' AND rule_type = 'shadow' AND status = 'active'
""")
_SHOWN = text("""
    SELECT * FROM traffic_rules WHERE model_id = :model AND rule_name > :after ORDER BY rule_name LIMIT :limit
""")
_SHOWN_ONE = text("SELECT * FROM traffic_rules WHERE model_id = :model AND rule_name = :name")
_RECORD = text("""
    INSERT INTO traffic_changes
        (model_id, deployment_id, action, actor, reason, before, after, generation, request_id, request_digest)
    VALUES
        (:model, :deployment, :action, :actor, :reason, CAST(:before AS jsonb), CAST(:after AS jsonb), :new_generation,
         :request_id, :digest)
""")
_CHANGES = text("""
    SELECT * FROM traffic_changes
    WHERE model_id = :model AND (CAST(:before AS bigint) IS NULL OR id < CAST(:before AS bigint))
    ORDER BY id DESC
    LIMIT :limit
""")
_MARKS = text("SELECT id, model_id, generation FROM traffic_changes WHERE id > :after ORDER BY id DESC LIMIT :limit")
_DIGEST = text("SELECT request_digest FROM traffic_changes WHERE request_id = :request_id")


class PostgresRuleStore:
    """A `RuleStore`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def generations(self) -> Mapping[str, int]:
        """Of every rule, by model."""
        async with transaction(self._engine) as connection:
            rows = (await connection.execute(_GENERATIONS)).mappings()
            return {row["model_id"]: row["generation"] for row in rows}

    async def marks(self, *, after: int, limit: int) -> Sequence[ChangeMark]:
        """The newest changes of all models."""
        async with transaction(self._engine) as connection:
            rows = (await connection.execute(_MARKS, {"after": after, "limit": limit})).all()
        return [ChangeMark(row.id, row.model_id, row.generation) for row in rows]

    async def some(self, model_names: Sequence[str]) -> Sequence[Rule]:
        """The rules of these models."""
        async with transaction(self._engine) as connection:
            rows = (await connection.execute(_SOME, {"models": list(model_names)})).mappings().all()
        return [rule for row in rows if (rule := _readable(row)) is not None]

    async def find(self, model_name: str) -> Rule | None:
        """The rule of a model."""
        async with transaction(self._engine) as connection:
            row = (await connection.execute(_FIND, {"model": model_name})).mappings().one_or_none()
        return _rule(row) if row is not None else None

    async def save(self, change: NewChange, *, generation: int) -> Rule | None:
        """Stores the rule and the change, both or neither."""
        try:
            async with transaction(self._engine) as connection:
                return await write_change(connection, change, generation=generation)
        except IntegrityError:
            # The request id was taken, by the same call made twice at once.
            return None

    async def shown(self, model_name: str, *, after: str, limit: int) -> Sequence[ShownRule]:
        """All rules of a model, by name."""
        parameters = {"model": model_name, "after": after, "limit": limit}
        async with transaction(self._engine) as connection:
            return [_shown(row) for row in (await connection.execute(_SHOWN, parameters)).mappings()]

    async def shown_one(self, model_name: str, rule_name: str) -> ShownRule | None:
        """One of them."""
        parameters = {"model": model_name, "name": rule_name}
        async with transaction(self._engine) as connection:
            row = (await connection.execute(_SHOWN_ONE, parameters)).mappings().one_or_none()
        return _shown(row) if row is not None else None

    async def digest_of(self, request_id: str) -> str | None:
        """The digest of the change that was made under this id."""
        async with transaction(self._engine) as connection:
            return (await connection.execute(_DIGEST, {"request_id": request_id})).scalar_one_or_none()

    async def changes(self, model_name: str, *, before: int | None, limit: int) -> Sequence[Change]:
        """At most `limit` changes, newest first."""
        parameters = {"model": model_name, "before": before, "limit": limit}
        async with transaction(self._engine) as connection:
            return [_change(row) for row in (await connection.execute(_CHANGES, parameters)).mappings()]


async def write_change(connection: AsyncConnection, change: NewChange, *, generation: int) -> Rule | None:
    """Writes the rule and the change within the caller's transaction. None, and nothing is written, where `generation`
    is not that of the rule; IntegrityError where the request id was taken."""
    parameters = {**_parameters(change), "generation": generation, "new_generation": generation + 1}
    statement = _UPDATE if generation else _INSERT
    row = (await connection.execute(statement, parameters)).mappings().one_or_none()
    if row is None:
        return None
    await connection.execute(_RECORD, parameters)
    await connection.execute(_SHOW_SHADOWS if change.after.shadows else _END_SHADOWS, parameters)
    return _rule(row)


def _parameters(change: NewChange) -> dict[str, object]:
    after = split_to_json(change.after)
    return {
        **{name: value if isinstance(value, str) else json.dumps(value) for name, value in after.items()},
        "model": change.model_name,
        "deployment": change.deployment_name,
        "shadow_weights": json.dumps({shadow.version: shadow.percent for shadow in change.after.shadows}),
        "shadow_order": json.dumps([shadow.version for shadow in change.after.shadows]),
        "actor": change.actor,
        "reason": change.reason,
        "action": change.action,
        "before": json.dumps(split_to_json(change.before)),
        "after": json.dumps(after),
        "request_id": change.request_id or None,
        "digest": change.request_digest,
        "governing": change.governing,
        "log_labels": change.log_labels,
    }


def _readable(row: RowMapping) -> Rule | None:
    """The rule, unless it is none that a router writes: what is wrong with one model must not keep the rules of all
    others from being read."""
    try:
        return _rule(row)
    except (ValueError, KeyError, TypeError):
        log.exception(
            "a row of traffic_rules cannot be read; the model's traffic stays as it is, mend or delete the row",
            model=row["model_id"],
        )
        return None


def _rule(row: RowMapping) -> Rule:
    split = split_from_json(dict(row))
    if sum(split.weights.values()) != PLACES:
        raise ValueError(f"the weights of {row['model_id']!r} do not add up to {PLACES}")
    return Rule(
        rule_id=str(row["id"]),
        model_name=row["model_id"],
        deployment_name=row["deployment_id"],
        split=split,
        generation=row["generation"],
        created_by=row["created_by"],
        created_at=row["created_at"],
        updated_by=row["updated_by"],
        updated_at=row["updated_at"],
        reason=row["reason"],
        governing=row["governing_rule"],
        log_labels=row["log_labels"],
    )


def _shown(row: RowMapping) -> ShownRule:
    weights = row["version_weights"]
    return ShownRule(
        rule_id=str(row["id"]),
        model_name=row["model_id"],
        rule_name=row["rule_name"],
        rule_type=row["rule_type"],
        weights={version: weights[version] for version in row["version_order"] if weights.get(version)},
        strategy=row["routing_strategy"],
        sticky_header=row["sticky_key_header"],
        conditions=conditions_from_json(row["conditions"]),
        start_time=row["start_time"],
        end_time=row["end_time"],
        status=row["status"],
        success_criteria=json.dumps(row["success_criteria"]) if row["success_criteria"] else "",
        auto_promote=row["auto_promote"],
        created_by=row["created_by"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def _change(row: RowMapping) -> Change:
    return Change(
        change_id=row["id"],
        model_name=row["model_id"],
        deployment_name=row["deployment_id"],
        time=row["changed_at"],
        action=row["action"],
        actor=row["actor"],
        reason=row["reason"],
        before=split_from_json(row["before"]),
        after=split_from_json(row["after"]),
        etag=etag_of(row["generation"]),
    )
