"""Columns of moments as rows have them: Arrow arrays of any type, or Python values of JSON Lines."""

import math
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from services.batch.domain.columns import Column
from services.batch.domain.point_in_time import MOMENT_MAX_US
from services.common.errors import shown

Ints = npt.NDArray[np.int64]
_ALLOWED = "a timestamp, an ISO 8601 text, or Unix seconds"


def moments_of(column: Column, name: str) -> tuple[Ints, dict[int, str]]:
    """Microseconds since 1970 in UTC, where a text without a zone is; and by place what is wrong with values that are
    none, whose moment is 0."""
    if not isinstance(column, list):
        whole = _whole(column)
        if whole is not None:
            return whole, {}
    values = column if isinstance(column, list) else column.to_pylist()
    moments = np.zeros(len(values), dtype=np.int64)
    wrong: dict[int, str] = {}
    for place, value in enumerate(values):
        moment = _one(value)
        if moment is None:
            wrong[place] = f"column {name!r} is {shown(value)}; expected {_ALLOWED}"
        else:
            moments[place] = moment
    return moments, wrong


def _whole(column: pa.Array) -> Ints | None:
    """The column as a whole, where its type says what it is and nothing is missing."""
    kind = column.type
    if column.null_count or not (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
        return None
    try:
        # Without a zone the numbers are taken as they are, which is UTC.
        moments: Ints = column.cast(pa.timestamp("us")).cast(pa.int64()).to_numpy()
    except pa.ArrowInvalid:  # nanoseconds that are no whole microseconds
        moments = column.cast(pa.timestamp("ns")).cast(pa.int64()).to_numpy() // 1000
    return moments if len(moments) == 0 or int(np.abs(moments).max()) <= MOMENT_MAX_US else None


def _one(value: object) -> int | None:
    if isinstance(value, datetime):
        return _of_datetime(value)
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return _of_seconds(float(value))
    text = str(value).strip()
    try:
        return _of_seconds(float(text))
    except ValueError:
        pass
    try:
        return _of_datetime(datetime.fromisoformat(text))
    except ValueError:
        return None


def _of_seconds(seconds: float) -> int | None:
    if not math.isfinite(seconds) or abs(seconds) * 1_000_000 > MOMENT_MAX_US:
        return None
    return round(seconds * 1_000_000)


def _of_datetime(moment: datetime) -> int:
    since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
