"""Whether the criteria of a canary make sense."""

from collections.abc import Iterator, Sequence
from math import isfinite

from services.common.errors import FieldViolation, MeshError, invalid, invalid_fields
from services.common.names import check_model_name
from services.router.domain.criteria import MetricCriterion, SuccessCriteria

REQUESTS_MIN_MAX = 1_000_000
METRICS_MAX = 8
CRITERIA_FIELD = "canary_config.success_criteria"
"""Where callers find the criteria in their request."""

_SHARES = (
    "error_rate_max",
    "accuracy_min",
    "error_rate_increase_max",
    "accuracy_decrease_max",
    "prediction_shift_max",
    "shadow_disagreement_max",
)
_ABOVE_ZERO = ("latency_p95_max_ms", "latency_p99_max_ms", "latency_p95_ratio_max")


def check_criteria(criteria: SuccessCriteria, field: str = CRITERIA_FIELD) -> SuccessCriteria:
    """`criteria` itself. Raises INVALID_FIELD with every value that is out of range, by its path below `field`; also
    where no limit is set, for then no stage would prove anything."""
    violations = list(_violations(criteria, field))
    if violations:
        raise invalid_fields(violations)
    if not criteria.limits:
        raise invalid(
            field, "without any limit", "at least one, such as error_rate_max; left out it means 0.01 of that"
        )
    return criteria


def _violations(criteria: SuccessCriteria, field: str) -> Iterator[FieldViolation]:
    for name in _SHARES:
        yield from _not_a_share(f"{field}.{name}", getattr(criteria, name))
    for name in _ABOVE_ZERO:
        value: float | None = getattr(criteria, name)
        if value is not None and not (isfinite(value) and value > 0.0):
            yield FieldViolation(f"{field}.{name}", f"is {value}; allowed: above 0")
    if not 1 <= criteria.requests_min <= REQUESTS_MIN_MAX:
        yield FieldViolation(
            f"{field}.requests_min", f"is {criteria.requests_min}; allowed: 1 to {REQUESTS_MIN_MAX}, or left out"
        )
    if len(criteria.metrics) > METRICS_MAX:
        yield FieldViolation(f"{field}.metrics", f"are {len(criteria.metrics)}; allowed: at most {METRICS_MAX}")
    names = [metric.name for metric in criteria.metrics]
    for place, metric in enumerate(criteria.metrics[:METRICS_MAX]):
        yield from _metric_violations(metric, f"{field}.metrics[{place}]", before=names[:place])


def _metric_violations(metric: MetricCriterion, field: str, *, before: Sequence[str]) -> Iterator[FieldViolation]:
    try:
        check_model_name(metric.name, f"{field}.name")
    except MeshError as error:
        yield from error.violations
    if metric.name in before:
        yield FieldViolation(f"{field}.name", f"is {metric.name!r}; allowed: each metric once")
    for name in ("min", "max"):
        value: float | None = getattr(metric, name)
        if value is not None and not isfinite(value):
            yield FieldViolation(f"{field}.{name}", f"is {value}; allowed: a finite number")
    yield from _not_a_share(f"{field}.decrease_max", metric.decrease_max)
    if metric.min is None and metric.max is None and metric.decrease_max is None:
        yield FieldViolation(field, "has no limit; allowed: at least one of min, max and decrease_max")
    if metric.min is not None and metric.max is not None and metric.min > metric.max:
        yield FieldViolation(f"{field}.min", f"is {metric.min}; allowed: at most max, which is {metric.max}")


def _not_a_share(field: str, value: float | None) -> Iterator[FieldViolation]:
    # Not a number is in no range.
    if value is not None and not 0.0 <= value <= 1.0:
        yield FieldViolation(field, f"is {value}; allowed: 0 to 1")
