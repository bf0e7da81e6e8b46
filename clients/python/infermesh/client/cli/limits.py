"""A canary's limits in the unit of what is measured, so that one sees whether the one keeps the other.

Some limits are relative to the version before: "1.2 times its latency", "half a percent more errors". What is measured
is the canary's own value all the same, so such a limit is drawn where it falls for the value of the version before.
"""

import math
from dataclasses import dataclass

from infermesh.client.cli.figures import figure
from infermesh.router.v1 import canary_pb2


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
        origin = f" ({self.origin})" if self.origin else ""
        return f"{'≥' if self.floor else '≤'} {figure(self.measure, self.value)}{origin}"


def limit_of(result: canary_pb2.CriterionResult) -> Limit:
    """Where the limit of a result falls."""
    name, limit, before = result.criterion, result.limit, result.baseline
    if name == "error_rate_increase_max":
        origin = f"{figure('error_rate', before)} + {figure('error_rate', limit)}"
        return Limit("error_rate", before + limit, floor=False, origin=origin)
    if name == "latency_p95_ratio_max":
        return Limit("latency", before * limit, floor=False, origin=f"{limit:.3g}× of {figure('latency', before)}")
    if name == "accuracy_decrease_max":
        origin = f"{figure('accuracy', before)} − {figure('accuracy', limit)}"
        return Limit("accuracy", before - limit, floor=True, origin=origin)
    if name.startswith("metrics."):
        metric, _, kind = name.removeprefix("metrics.").rpartition(".")
        if kind == "decrease_max":
            origin = f"{limit * 100:.3g} % below {figure(metric, before)}"
            return Limit(metric, before - abs(before) * limit, floor=True, origin=origin)
        return Limit(metric, limit, floor=kind == "min")
    return Limit(name, limit, floor=name.endswith("_min"))


def measured_text(result: canary_pb2.CriterionResult) -> str:
    """A limit's name, what was measured, and what it is to be: "error_rate_max 0.2 %, to be ≤ 1 %"."""
    limit = limit_of(result)
    measured = result.measured if result.request_count else math.nan
    return f"{result.criterion} {figure(limit.measure, measured)}, to be {limit.text()}"
