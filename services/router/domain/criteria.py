"""What must hold for a version that is being tried, and how it stands against that. Pure.

Each limit is judged by a sequence of bounds that hold at every moment together (see `sequential`), at its part of the
error that the caller allows: alpha divided by the number of limits. So one may judge after every request, and all
limits together condemn a version that keeps them with a probability of at most alpha.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from services.router.domain.evidence import VersionEvidence
from services.router.domain.findings import (
    Finding,
    accuracy_decrease,
    accuracy_min,
    error_rate_increase,
    error_rate_max,
    latency_max,
    latency_p95_ratio,
    metric_decrease,
    metric_max,
    metric_min,
    prediction_shift,
    shadow_disagreement,
)

UNBOUNDED = 1e300
"""What stands for infinity in results, because JSON has none."""


class Verdict(StrEnum):
    """How a version stands against a limit."""

    PASSING = "passing"
    """Enough was seen, and what was measured is within the limit."""
    BREACHED = "breached"
    """Enough was seen, and that the limit is broken is proven."""
    WAITING = "waiting"
    """Too little was seen, or it is beyond the limit by what may be chance."""


@dataclass(frozen=True, slots=True)
class MetricCriterion:
    """What must hold for the mean of a metric that outcomes report. Absent limits are not checked."""

    name: str
    min: float | None = None
    """The smallest mean."""
    max: float | None = None
    """The largest mean."""
    decrease_max: float | None = None
    """How much lower than the baseline's, as a share of that."""


@dataclass(frozen=True, slots=True)
class SuccessCriteria:
    """The limits, as in `infermesh.router.v1.SuccessCriteria`. Absent limits are not checked."""

    error_rate_max: float | None = None
    latency_p95_max_ms: float | None = None
    latency_p99_max_ms: float | None = None
    accuracy_min: float | None = None
    error_rate_increase_max: float | None = None
    latency_p95_ratio_max: float | None = None
    accuracy_decrease_max: float | None = None
    requests_min: int = 100
    """The fewest samples before anything is concluded, of the baseline too where it is compared to."""
    prediction_shift_max: float | None = None
    shadow_disagreement_max: float | None = None
    metrics: tuple[MetricCriterion, ...] = ()

    @property
    def limits(self) -> Mapping[str, float]:
        """Every limit that is set, by its name in results: the field's, or "metrics.<name>.min" and the like."""
        found: dict[str, float | None] = {field: getattr(self, field) for field in _FINDERS}
        for metric in self.metrics:
            found |= {f"metrics.{metric.name}.{field}": getattr(metric, field) for field in _METRIC_FINDERS}
        return {name: limit for name, limit in found.items() if limit is not None}

    @property
    def absolute(self) -> "SuccessCriteria":
        """Without the limits that are relative to the baseline: what can be judged where that has no traffic."""
        return replace(
            self,
            error_rate_increase_max=None,
            latency_p95_ratio_max=None,
            accuracy_decrease_max=None,
            prediction_shift_max=None,
            metrics=tuple(replace(metric, decrease_max=None) for metric in self.metrics),
        )


DEFAULT_CRITERIA = SuccessCriteria(error_rate_max=0.01)
"""Of a canary that was asked for without any."""


@dataclass(frozen=True, slots=True)
class CriterionResult:
    """How a version stands against one limit."""

    criterion: str
    """See `SuccessCriteria.limits`."""
    limit: float
    measured: float
    """What the canary shows; 0 where it has shown nothing."""
    baseline: float
    """What the baseline shows in the same time; 0 where that is not asked for, or where it has shown nothing."""
    request_count: int
    """The canary's samples: requests, of latencies the successful ones, of metrics outcomes, of shadows comparisons."""
    verdict: Verdict
    low: float
    """The canary's true value is not below this; by this or `high` a breach is proven."""
    high: float
    """It is not above this. Each end holds at every moment together but for this limit's part of alpha."""


_Finder = Callable[[float, VersionEvidence, VersionEvidence, float], Finding]

_FINDERS: Mapping[str, _Finder] = {
    "error_rate_max": error_rate_max,
    "latency_p95_max_ms": latency_max(0.95),
    "latency_p99_max_ms": latency_max(0.99),
    "accuracy_min": accuracy_min,
    "error_rate_increase_max": error_rate_increase,
    "latency_p95_ratio_max": latency_p95_ratio,
    "accuracy_decrease_max": accuracy_decrease,
    "prediction_shift_max": prediction_shift,
    "shadow_disagreement_max": shadow_disagreement,
}
_METRIC_FINDERS: Mapping[str, Callable[[str], _Finder]] = {
    "min": metric_min,
    "max": metric_max,
    "decrease_max": metric_decrease,
}


def judged(
    criteria: SuccessCriteria, *, canary: VersionEvidence, baseline: VersionEvidence, alpha: float
) -> tuple[CriterionResult, ...]:
    """How `canary` stands against each limit, in the order of `SuccessCriteria.limits`.

    A canary that keeps all limits has any of them judged breached, at any of the moments at which this is called, with
    a probability of at most `alpha`. Both pieces of evidence begin at the same moment and only grow from call to call.
    """
    limits = criteria.limits
    return tuple(
        _result(name, limit, _finder(name)(limit, canary, baseline, alpha / len(limits)), criteria.requests_min)
        for name, limit in limits.items()
    )


def _finder(name: str) -> _Finder:
    if name in _FINDERS:
        return _FINDERS[name]
    # Names of metrics have no dots.
    _, metric, field = name.split(".")
    return _METRIC_FINDERS[field](metric)


def _result(name: str, limit: float, finding: Finding, requests_min: int) -> CriterionResult:
    if min(finding.count, finding.baseline_count) < requests_min:
        verdict = Verdict.WAITING
    elif finding.broken:
        verdict = Verdict.BREACHED
    else:
        verdict = Verdict.PASSING if finding.within else Verdict.WAITING
    return CriterionResult(
        criterion=name,
        limit=limit,
        measured=finding.measured,
        baseline=finding.baseline,
        request_count=finding.count,
        verdict=verdict,
        low=max(finding.low, -UNBOUNDED),
        high=min(finding.high, UNBOUNDED),
    )
