"""Requests that outcomes are joined to, in PostgreSQL."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.monitor.adapters.copying import NULL, copy_text, field
from services.monitor.domain.labels import Prediction
from services.monitor.domain.records import Labels

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_COPY = 'COPY prediction_labels (request_id, model_id, version_id, "timestamp", classes, numbers) FROM STDIN'
_SPECIAL = re.compile(r'[\\"\t\n\r]')
_ARRAY_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"'})
# Of an id with several, as `Prediction.rank` says.
_UNDER_TEST = text("""
    SELECT DISTINCT ON (request_id) request_id, model_id, version_id, "timestamp", classes, numbers
    FROM prediction_labels WHERE request_id = ANY(CAST(:ids AS text[]))
    ORDER BY request_id, classes IS NULL AND numbers IS NULL, "timestamp"
""")
_SAMPLED = text("""
    SELECT DISTINCT ON (request_id) request_id, model_id, version_id, "timestamp"
    FROM inference_logs
    WHERE request_id = ANY(CAST(:ids AS text[])) AND version_id <> ''
      AND coalesce(metadata->>'kind', 'batch_job') IN ('batch_job', 'retry')
    ORDER BY request_id, "timestamp"
""")


async def add_predictions(connection: AsyncConnection, predictions: Sequence[Prediction]) -> None:
    """Writes requests of versions under test."""
    await copy_text(connection, _COPY, predictions, _rows)


def _rows(predictions: Sequence[Prediction]) -> str:
    moments = np.datetime_as_string(np.array([found.time_us for found in predictions], dtype="datetime64[us]"))
    return "".join(
        f"{field(found.request_id)}\t{found.model}\t{found.version}\t{moment}Z\t"
        f"{_classes(found.labels.classes)}\t{_numbers(found.labels.numbers)}\n"
        for found, moment in zip(predictions, moments, strict=True)
    )


def _classes(classes: Sequence[str]) -> str:
    if not classes:
        return NULL
    quoted = (name.translate(_ARRAY_ESCAPES) if _SPECIAL.search(name) else name for name in classes)
    return field('{"' + '","'.join(quoted) + '"}')


def _numbers(numbers: Sequence[float]) -> str:
    return "{" + ",".join(map(repr, numbers)) + "}" if numbers else NULL


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
