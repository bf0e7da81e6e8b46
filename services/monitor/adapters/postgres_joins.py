"""Joins predictions to outcomes that were reported before them, in PostgreSQL.

Whichever of the two is stored second finds the first: both are stored under the joining lock, so neither can miss the
other by not seeing an unfinished transaction.
"""

import json
from collections.abc import Callable, Iterable, Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.monitor.adapters.postgres_outcome_sums import add_outcomes, lock_joining
from services.monitor.domain.labels import Prediction
from services.monitor.domain.outcomes import (
    Outcome,
    OutcomeKey,
    Reporter,
    deltas,
    predicted_of,
    truth_of,
    values_of,
)

_ANY_WAITS = text("SELECT EXISTS (SELECT FROM outcomes WHERE predicted_at IS NULL)")
_WAITING = text("""
    SELECT request_id, instance_index, ground_truth, metrics, observed_at, team, key_models
    FROM outcomes WHERE predicted_at IS NULL AND request_id = ANY(CAST(:ids AS text[]))
    ORDER BY request_id, instance_index, team
""")
_JOIN = text("""
    UPDATE outcomes SET model_id = joined.model, version_id = joined.version, predicted_at = joined.moment,
                        predicted_class = joined.label, predicted_number = joined.number,
                        counted = joined.counted::jsonb
    FROM unnest(CAST(:ids AS text[]), CAST(:instances AS int[]), CAST(:models AS text[]), CAST(:versions AS text[]),
                CAST(:moments AS timestamptz[]), CAST(:labels AS text[]), CAST(:numbers AS float8[]),
                CAST(:counted AS text[]), CAST(:teams AS text[]))
        AS joined (request_id, instance, model, version, moment, label, number, counted, team)
    WHERE outcomes.request_id = joined.request_id AND instance_index = joined.instance AND outcomes.team = joined.team
""")

MayJoin = Callable[[Reporter, str], bool]
"""Whether whoever reported an outcome sees that model."""


async def join_arrivals(
    connection: AsyncConnection, predictions: Iterable[Prediction], may_join: MayJoin = lambda _reporter, _model: True
) -> None:
    """Joins outcomes that waited for these predictions, where their reporter sees the model, and adds them to the sums.
    The predictions are written in the same transaction, which takes the joining lock here and keeps it to its end.
    Where no outcome waits, no more than the first of them is looked at.
    """
    first, rest = next(iterator := iter(predictions), None), iterator
    if first is None:
        return
    await lock_joining(connection)
    if not (await connection.execute(_ANY_WAITS)).scalar():
        return
    by_id: dict[str, Prediction] = {}
    for prediction in (first, *rest):
        known = by_id.setdefault(prediction.request_id, prediction)
        if known is not prediction and prediction.rank < known.rank:
            by_id[prediction.request_id] = prediction
    joined = []
    for request_id, instance, truth, metrics, observed_at, team, models in await connection.execute(
        _WAITING, {"ids": list(by_id)}
    ):
        reporter = Reporter(team, frozenset(models) if models is not None else None)
        if not may_join(reporter, by_id[request_id].model):
            continue
        outcome = Outcome(OutcomeKey(request_id, instance), truth_of(truth), metrics, observed_at, reporter=reporter)
        joined.append(outcome.joined(predicted_of(by_id[request_id], instance)))
    if joined:
        await _store(connection, joined)


async def _store(connection: AsyncConnection, joined: Sequence[Outcome]) -> None:
    found = [(outcome, outcome.predicted, values_of(outcome)) for outcome in joined if outcome.predicted is not None]
    await connection.execute(
        _JOIN,
        {
            "ids": [outcome.key.request_id for outcome, _, _ in found],
            "instances": [outcome.key.instance_index for outcome, _, _ in found],
            "models": [predicted.model for _, predicted, _ in found],
            "versions": [predicted.version for _, predicted, _ in found],
            "moments": [predicted.time for _, predicted, _ in found],
            "labels": [predicted.label for _, predicted, _ in found],
            "numbers": [predicted.number for _, predicted, _ in found],
            "counted": [json.dumps(values) for _, _, values in found],
            "teams": [outcome.reporter.team for outcome, _, _ in found],
        },
    )
    changes = [change for _, predicted, values in found for change in deltas(predicted, values, sign=1)]
    await add_outcomes(connection, changes)
