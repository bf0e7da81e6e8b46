"""What rollouts are judged by: what each version did since a moment, as sums that add up. Immutable."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class MetricSum:
    """A sample in three numbers, enough for means, variances and the tests on them."""

    count: int = 0
    total: float = 0.0
    sum_of_squares: float = 0.0


@dataclass(frozen=True, slots=True)
class Latencies:
    """Latencies of successful requests in logarithmic buckets: bucket i holds what is above growth^(i-1) µs and up to
    growth^i µs; bucket 0 what is at most 1 µs."""

    growth: float = 1.01
    counts: Mapping[int, int] = field(default_factory=dict)
    moments_ms: MetricSum = field(default_factory=MetricSum)


@dataclass(frozen=True, slots=True)
class VersionEvidence:
    """What one version did. Retries, warm-ups and shadow copies are in none of it but the `shadow_` counts."""

    version: str
    requests: int = 0
    """Answered, with success or not."""
    faults: int = 0
    """Failed by the platform's or the model's fault."""
    errors_by_reason: Mapping[str, int] = field(default_factory=dict)
    """All failed requests, by ErrorReason without prefix, whoever is to blame."""
    latencies: Latencies = field(default_factory=Latencies)
    by_class: Mapping[str, int] = field(default_factory=dict)
    by_confidence: Mapping[str, int] = field(default_factory=dict)
    outcomes: Mapping[str, MetricSum] = field(default_factory=dict)
    """By the metric's name; "accuracy" from ground truth, a 0 or 1 for each prediction."""
    shadows_compared: int = 0
    shadows_disagreed: int = 0


@dataclass(frozen=True, slots=True)
class Evidence:
    """The evidence on a model at one moment."""

    window_start: datetime
    window_end: datetime
    versions: Mapping[str, VersionEvidence]
    """Every version that was asked for; zeros where it took nothing."""
    dropped: int = 0
    """Requests that batchers dropped from their log within the window."""


def counted_since(moment: datetime) -> datetime:
    """The first whole second from `moment` on: since when a stage that began then is judged. Evidence is kept by the
    second, and in the second that holds `moment` may be what happened before it: the faults of the rollout before this
    one must not end this one.
    """
    whole = moment.replace(microsecond=0)
    return whole if whole == moment else whole + timedelta(seconds=1)
