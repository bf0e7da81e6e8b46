"""Alert rules: what may be asked for, and what is assumed where nothing is said."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from services.common.errors import invalid
from services.common.names import check_model_name, check_version
from services.monitor.domain.alerts import RAISING_KINDS, SEVERITIES, Raising

ERROR_RATE, LOW_CONFIDENCE = "error_rate", "low_confidence_rate"
REQUEST_COUNT, THROUGHPUT = "request_count", "throughput_per_sec"
UNUSUAL_TRAFFIC = "traffic_deviation"
LATENCIES = {"latency_p50_ms": 0.50, "latency_p95_ms": 0.95, "latency_p99_ms": 0.99}
HOST_METRICS = ("cpu_percent", "memory_percent", "gpu_utilization", "gpu_memory_percent")
TRAFFIC_METRICS = (REQUEST_COUNT, THROUGHPUT)
"""Every window decides these: that nothing comes is a figure too."""
COUNTED_METRICS = (ERROR_RATE, *LATENCIES, *TRAFFIC_METRICS, LOW_CONFIDENCE)
"""Those that come from the sums of requests."""
COMPARISONS = (">", ">=", "<", "<=")
NO_ACTION = "none"
ACTIONS = (NO_ACTION, "hold", "rollback")
WINDOW_MIN_S, WINDOW_MAX_S = 10, 86_400
WINDOW_S = 60
MIN_REQUESTS = 100
FOR_MAX_S = 86_400
LONG_WINDOW_MAX_S = 30 * 86_400
CHANNELS_MAX = 16
DESCRIPTION_MAX = 1000
_METRIC = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,62}")


@dataclass(frozen=True, slots=True)
class Threshold:
    """A metric against a threshold."""

    metric: str
    comparison: str
    threshold: float
    window_s: int = WINDOW_S
    for_s: int = 0
    min_requests: int = MIN_REQUESTS
    kind: Literal["threshold"] = "threshold"


@dataclass(frozen=True, slots=True)
class DriftAtLeast:
    """A drift report at least so bad. No features: all of them, as the report corrects for their number."""

    min_severity: str
    features: tuple[str, ...] = ()
    kind: Literal["drift"] = "drift"


@dataclass(frozen=True, slots=True)
class BurnRate:
    """An error budget that burns so fast in both windows."""

    objective: float
    indicator: str
    latency_ms: float
    long_window_s: int
    short_window_s: int
    burn_rate: float
    kind: Literal["burn_rate"] = "burn_rate"


@dataclass(frozen=True, slots=True)
class Happened:
    """Something happened in a rollout."""

    events: tuple[str, ...]
    kind: Literal["events"] = "events"


Condition = Threshold | DriftAtLeast | BurnRate | Happened


@dataclass(frozen=True)
class RuleSpec:
    """A rule as people word it. No model: each on its own; no version: each on its own."""

    name: str
    condition: Condition
    severity: str
    description: str = ""
    model: str = ""
    version: str = ""
    channels: tuple[str, ...] = ()
    action: str = NO_ACTION
    enabled: bool = True

    @property
    def per_model(self) -> bool:
        """Whether it watches models as a whole rather than their versions."""
        return isinstance(self.condition, Threshold) and self.condition.metric == UNUSUAL_TRAFFIC

    @property
    def per_platform(self) -> bool:
        """Whether it watches the hosts and no model."""
        return isinstance(self.condition, Threshold) and self.condition.metric in HOST_METRICS

    def watches(self, model: str, version: str) -> bool:
        """Whether the rule is about that version (or about the model as a whole where it is empty)."""
        return self.model in ("", model) and self.version in ("", version)


def raising(specs: Iterable[RuleSpec]) -> list[Raising]:
    """Those of the rules that wait for events."""
    return [
        Raising(spec.name, spec.condition.events, spec.severity, spec.model, spec.version)
        for spec in specs
        if spec.enabled and isinstance(spec.condition, Happened)
    ]


@dataclass(frozen=True)
class Rule:
    """A rule as it is kept."""

    spec: RuleSpec
    etag: str
    created_at: datetime
    updated_at: datetime
    created_by: str = ""


def checked_rule(spec: RuleSpec) -> RuleSpec:
    """The rule with what it leaves out filled in. Raises INVALID_FIELD with the path of what is wrong."""
    path = "alert_rule"
    check_model_name(spec.name, f"{path}.name")
    if len(spec.description) > DESCRIPTION_MAX or "\0" in spec.description:
        raise invalid(f"{path}.description", spec.description[:100], f"at most {DESCRIPTION_MAX} characters")
    if spec.model:
        check_model_name(spec.model, f"{path}.model_name")
    if spec.version and not spec.model:
        raise invalid(f"{path}.version", spec.version, "empty where model_name is: a version is one of a model")
    version = check_version(spec.version, f"{path}.version") if spec.version else ""
    if spec.severity not in SEVERITIES:
        raise invalid(f"{path}.severity", spec.severity, ", ".join(SEVERITIES))
    action = spec.action or NO_ACTION
    if action not in ACTIONS:
        raise invalid(f"{path}.rollout_action", action, ", ".join(ACTIONS))
    channels = tuple(dict.fromkeys(spec.channels))
    if len(channels) > CHANNELS_MAX:
        raise invalid(f"{path}.notification_channels", f"{len(channels)} channels", f"at most {CHANNELS_MAX}")
    condition = _checked(spec.condition, path)
    made = replace(spec, version=version, action=action, channels=channels, condition=condition)
    if made.per_platform and (spec.model or action != NO_ACTION):
        raise invalid(
            f"{path}.model_name" if spec.model else f"{path}.rollout_action",
            spec.model or action,
            "nothing: the metric is one of hosts, which serve all models",
        )
    if made.per_model and version:
        raise invalid(f"{path}.version", version, f"nothing: {UNUSUAL_TRAFFIC} is of a model as a whole")
    return made


def _checked(condition: Condition, path: str) -> Condition:
    if isinstance(condition, Threshold):
        return _threshold(condition, f"{path}.threshold")
    if isinstance(condition, BurnRate):
        return _burn_rate(condition, f"{path}.burn_rate")
    if isinstance(condition, DriftAtLeast):
        _one_of(f"{path}.drift.min_severity", condition.min_severity, ("moderate", "high"))
        return replace(condition, features=tuple(dict.fromkeys(condition.features)))
    if not condition.events:
        raise invalid(f"{path}.event.events", "none", f"at least one of {', '.join(RAISING_KINDS)}")
    for name in condition.events:
        _one_of(f"{path}.event.events", name, RAISING_KINDS)
    return replace(condition, events=tuple(event for event in RAISING_KINDS if event in condition.events))


def _threshold(wish: Threshold, path: str) -> Threshold:
    if not _METRIC.fullmatch(wish.metric):
        known = ", ".join((*COUNTED_METRICS, *HOST_METRICS, "accuracy", UNUSUAL_TRAFFIC))
        raise invalid(f"{path}.metric", wish.metric, f"{known}, or a business metric's name")
    _one_of(f"{path}.comparison", wish.comparison, COMPARISONS)
    _finite(f"{path}.threshold", wish.threshold, -1e15, 1e15)
    window_s = wish.window_s or WINDOW_S
    _within(f"{path}.window_s", window_s, WINDOW_MIN_S, WINDOW_MAX_S)
    _within(f"{path}.for_s", wish.for_s, 0, FOR_MAX_S)
    return replace(wish, window_s=window_s, min_requests=wish.min_requests or MIN_REQUESTS)


def _burn_rate(wish: BurnRate, path: str) -> BurnRate:
    _finite(f"{path}.objective", wish.objective, 0.5, 0.99999)
    _one_of(f"{path}.indicator", wish.indicator, ("success", "latency"))
    if wish.indicator == "latency":
        _finite(f"{path}.latency_ms", wish.latency_ms, 0.001, 4_294_967.0)
    elif wish.latency_ms:
        raise invalid(f"{path}.latency_ms", wish.latency_ms, 'nothing where the indicator is "success"')
    _within(f"{path}.long_window_s", wish.long_window_s, 60, LONG_WINDOW_MAX_S)
    _within(f"{path}.short_window_s", wish.short_window_s, WINDOW_MIN_S, wish.long_window_s)
    most = 1 / (1 - wish.objective)
    # A budget cannot burn faster than when every request is bad.
    _finite(f"{path}.burn_rate", wish.burn_rate, 0.01, most)
    return wish


def _one_of(field: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise invalid(field, value, ", ".join(allowed))


def _within(field: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise invalid(field, value, f"{low} to {high}")


def _finite(field: str, value: float, low: float, high: float) -> None:
    if not (math.isfinite(value) and low <= value <= high):
        raise invalid(field, value, f"{low:g} to {high:g}")
