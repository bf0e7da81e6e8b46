"""Predictions that outcomes are joined to by request id: every one of a version under test, with what it predicted."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from services.monitor.domain.aggregate import clipped_times_us
from services.monitor.domain.records import CALLER_KINDS, NO_LABELS, Group, Labels


@dataclass(frozen=True, slots=True)
class Prediction:
    """A caller's request. Without labels where it failed, or where the version is not under test."""

    request_id: str
    model: str
    version: str
    time_us: int
    labels: Labels = NO_LABELS


def labelled(group: Group, *, now_us: int) -> Iterator[Prediction]:
    """The callers' requests of a group that carries labels; copies, retries and warm-ups have the same ids and are not
    what the caller got. Requests without an id can never be asked for.
    """
    if not group.labels or not group.request_ids:
        return
    times_us = clipped_times_us(group, now_us).tolist()
    for place in np.flatnonzero(np.isin(group.kinds, CALLER_KINDS)).tolist():
        if group.request_ids[place]:
            yield Prediction(group.request_ids[place], group.model, group.version, times_us[place], group.labels[place])
