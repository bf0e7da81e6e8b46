"""Requests that outcomes are joined to, in PostgreSQL."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.monitor.adapters.postgres_seconds import copy_rows
from services.monitor.domain.labels import Prediction
from services.monitor.domain.records import Labels

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_COPY = 'COPY prediction_labels (request_id, model_id, version_id, "timestamp", classes, numbers) FROM STDIN'
# Of an id that was used twice, the prediction that came first.
_UNDER_TEST = text("""
    SELECT DISTINCT ON (request_id) request_id, model_id, version_id, "timestamp", classes, numbers
    FROM prediction_labels WHERE request_id = ANY(CAST(:ids AS text[]))
    ORDER BY request_id, "timestamp"
""")
_SAMPLED = text("""
    SELECT DISTINCT ON (request_id) request_id, model_id, version_id, "timestamp"
    FROM inference_logs
    WHERE request_id = ANY(CAST(:ids AS text[])) AND version_id <> ''
      AND coalesce(metadata->>'kind', 'batch_job') = 'batch_job'
    ORDER BY request_id, "timestamp"
""")


async def add_predictions(connection: AsyncConnection, predictions: Sequence[Prediction]) -> None:
    """Writes requests of versions under test."""
    await copy_rows(
        connection,
        _COPY,
        (
            (
                prediction.request_id,
                prediction.model,
                prediction.version,
                _EPOCH + timedelta(microseconds=prediction.time_us),
                list(prediction.labels.classes) or None,
                list(prediction.labels.numbers) or None,
            )
            for prediction in predictions
        ),
    )


async def find_predictions(connection: AsyncConnection, request_ids: Sequence[str]) -> Mapping[str, Prediction]:
    """The callers' requests of these ids that are known, by id."""
    found = {
        request_id: Prediction(request_id, model, version, _us(moment), Labels(classes or (), numbers or ()))
        for request_id, model, version, moment, classes, numbers in await connection.execute(
            _UNDER_TEST, {"ids": list(request_ids)}
        )
    }
    if missing := [request_id for request_id in request_ids if request_id not in found]:
        for request_id, model, version, moment in await connection.execute(_SAMPLED, {"ids": missing}):
            found[request_id] = Prediction(request_id, model, version, _us(moment))
    return found


def _us(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)
