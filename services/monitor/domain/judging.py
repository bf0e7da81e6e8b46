"""Whether a rule's condition holds in the windows of one version, and with which value.

Burn rates are those of the Site Reliability Workbook (Beyer et al., O'Reilly 2018, chapter 5): the share of bad
requests over the share that the objective allows, in a long window, so that it matters, and in a short one, so that it
is still so.
"""

import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from services.monitor.domain.aggregate import Cell
from services.monitor.domain.evidence import MetricSum
from services.monitor.domain.faults import is_fault
from services.monitor.domain.figures import Usage
from services.monitor.domain.measures import BY_CONFIDENCE, ERRORS, REQUESTS
from services.monitor.domain.rules import (
    COUNTED_METRICS,
    ERROR_RATE,
    HOST_METRICS,
    LATENCIES,
    LOW_CONFIDENCE,
    REQUEST_COUNT,
    THROUGHPUT,
    TRAFFIC_METRICS,
    UNUSUAL_TRAFFIC,
    BurnRate,
    Condition,
    DriftAtLeast,
    Threshold,
)
from services.monitor.domain.sketch import middle_us

BURN_REQUESTS_MIN = 100
"""Fewer requests in the long window say nothing of a budget."""
_COMPARE = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}
_DRIFT = ("none", "moderate", "high")


class Holds(Enum):
    """What a window says."""

    YES = auto()
    NO = auto()
    UNDECIDED = auto()
    """Too little was seen."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a condition holds, and the value that was found, in the metric's unit."""

    holds: Holds
    value: float = 0.0


UNDECIDED = Verdict(Holds.UNDECIDED)


@dataclass(frozen=True)
class Seen:
    """What was seen of one version in one window of `seconds`."""

    seconds: float
    cell: Cell = field(default_factory=Cell)
    outcomes: Mapping[str, MetricSum] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True)
class DriftSeen:
    """The newest drift report of a version: how bad it is, and each feature, by name."""

    severity: str
    features: Mapping[str, str]


@dataclass(frozen=True)
class Sighting:
    """All that is known of one version at one moment: windows by their length in seconds, and what else there is."""

    windows: Mapping[int, Seen] = field(default_factory=dict)
    drift: DriftSeen | None = None
    deviation: float | None = None
    """By how many deviations the traffic of the last hour is above what is usual; None where that is not known."""


def judged(condition: Condition, sighting: Sighting) -> Verdict:
    """Whether the condition holds."""
    if isinstance(condition, Threshold):
        return _threshold(condition, sighting)
    if isinstance(condition, BurnRate):
        return _burning(condition, sighting)
    if isinstance(condition, DriftAtLeast):
        return _drifted(condition, sighting.drift)
    return UNDECIDED


def _threshold(condition: Threshold, sighting: Sighting) -> Verdict:
    found = _value(condition, sighting)
    if found is None:
        return UNDECIDED
    holds = _COMPARE[condition.comparison](found, condition.threshold)
    return Verdict(Holds.YES if holds else Holds.NO, found)


def _value(condition: Threshold, sighting: Sighting) -> float | None:
    seen = sighting.windows.get(condition.window_s)
    if condition.metric in HOST_METRICS:
        used: float | None = None if seen is None else getattr(seen.usage, condition.metric)
        return used
    if condition.metric == UNUSUAL_TRAFFIC:
        # Unusually little is as odd as unusually much.
        return None if sighting.deviation is None else abs(sighting.deviation)
    if condition.metric not in COUNTED_METRICS:
        if seen is None or condition.metric not in seen.outcomes:
            return None
        outcomes = seen.outcomes[condition.metric]
        return outcomes.total / outcomes.count if outcomes.count >= max(1, condition.min_requests) else None
    if seen is None:
        return None
    return _counted(condition, seen)


def _counted(condition: Threshold, seen: Seen) -> float | None:
    requests = seen.cell.counts[REQUESTS]
    if condition.metric in TRAFFIC_METRICS:
        return {REQUEST_COUNT: float(requests), THROUGHPUT: requests / seen.seconds}[condition.metric]
    if requests < condition.min_requests:
        return None
    if condition.metric == ERROR_RATE:
        return _errors(seen.cell, faults_alone=False) / requests
    if condition.metric == LOW_CONFIDENCE:
        known = {name: count for (kind, name), count in seen.cell.counts.items() if kind == BY_CONFIDENCE}
        total = sum(known.values())
        return known.get("low", 0) / total if total else None
    latency = seen.cell.latency
    return latency.quantile_us(LATENCIES[condition.metric]) / 1000 if latency.count else None


def _errors(cell: Cell, *, faults_alone: bool) -> int:
    return sum(
        count
        for (name, reason), count in cell.counts.items()
        if name == ERRORS and (not faults_alone or is_fault(reason))
    )


def _burning(condition: BurnRate, sighting: Sighting) -> Verdict:
    long, short = (sighting.windows.get(length) for length in (condition.long_window_s, condition.short_window_s))
    if long is None or long.cell.counts[REQUESTS] < BURN_REQUESTS_MIN:
        return UNDECIDED
    rates = [burn_rate(condition, seen.cell if seen is not None else Cell()) for seen in (long, short)]
    # The slower of the two is how fast it burns for sure.
    slower = min(rates)
    return Verdict(Holds.YES if slower >= condition.burn_rate else Holds.NO, slower)


def burn_rate(condition: BurnRate, cell: Cell) -> float:
    """How many times faster than is sustainable the budget burns; 0 without requests. For "success" faults are bad, as
    in rollouts: what callers do wrong costs no budget. For "latency" every successful request that took too long is.
    """
    if condition.indicator == "latency":
        total = cell.latency.count
        bad = sum(count for index, count in cell.latency.buckets().items() if _slow(index, condition.latency_ms))
    else:
        total, bad = cell.counts[REQUESTS], _errors(cell, faults_alone=True)
    return bad / total / (1 - condition.objective) if total else 0.0


def _slow(bucket: int, latency_ms: float) -> bool:
    return middle_us(bucket) > latency_ms * 1000


def _drifted(condition: DriftAtLeast, drift: DriftSeen | None) -> Verdict:
    if drift is None:
        return UNDECIDED
    of_features = [drift.features.get(name, "none") for name in condition.features]
    found = of_features or [drift.severity]
    worst = max(_DRIFT.index(severity) for severity in found)
    return Verdict(Holds.YES if worst >= _DRIFT.index(condition.min_severity) else Holds.NO, float(worst))
