"""A canary's limits in the unit of what is measured, so that one sees whether the one keeps the other.

Some limits are relative to the version before: "1.2 times its latency", "half a percent more errors". What is measured
is the canary's own value all the same, so such a limit is drawn where it falls for the value of the version before.
"""

import math
from dataclasses import dataclass

from infermesh.client.cli.figures import figure
from infermesh.router.v1 import canary_pb2

_BEFORE = "the version before"


@dataclass(frozen=True, slots=True)
class Limit:
    """Where a limit falls."""

    measure: str
    """What is measured, for its unit: "error_rate", "latency", the name of a metric."""
    value: float
    """The limit, in that unit."""
    floor: bool
    """Whether what is measured must not be below it; else it must not be above it."""
    origin: str = ""
    """What a relative limit is made of, for people: "1.2× of 95 ms". Empty: it is absolute."""

    def text(self) -> str:
        """The limit for people: "≤ 114 ms (1.2× of 95 ms)"."""
        sign = "≥" if self.floor else "≤"
        if math.isnan(self.value):
            return f"{sign} {self.origin}"
        origin = f" ({self.origin})" if self.origin else ""
        return f"{sign} {figure(self.measure, self.value)}{origin}"


def limit_of(result: canary_pb2.CriterionResult) -> Limit:
    """Where the limit of a result falls. It is not a number where it is relative to what was not seen yet."""
    name, limit, before = result.criterion, result.limit, result.baseline
    seen = bool(result.request_count)
    if name == "error_rate_increase_max":
        value, was = (before + limit, figure("error_rate", before)) if seen else (math.nan, _BEFORE)
        return Limit("error_rate", value, floor=False, origin=f"{was} + {figure('error_rate', limit)}")
    if name == "latency_p95_ratio_max":
        value, was = (before * limit, figure("latency", before)) if seen and before > 0 else (math.nan, _BEFORE)
        return Limit("latency", value, floor=False, origin=f"{limit:.3g}× of {was}")
    if name == "accuracy_decrease_max":
        value, was = (before - limit, figure("accuracy", before)) if seen else (math.nan, _BEFORE)
        return Limit("accuracy", value, floor=True, origin=f"{was} − {figure('accuracy', limit)}")
    if name.startswith("metrics."):
        metric, _, kind = name.removeprefix("metrics.").rpartition(".")
        if kind != "decrease_max":
            return Limit(metric, limit, floor=kind == "min")
        value, was = (before - abs(before) * limit, figure(metric, before)) if seen else (math.nan, _BEFORE)
        return Limit(metric, value, floor=True, origin=f"{limit * 100:.3g} % below {was}")
    return Limit(name, limit, floor=name.endswith("_min"))


def measured_text(result: canary_pb2.CriterionResult) -> str:
    """A limit's name, what was measured, and what it is to be: "error_rate_max 0.2 %, to be ≤ 1 %"."""
    limit = limit_of(result)
    measured = result.measured if result.request_count else math.nan
    return f"{result.criterion} {figure(limit.measure, measured)}, to be {limit.text()}"
