"""What rollouts are judged by: windows that begin at a second, and what each version did in them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from services.common.errors import invalid
from services.monitor.domain.aggregate import Cell
from services.monitor.domain.faults import is_fault
from services.monitor.domain.measures import (
    BY_CLASS,
    BY_CONFIDENCE,
    ERRORS,
    REQUESTS,
    SHADOWS,
    SHADOWS_COMPARED,
    SHADOWS_DISAGREED,
)
from services.monitor.domain.sketch import LatencySketch
from services.monitor.domain.window import RETENTION_DAYS

VERSIONS_MAX = 16
HEAD_AGE_MAX = timedelta(minutes=10)
"""A watch that begins longer ago than this when it is first asked for begins at the next whole minute."""
SECONDS_KEPT = timedelta(minutes=15)
"""Sums by the second are kept this long, and longer where a watch begins among them."""
WATCH_KEPT = timedelta(days=7)
"""A watch that nobody asked for this long is forgotten."""
_MINUTE = timedelta(minutes=1)
_EARLIEST = timedelta(days=RETENTION_DAYS)
_AHEAD_MAX = timedelta(hours=1)


@dataclass(frozen=True, order=True, slots=True)
class WatchKey:
    """A window that someone watches: all of a model since a whole second."""

    model: str
    start: datetime


@dataclass(frozen=True, slots=True)
class MetricSum:
    """A sample in three numbers."""

    count: int = 0
    total: float = 0.0
    sum_of_squares: float = 0.0


@dataclass(frozen=True)
class Sums:
    """What is stored of a watch: since when, the cells and the outcomes by version, and what batchers dropped."""

    begins: datetime
    cells: Mapping[str, Cell] = field(default_factory=dict)
    outcomes: Mapping[str, Mapping[str, MetricSum]] = field(default_factory=dict)
    dropped: int = 0


@dataclass(frozen=True)
class VersionEvidence:
    """What one version did; shadow copies are in the `shadow_` counts alone."""

    version: str
    request_count: int
    fault_count: int
    errors_by_reason: Mapping[str, int]
    latency: LatencySketch
    by_class: Mapping[str, int]
    by_confidence: Mapping[str, int]
    outcomes: Mapping[str, MetricSum]
    shadow_count: int
    shadow_compared_count: int
    shadow_disagreement_count: int


@dataclass(frozen=True)
class Evidence:
    """The evidence on a model. All that was answered before `window_end` is in it, and some of what came later."""

    window_start: datetime
    window_end: datetime
    versions: Sequence[VersionEvidence]
    dropped: int


def minute_floor(moment: datetime) -> datetime:
    """The beginning of the minute that holds `moment`."""
    return moment.replace(second=0, microsecond=0)


def head_end(start: datetime) -> datetime:
    """Where the whole minutes of a window begin: what is before is counted by the second."""
    floor = minute_floor(start)
    return start if floor == start else floor + _MINUTE


def head_is_kept(start: datetime, now: datetime) -> bool:
    """Whether the seconds of the minute in which a window begins are surely still there."""
    return minute_floor(start) >= now - HEAD_AGE_MAX


def check_start(start: datetime | None, now: datetime) -> datetime:
    """The second from which on a watch adds up. Raises INVALID_FIELD where it is absent, too old or far ahead."""
    allowed = f"a moment of the last {RETENTION_DAYS} days: since when to add up"
    if start is None:
        raise invalid("start_time", "", allowed)
    if not now - _EARLIEST <= start <= now + _AHEAD_MAX:
        raise invalid("start_time", start.isoformat(), allowed)
    return start.replace(microsecond=0)


def version_evidence(version: str, sums: Sums) -> VersionEvidence:
    """What a version did according to `sums`; zeros where it did nothing."""
    cell = sums.cells.get(version, Cell())
    errors = _split(cell, ERRORS)
    return VersionEvidence(
        version=version,
        request_count=cell.counts[REQUESTS],
        fault_count=sum(count for reason, count in errors.items() if is_fault(reason)),
        errors_by_reason=errors,
        latency=cell.latency,
        by_class=_split(cell, BY_CLASS),
        by_confidence=_split(cell, BY_CONFIDENCE),
        outcomes={name: found for name, found in sums.outcomes.get(version, {}).items() if found.count},
        shadow_count=cell.counts[SHADOWS],
        shadow_compared_count=sum(_split(cell, SHADOWS_COMPARED).values()),
        shadow_disagreement_count=sum(_split(cell, SHADOWS_DISAGREED).values()),
    )


def _split(cell: Cell, name: str) -> dict[str, int]:
    return {value: count for (found, value), count in sorted(cell.counts.items()) if found == name}
