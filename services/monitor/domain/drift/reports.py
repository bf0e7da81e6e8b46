"""Baselines and drift reports, and what else is out of the ordinary."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median

from services.monitor.domain.drift.accuracy import Realised, has_fallen
from services.monitor.domain.drift.verdict import FeatureDrift, Thresholds
from services.monitor.domain.figures import Figures

PENDING, ACTIVE, SUPERSEDED, FAILED = "pending", "active", "superseded", "failed"
LOW_CONFIDENCE, SLOW, ERRORS, SEASONAL = "low_confidence", "latency_p95", "error_rate", "seasonal"
JOINT_DRIFT, ACCURACY = "joint_drift", "accuracy"

PREDICTIONS_MIN = 1000
LOW_CONFIDENCE_SHARE = 0.2
"""Of predictions with a confidence below 0.5."""
P95_MAX_MS = 200.0
ERROR_RATE_MAX = 0.05
_SEASON_DAYS_MIN = 5
_SEASON_FACTOR = 3.0


@dataclass(frozen=True)
class Span:
    """A window of time, from `start` to before `end`."""

    start: datetime
    end: datetime


@dataclass(frozen=True)
class Baseline:
    """What a version's traffic is compared with; one of sample and window is given."""

    baseline_id: str
    model: str
    version: str
    created_at: datetime
    created_by: str
    sample_uri: str = ""
    window: Span | None = None
    status: str = PENDING
    status_message: str = ""
    row_count: int = 0


@dataclass(frozen=True)
class Report:
    """One comparison. What outcomes say is not kept with it: they come later, and are looked up when it is read."""

    report_id: str
    model: str
    version: str
    baseline_id: str
    window: Span
    row_count: int
    severity: str
    features: Sequence[FeatureDrift]
    created_at: datetime
    auc: float = 0.0
    expected_accuracy: float | None = None
    anomalies: Sequence[str] = ()
    realised: Realised | None = None


def anomalies(found: Figures, *, requests_before: Sequence[int]) -> Sequence[str]:
    """What traffic alone shows. `requests_before`: how many came in the same hours of each of the days before."""
    names = []
    if found.predictions_by_confidence.get("low", 0.0) > LOW_CONFIDENCE_SHARE:
        names.append(LOW_CONFIDENCE)
    if found.latency_p95_ms > P95_MAX_MS:
        names.append(SLOW)
    if found.error_rate > ERROR_RATE_MAX:
        names.append(ERRORS)
    known = [count for count in requests_before if count]
    if len(known) >= _SEASON_DAYS_MIN:
        usual = median(known)
        if not usual / _SEASON_FACTOR <= found.request_count <= usual * _SEASON_FACTOR:
            names.append(SEASONAL)
    return names


def with_accuracy(report: Report, limits: Thresholds) -> Sequence[str]:
    """The report's anomalies, with what outcomes show by now."""
    fallen = has_fallen(report.realised, expected=report.expected_accuracy, alarm_rate=limits.alarm_rate)
    return [*report.anomalies, ACCURACY] if fallen else list(report.anomalies)
