"""How requests add up: one cell per model, version, deployment and minute, all of it integers.

Cells of any two sets of requests add up to the cell of both, in any order; that is what lets chunks, flushes, batchers
and minutes be merged freely.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from services.monitor.domain.records import CALLER_KINDS, Group, Kind, bounded_classes
from services.monitor.domain.sketch import LatencySketch

MINUTE_US = 60_000_000
LATE_MAX_US = 24 * 3600 * 1_000_000
"""Requests older than this are counted as if they were this old: their partition may be gone."""
EARLY_MAX_US = 5 * MINUTE_US
"""Requests from further in the future than this, by a clock that is wrong, are counted as if from this far."""

Measure = tuple[str, str]
"""A count's name and its dimension's value; "" where the count has no dimension."""

REQUESTS: Measure = ("request_count", "")
PREDICTIONS: Measure = ("prediction_count", "")
SHADOWS: Measure = ("shadow_count", "")
LATENCY_SUM: Measure = ("latency_sum_us", "")
ERRORS = "error_count"
BY_CLASS = "predictions_by_class"
BY_CONFIDENCE = "predictions_by_confidence"

DIMENSIONS: Mapping[str, str] = {ERRORS: "reason", BY_CLASS: "class", BY_CONFIDENCE: "confidence"}
"""The dimension that a count is split by."""

ReasonName = Callable[[int], str]
"""The name of an ErrorReason's number."""


@dataclass(frozen=True, order=True, slots=True)
class CellKey:
    """What a cell counts. `minute` is in minutes since the Unix epoch."""

    minute: int
    model: str
    version: str
    deployment: str


@dataclass
class Cell:
    """The sums of some requests. Latencies are those of successful requests of callers."""

    counts: Counter[Measure] = field(default_factory=Counter)
    latency: LatencySketch = field(default_factory=LatencySketch)

    def merge(self, other: "Cell") -> None:
        """Adds all that `other` counted."""
        self.counts.update(other.counts)
        self.latency.merge(other.latency)


class Cells(dict[CellKey, Cell]):
    """Cells by key, made when they are first needed."""

    def __missing__(self, key: CellKey) -> Cell:
        cell = self[key] = Cell()
        return cell

    def add_group(self, group: Group, *, now_us: int, reason_name: ReasonName) -> None:
        """Counts a group's requests, each in its minute."""
        times_us = np.clip(group.times_us, now_us - LATE_MAX_US, now_us + EARLY_MAX_US)
        minutes = times_us // MINUTE_US
        for minute in np.unique(minutes):
            here = minutes == minute
            key = CellKey(int(minute), group.model, group.version, group.deployment)
            _count_requests(self[key], group, here, reason_name)
        # Predictions come summed up over the group's few hundred milliseconds: they belong to the minute it ends in.
        last = int(minutes.max()) if len(minutes) else now_us // MINUTE_US
        self._count_predictions(CellKey(last, group.model, group.version, group.deployment), group)

    def _count_predictions(self, key: CellKey, group: Group) -> None:
        for name, counted in ((BY_CLASS, bounded_classes(group.by_class)), (BY_CONFIDENCE, group.by_confidence)):
            for value, count in counted.items():
                if count:
                    self[key].counts[name, value] += count

    def merge(self, others: "Mapping[CellKey, Cell]") -> None:
        """Adds all that `others` counted."""
        for key, cell in others.items():
            self[key].merge(cell)


def merged(cells: Iterable[Cell]) -> Cell:
    """One cell with all that `cells` counted."""
    total = Cell()
    for cell in cells:
        total.merge(cell)
    return total


def _count_requests(cell: Cell, group: Group, here: npt.NDArray[np.bool_], reason_name: ReasonName) -> None:
    callers = here & np.isin(group.kinds, CALLER_KINDS)
    succeeded = callers & (group.codes == 0)
    _add(cell, REQUESTS, callers.sum())
    _add(cell, PREDICTIONS, group.rows[succeeded].sum())
    _add(cell, SHADOWS, (here & (group.kinds == Kind.SHADOW)).sum())
    latencies_us = group.latencies_us[succeeded]
    if len(latencies_us):
        cell.latency.add(latencies_us)
        _add(cell, LATENCY_SUM, latencies_us.sum())
    reasons, counts = np.unique(group.reasons[callers & ~succeeded], return_counts=True)
    for reason, count in zip(reasons, counts, strict=True):
        _add(cell, (ERRORS, reason_name(int(reason))), count)


def _add(cell: Cell, measure: Measure, count: np.integer) -> None:
    if count:
        cell.counts[measure] += int(count)
