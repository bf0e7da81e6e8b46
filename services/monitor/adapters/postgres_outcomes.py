"""Outcomes in PostgreSQL: each replaces what was reported before, and the sums follow."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.common.access.book import EVERYTHING, Sight
from services.monitor.adapters.database import transaction
from services.monitor.adapters.postgres_outcome_sums import add_outcomes, lock_joining
from services.monitor.adapters.postgres_predictions import find_predictions
from services.monitor.domain.outcomes import (
    Outcome,
    OutcomeDelta,
    OutcomeKey,
    Predicted,
    Reporter,
    deltas,
    predicted_of,
    truth_of,
    values_of,
)

_FORGOTTEN_A_ROUND = 10_000
_COLUMNS = """request_id, instance_index, ground_truth, metrics, observed_at, model_id, version_id, predicted_at,
              predicted_class, predicted_number"""
_KNOWN = text("""
    SELECT request_id, instance_index, model_id, version_id, predicted_at, predicted_class, predicted_number, counted
    FROM outcomes
    WHERE predicted_at IS NOT NULL AND team = :team AND (request_id, instance_index) IN
        (SELECT * FROM unnest(CAST(:ids AS text[]), CAST(:instances AS int[])))
""")
_STORE = text(f"""
    INSERT INTO outcomes ({_COLUMNS}, counted, reported_at, team, key_models)
    SELECT request_id, instance, truth::jsonb, metrics::jsonb, observed, model, version, predicted, label, number,
           counted::jsonb, :now, :team, CAST(:key_models AS text[])
    FROM unnest(CAST(:ids AS text[]), CAST(:instances AS int[]), CAST(:truths AS text[]), CAST(:metrics AS text[]),
                CAST(:observed AS timestamptz[]), CAST(:models AS text[]), CAST(:versions AS text[]),
                CAST(:moments AS timestamptz[]), CAST(:labels AS text[]), CAST(:numbers AS float8[]),
                CAST(:counted AS text[]))
        AS reported (request_id, instance, truth, metrics, observed, model, version, predicted, label, number, counted)
    ON CONFLICT (request_id, instance_index, team) DO UPDATE SET
        key_models = excluded.key_models,
        ground_truth = excluded.ground_truth, metrics = excluded.metrics, observed_at = excluded.observed_at,
        reported_at = excluded.reported_at, model_id = excluded.model_id, version_id = excluded.version_id,
        predicted_at = excluded.predicted_at, predicted_class = excluded.predicted_class,
        predicted_number = excluded.predicted_number, counted = excluded.counted
""")  # noqa: S608 - names out of this file
# Where several teams reported, the caller's own goes first.
_FIND = text(f"""
    SELECT DISTINCT ON (instance_index) {_COLUMNS} FROM outcomes
    WHERE request_id = :request_id AND instance_index > :after
      AND (:everything OR model_id = ANY(CAST(:models AS text[])) OR (model_id IS NULL AND team = :team))
    ORDER BY instance_index, team <> :team, team LIMIT :limit
""")  # noqa: S608 - names out of this file
_FORGET = text("""
    DELETE FROM outcomes WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM outcomes WHERE reported_at < :before LIMIT :limit))
