"""Predictions that outcomes are joined to by request id: every one of a version under test, with what it predicted."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from services.monitor.domain.aggregate import clipped_times_us
from services.monitor.domain.log_rows import LogRow
from services.monitor.domain.records import ANSWERED_KINDS, NO_LABELS, Group, Kind, Labels

_LOGGED_AS = ("", *(kind.name.lower() for kind in ANSWERED_KINDS if kind is not Kind.CALLER))
"""How the rows of requests whose answers callers got name their kind."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """A caller's request. Without labels where it failed, or where the version is not under test."""

    request_id: str
    model: str
    version: str
    time_us: int
    labels: Labels = NO_LABELS

    @property
    def rank(self) -> tuple[bool, int]:
        """Of several with one id, outcomes are of the lowest: of those with labels before those without, as the attempt
        that failed is without when the gateway's next one was answered; then of the first."""
        return (not (self.labels.classes or self.labels.numbers), self.time_us)


def labelled(group: Group, *, now_us: int) -> Iterator[Prediction]:
    """The requests of a group that carries labels whose answers callers got, retries included; copies and warm-ups have
    the same ids and are nobody's. Requests without an id can never be asked for.
    """
    if not group.labels or not group.request_ids:
        return
    times_us = clipped_times_us(group, now_us).tolist()
    for place in np.flatnonzero(np.isin(group.kinds, ANSWERED_KINDS)).tolist():
        if group.request_ids[place]:
            yield Prediction(group.request_ids[place], group.model, group.version, times_us[place], group.labels[place])


def joinable(predictions: Sequence[Prediction], rows: Sequence[LogRow]) -> Iterator[Prediction]:
    """All that outcomes may be joined to: every request under test, and of the others what is logged one by one."""
    yield from predictions
    known = {prediction.request_id for prediction in predictions}
    for row in rows:
        if (
            row.request_id
            and row.version
            and row.metadata.get("kind", "") in _LOGGED_AS
            and row.request_id not in known
        ):
            yield Prediction(row.request_id, row.model, row.version, row.time_us)
