"""How requests add up: one cell per model, version, deployment and minute, all of it integers.

Cells of any two sets of requests add up to the cell of both, in any order; that is what lets chunks, flushes, batchers
and minutes be merged freely. Requests are counted by the second first: minutes are made of seconds, and windows that
begin in the middle of a minute need them (`seconds.py`).
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from services.monitor.domain.measures import (
    BY_CLASS,
    BY_CONFIDENCE,
    ERRORS,
    LATENCY_SUM,
    PREDICTIONS,
    REQUESTS,
    SHADOWS,
    SHADOWS_COMPARED,
    SHADOWS_DISAGREED,
    SHADOWS_FAILED,
    SHADOWS_UNSENT,
    Measure,
    ReasonName,
    measure,
)
from services.monitor.domain.records import CALLER_KINDS, Group, Kind, bounded_classes
from services.monitor.domain.sketch import CountedLatencies, LatencySketch, count_latencies

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
MINUTE_S = 60
LATE_MAX_US = 24 * 3600 * SECOND_US
"""Requests older than this are counted as if they were this old: their partition may be gone."""
EARLY_MAX_US = 5 * MINUTE_US
"""Requests from further in the future than this, by a clock that is wrong, are counted as if from this far."""


@dataclass(frozen=True, order=True, slots=True)
class CellKey:
    """What a cell counts. `minute` is in minutes since the Unix epoch."""

    minute: int
    model: str
    version: str
    deployment: str


@dataclass
class Tally:
    """What some requests of one second add up to."""

    counts: Counter[Measure] = field(default_factory=Counter)
    latencies: CountedLatencies | None = None


@dataclass
class Cell:
    """The sums of some requests. Latencies are those of successful requests of callers."""

    counts: Counter[Measure] = field(default_factory=Counter)
    latency: LatencySketch = field(default_factory=LatencySketch)

    def add(self, tally: Tally) -> None:
        """Adds what was just counted."""
        self.counts.update(tally.counts)
        if tally.latencies is not None:
            self.latency.add_counted(tally.latencies)

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
        for second, tally in tallies(group, now_us=now_us, reason_name=reason_name):
            self.add_tally(group, second, tally)

    def add_tally(self, group: Group, second: int, tally: Tally) -> None:
        """Counts what a second of a group adds up to."""
        self[CellKey(second // MINUTE_S, group.model, group.version, group.deployment)].add(tally)

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


def clipped_times_us(group: Group, now_us: int) -> npt.NDArray[np.int64]:
    """When each request counts as answered: as the batcher says, within reason."""
    return np.clip(group.times_us, now_us - LATE_MAX_US, now_us + EARLY_MAX_US)


def tallies(group: Group, *, now_us: int, reason_name: ReasonName) -> Iterator[tuple[int, Tally]]:
    """What a group's requests add up to, by the second since the Unix epoch in which they were answered."""
    seconds = clipped_times_us(group, now_us) // SECOND_US
    found = np.unique(seconds)
    last = int(found[-1]) if len(found) else now_us // SECOND_US
    for second in found[:-1]:
        yield int(second), _requests(group, seconds == second, reason_name)
    final = _requests(group, seconds == last, reason_name) if len(found) else Tally()
    # Predictions and comparisons come summed up over the group's few hundred milliseconds: they belong to its end.
    _add_predictions(final.counts, group)
    _add_comparisons(final.counts, group)
    yield last, final


def _requests(group: Group, here: npt.NDArray[np.bool_], reason_name: ReasonName) -> Tally:
    callers = here & np.isin(group.kinds, CALLER_KINDS)
    succeeded = callers & (group.codes == 0)
    tally = Tally()
    _add(tally.counts, REQUESTS, int(callers.sum()))
    _add(tally.counts, PREDICTIONS, int(group.rows[succeeded].sum()))
    _add(tally.counts, SHADOWS, int((here & (group.kinds == Kind.SHADOW)).sum()))
    latencies_us = group.latencies_us[succeeded]
    if len(latencies_us):
        tally.latencies = count_latencies(latencies_us)
        _add(tally.counts, LATENCY_SUM, tally.latencies.sum_us)
    failed = group.reasons[callers & ~succeeded]
    if len(failed):
        reasons, counts = np.unique(failed, return_counts=True)
        for reason, count in zip(reasons.tolist(), counts.tolist(), strict=True):
            _add(tally.counts, (ERRORS, reason_name(reason)), count)
    return tally


def _add_predictions(counts: Counter[Measure], group: Group) -> None:
    for name, counted in ((BY_CLASS, bounded_classes(group.by_class)), (BY_CONFIDENCE, group.by_confidence)):
        for value, count in counted.items():
            _add(counts, (name, value), count)


def _add_comparisons(counts: Counter[Measure], group: Group) -> None:
    for compared in group.comparisons:
        primary = compared.primary_version
        _add(counts, measure(SHADOWS_COMPARED, primary), compared.compared_count)
        _add(counts, measure(SHADOWS_DISAGREED, primary), compared.disagreed_count)
        _add(counts, measure(SHADOWS_UNSENT, primary), compared.dropped_count)
        for reason, count in compared.failed_by_reason.items():
            _add(counts, measure(SHADOWS_FAILED, primary, reason), count)


def _add(counts: Counter[Measure], counted: Measure, count: int) -> None:
    if count:
        counts[counted] += count
