"""Between protobuf and sampled rows."""

from collections.abc import Sized

import numpy as np
from infermesh.monitor.v1 import prediction_log_pb2

from services.common.errors import invalid
from services.monitor.domain.drift.rows import (
    CATEGORY_LENGTH_MAX,
    FEATURES_MAX,
    NAME_LENGTH_MAX,
    FeatureKey,
    Floats,
    Rows,
    SampledRows,
)

ROWS_MAX = 100_000
SEEN_MAX = 10**12
"""The database's integers are signed, and many samples add up."""


def sampled_from_proto(message: prediction_log_pb2.SampledRows) -> SampledRows:
    """The rows that a message states. Raises INVALID_FIELD where columns are not as long as it says."""
    count = message.row_count
    if count > ROWS_MAX:
        raise invalid("sampled_rows.row_count", count, f"at most {ROWS_MAX}")
    if len(message.confidences) not in (0, count):
        raise invalid("sampled_rows.confidences", f"{len(message.confidences)} values", f"none or {count}")
    numbers: dict[FeatureKey, Floats] = {}
    categories: dict[FeatureKey, list[str | None]] = {}
    for column in message.columns[:FEATURES_MAX]:
        key = FeatureKey(column.feature[:NAME_LENGTH_MAX].replace("\0", "\ufffd"), column.output)
        if column.categories:
            _check(column.categories, count, column.feature)
            names: list[str | None] = [name[:CATEGORY_LENGTH_MAX] for name in column.categories]
            for place in column.missing_rows:
                if place >= count:
                    raise invalid("sampled_rows.columns.missing_rows", place, f"0 to {count - 1}")
                names[place] = None
            categories[key] = names
        else:
            _check(column.numbers, count, column.feature)
            numbers[key] = np.array(column.numbers, dtype=np.float64)
    rows = Rows(
        count=count,
        numbers=numbers,
        categories=categories,
        seen=min(message.seen_count, SEEN_MAX),
        confidences=np.array(message.confidences, dtype=np.float64),
    )
    return SampledRows(rows, message.time_us)


def _check(values: Sized, count: int, name: str) -> None:
    if len(values) != count:
        raise invalid(f"sampled_rows.columns of {name[:80]!r}", f"{len(values)} values", f"{count}, as row_count says")