""")
_FORGET_SUMS = text("DELETE FROM outcome_sums WHERE granularity IN ('minute', 'hour') AND \"timestamp\" < :before")


@dataclass(frozen=True)
class _Known:
    predicted: Predicted
    counted: Mapping[str, float]


class PostgresOutcomeStore:
    """An `OutcomeStore`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def report(
        self, outcomes: Sequence[Outcome], *, now: datetime, sight: Sight = EVERYTHING
    ) -> Sequence[Outcome]:
        """Takes outcomes, all of one reporter; the last one of a prediction counts."""
        reporter = outcomes[0].reporter
        latest = {outcome.key: outcome for outcome in outcomes}
        async with transaction(self._engine) as connection:
            await lock_joining(connection)
            known = await _known(connection, list(latest), reporter.team)
            ids = {key.request_id for key in latest if key not in known}
            found = await find_predictions(connection, sorted(ids)) if ids else {}
            changes: list[OutcomeDelta] = []
            for key, outcome in latest.items():
                before, arrived = known.get(key), found.get(key.request_id)
                if before is not None:
                    changes += deltas(before.predicted, before.counted, sign=-1)
                predicted = before.predicted if before is not None else None
                if predicted is None and arrived is not None:
                    predicted = predicted_of(arrived, key.instance_index)
                if predicted is not None and sight.shows(predicted.model):
                    latest[key] = outcome.joined(predicted)
                    changes += deltas(predicted, values_of(latest[key]), sign=1)
            await connection.execute(_STORE, _values(list(latest.values()), now, reporter))
            await add_outcomes(connection, changes)
        return [latest[outcome.key] for outcome in outcomes]

    async def find(self, request_id: str, *, after: int, limit: int, sight: Sight = EVERYTHING) -> Sequence[Outcome]:
        """The outcomes of a request."""
        asked = {
            "request_id": request_id,
            "after": after,
            "limit": limit,
            "everything": sight.everything,
            "models": sorted(sight.names),
            "team": sight.team,
        }
        async with transaction(self._engine) as connection:
            return [_outcome(*row) for row in await connection.execute(_FIND, asked)]

    async def forget(self, *, before: datetime) -> None:
        """Removes old outcomes, some thousands in a transaction, and sums of equally old predictions."""
        while True:
            async with transaction(self._engine) as connection:
                removed = await connection.execute(_FORGET, {"before": before, "limit": _FORGOTTEN_A_ROUND})
            if removed.rowcount < _FORGOTTEN_A_ROUND:
                break
        async with transaction(self._engine) as connection:
            await lock_joining(connection)
            await connection.execute(_FORGET_SUMS, {"before": before})


async def _known(connection: AsyncConnection, keys: Sequence[OutcomeKey], team: str) -> dict[OutcomeKey, _Known]:
    """What the team reported before of predictions that are known."""
    asked = {"ids": [key.request_id for key in keys], "instances": [key.instance_index for key in keys], "team": team}
    return {
        OutcomeKey(request_id, instance): _Known(Predicted(model, version, moment, label, number), counted)
        for request_id, instance, model, version, moment, label, number, counted in await connection.execute(
            _KNOWN, asked
        )
    }


def _values(outcomes: Sequence[Outcome], now: datetime, reporter: Reporter) -> dict[str, object]:
    predicted = [outcome.predicted for outcome in outcomes]
    return {
        "now": now,
        "team": reporter.team,
        "key_models": sorted(reporter.models) if reporter.models is not None else None,
        "ids": [outcome.key.request_id for outcome in outcomes],
        "instances": [outcome.key.instance_index for outcome in outcomes],
        "truths": [None if outcome.truth is None else json.dumps(outcome.truth) for outcome in outcomes],
        "metrics": [json.dumps(dict(outcome.metrics)) for outcome in outcomes],
        "observed": [outcome.observed_at for outcome in outcomes],
        "models": [found.model if found else None for found in predicted],
        "versions": [found.version if found else None for found in predicted],
        "moments": [found.time if found else None for found in predicted],
        "labels": [found.label if found else None for found in predicted],
        "numbers": [found.number if found else None for found in predicted],
        "counted": [json.dumps(values_of(outcome)) for outcome in outcomes],
    }


def _outcome(  # noqa: PLR0917 - a row
    request_id: str,
    instance: int,
    truth: str | float | bool | None,
    metrics: Mapping[str, float],
    observed_at: datetime,
    model: str | None,
    version: str | None,
    predicted_at: datetime | None,
    label: str | None,
    number: float | None,
) -> Outcome:
    outcome = Outcome(OutcomeKey(request_id, instance), truth_of(truth), metrics, observed_at)
    if model is None or version is None or predicted_at is None:
        return outcome
    return outcome.joined(Predicted(model, version, predicted_at, label, number))
