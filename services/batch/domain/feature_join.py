"""Features of histories joined to blocks of a job's rows, as of each row's own moment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import orjson
import pyarrow as pa

from services.batch.domain.columns import Column, ids_of
from services.batch.domain.job import FeatureJoin
from services.batch.domain.moments import Ints, moments_of
from services.batch.domain.point_in_time import NOWHERE, Timeline
from services.batch.domain.rows import Bad, RowBlock
from services.common.errors import Reason, shown

_SECOND_US = 1_000_000


@dataclass(frozen=True)
class History:
    """What a source holds, in memory. `columns` are its features, each as long as the timeline."""

    join: FeatureJoin
    timeline: Timeline
    columns: Mapping[str, pa.Array]


def joined(block: RowBlock, histories: Sequence[History], *, event_time_column: str) -> RowBlock:
    """The block with a column for each feature. Rows without moment, entity, or value and default are bad."""
    bad: Bad = dict(block.bad)
    moments, wrong = moments_of(block.columns[event_time_column], event_time_column)
    for place, message in wrong.items():
        bad.setdefault(place, (Reason.SCHEMA_VIOLATION, message))
    columns: dict[str, Column] = dict(block.columns)
    for history in histories:
        columns |= _joined(block, history, moments, bad)
    return replace(block, columns=columns, bad=bad)


def _joined(block: RowBlock, history: History, moments: Ints, bad: Bad) -> Mapping[str, Column]:
    join = history.join
    ids = ids_of(block.columns[join.entity])
    for place, name in enumerate(ids):
        if name is None:
            bad.setdefault(place, (Reason.SCHEMA_VIOLATION, f"column {join.entity!r} is no text and no whole number"))
    columns: dict[str, Column] = {}
    found: dict[float, Ints] = {}
    for feature, column in history.columns.items():
        age_s = join.max_age_s.get(feature, 0.0)
        if age_s not in found:
            age_us = round(age_s * _SECOND_US) if age_s else None
            found[age_s] = history.timeline.places(ids, moments, age_max_us=age_us)
        columns[feature] = _values(column, found[age_s], feature, join=join, ids=ids, bad=bad)
    return columns


def _values(
    column: pa.Array, places: Ints, feature: str, *, join: FeatureJoin, ids: Sequence[str | None], bad: Bad
) -> Column:
    """The values at the places; where there is none, the default."""
    taken = column.take(pa.array(places, mask=places == NOWHERE))
    gaps = np.flatnonzero(taken.is_null().to_numpy(zero_copy_only=False)).tolist()
    if not gaps:
        return taken
    values = taken.to_pylist()
    if feature in join.defaults:
        default = join.defaults[feature]
        if pa.types.is_string(column.type) and not isinstance(default, str):
            # Cells of CSV are JSON where their feature is no text.
            default = orjson.dumps(default).decode()
        for place in gaps:
            values[place] = default
    elif feature not in join.optional:
        for place in gaps:
            why = f"{join.uri} has no {feature} of {join.entity}={shown(ids[place], length_max=60)} that holds then"
            bad.setdefault(place, (Reason.FEATURE_MISSING, why))
    try:
        return pa.array(values, type=column.type)
    except (pa.ArrowInvalid, pa.ArrowTypeError):  # a default of another type, such as 0.5 among whole numbers
        return values
