"""Traffic rules and their history in PostgreSQL."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import RowMapping, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.router.adapters.postgres import transaction
from services.router.domain.places import Runs
from services.router.domain.routing import Share
from services.router.domain.rules import Change, NewChange, Rule, Split, Strategy, etag_of

_EVERY = text("SELECT * FROM traffic_rules WHERE rule_name = 'split' ORDER BY model_id")
_FIND = text("SELECT * FROM traffic_rules WHERE model_id = :model AND rule_name = 'split'")
_INSERT = text("""
    INSERT INTO traffic_rules
        (model_id, deployment_id, rule_name, rule_type, version_weights, version_order, places, routing_strategy,
         sticky_key_header, created_by, updated_by, reason, governing_rule, log_labels)
    VALUES
        (:model, :deployment, 'split', 'split', CAST(:weights AS jsonb), CAST(:order AS jsonb), CAST(:places AS jsonb),
         :strategy, :sticky_header, :actor, :actor, :reason, :governing, :log_labels)
    ON CONFLICT (model_id, rule_name) DO NOTHING
    RETURNING *
""")
_UPDATE = text("""
    UPDATE traffic_rules SET
        deployment_id = :deployment, version_weights = CAST(:weights AS jsonb), version_order = CAST(:order AS jsonb),
        places = CAST(:places AS jsonb), routing_strategy = :strategy, sticky_key_header = :sticky_header,
        updated_by = :actor, reason = :reason, governing_rule = :governing, log_labels = :log_labels,
        generation = generation + 1, updated_at = now()
    WHERE model_id = :model AND rule_name = 'split' AND generation = :generation
    RETURNING *
""")
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
_DIGEST = text("SELECT request_digest FROM traffic_changes WHERE request_id = :request_id")


class PostgresRuleStore:
    """A `RuleStore`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def every(self) -> Sequence[Rule]:
        """All rules."""
        async with transaction(self._engine) as connection:
            return [_rule(row) for row in (await connection.execute(_EVERY)).mappings()]

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
    return _rule(row)


def _parameters(change: NewChange) -> dict[str, object]:
    return {
        "model": change.model_name,
        "deployment": change.deployment_name,
        "weights": json.dumps(dict(change.after.positive)),
        "order": json.dumps(list(change.after.weights)),
        "places": json.dumps(_runs_to_json(change.after.runs)),
        "strategy": change.after.strategy.value,
        "sticky_header": change.after.sticky_header,
        "actor": change.actor,
        "reason": change.reason,
        "action": change.action,
        "before": json.dumps(_split_to_json(change.before)),
        "after": json.dumps(_split_to_json(change.after)),
        "request_id": change.request_id or None,
        "digest": change.request_digest,
        "governing": change.governing,
        "log_labels": change.log_labels,
    }


def _rule(row: RowMapping) -> Rule:
    return Rule(
        rule_id=str(row["id"]),
        model_name=row["model_id"],
        deployment_name=row["deployment_id"],
        split=Split(
            _in_order(row["version_weights"], row["version_order"]),
            Strategy(row["routing_strategy"]),
            row["sticky_key_header"],
            _runs_from_json(row["places"]),
        ),
        generation=row["generation"],
        created_by=row["created_by"],
        created_at=row["created_at"],
        updated_by=row["updated_by"],
        updated_at=row["updated_at"],
        reason=row["reason"],
        governing=row["governing_rule"],
        log_labels=row["log_labels"],
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
        before=_split_from_json(row["before"]),
        after=_split_from_json(row["after"]),
        etag=etag_of(row["generation"]),
    )


def _split_to_json(split: Split) -> dict[str, object]:
    return {
        "version_weights": dict(split.positive),
        "version_order": list(split.weights),
        "places": _runs_to_json(split.runs),
        "routing_strategy": split.strategy.value,
        "sticky_key_header": split.sticky_header,
    }


def _split_from_json(value: Mapping[str, Any]) -> Split:
    return Split(
        weights=_in_order(value["version_weights"], value["version_order"]),
        strategy=Strategy(value["routing_strategy"]),
        sticky_header=value["sticky_key_header"],
        # Changes from before places were kept have none: theirs are those of the order.
        runs=_runs_from_json(value.get("places", ())),
    )


def _in_order(weights: Mapping[str, int], order: Sequence[str]) -> Mapping[str, int]:
    """PostgreSQL orders the keys of an object as it likes."""
    return {version: weights.get(version, 0) for version in order}


def _runs_to_json(runs: Runs) -> list[list[object]]:
    return [[run.version, run.percent] for run in runs]


def _runs_from_json(value: Sequence[Sequence[Any]]) -> Runs:
    return tuple(Share(version, percent) for version, percent in value)
