"""Rows of two features and an output, as batchers sample them."""

from datetime import datetime

import numpy as np
from infermesh.monitor.v1 import prediction_log_pb2

from tests.support.monitor_log import group_message


def sampled_group(
    at: datetime,
    *,
    rows: int,
    seed: int,
    shift: float = 0.0,
    town: str = "",
    seen: int = 0,
    confidence: float = 0.9,
) -> prediction_log_pb2.PredictionGroup:
    """Requests of one row each: an age, moved by `shift`, a town, `town` where one is given, and a class."""
    chance = np.random.default_rng(seed)
    group = group_message([1000] * rows, at=at)
    ages, classes = chance.normal(size=rows) + shift, chance.integers(0, 2, rows)
    towns = [town or ("Bath", "York", "Hull")[one] for one in chance.integers(0, 3, rows)]
    group.sampled_rows.CopyFrom(
        prediction_log_pb2.SampledRows(
            seen_count=seen or rows,
            row_count=rows,
            time_us=int(at.timestamp() * 1e6),
            columns=[
                prediction_log_pb2.SampledColumn(feature="age", numbers=ages),
                prediction_log_pb2.SampledColumn(feature="town", categories=towns),
                prediction_log_pb2.SampledColumn(
                    feature="label", output=True, categories=[("no", "yes")[one] for one in classes]
                ),
            ],
            confidences=[confidence] * rows,
        )
    )
    return group
