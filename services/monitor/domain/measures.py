"""What is counted: the names of counts and of the dimensions that they are split by."""

from collections.abc import Callable, Mapping

Measure = tuple[str, str]
"""A count's name and the values of its dimensions, joined by a space; "" where the count has no dimension."""

REQUESTS: Measure = ("request_count", "")
PREDICTIONS: Measure = ("prediction_count", "")
SHADOWS: Measure = ("shadow_count", "")
LATENCY_SUM: Measure = ("latency_sum_us", "")
ERRORS = "error_count"
BY_CLASS = "predictions_by_class"
BY_CONFIDENCE = "predictions_by_confidence"
SHADOWS_COMPARED = "shadow_compared_count"
SHADOWS_DISAGREED = "shadow_disagreed_count"
SHADOWS_UNSENT = "shadow_unsent_count"
SHADOWS_FAILED = "shadow_failed_count"

_DIMENSIONS: Mapping[str, tuple[str, ...]] = {
    ERRORS: ("reason",),
    BY_CLASS: ("class",),
    BY_CONFIDENCE: ("confidence",),
    SHADOWS_COMPARED: ("primary",),
    SHADOWS_DISAGREED: ("primary",),
    SHADOWS_UNSENT: ("primary",),
    SHADOWS_FAILED: ("primary", "reason"),
}

ReasonName = Callable[[int], str]
"""The name of an ErrorReason's number."""


def measure(name: str, *values: str) -> Measure:
    """The count called so, of these values of its dimensions; all but the last one are without spaces."""
    return (name, " ".join(values))


def dimensions_of(counted: Measure) -> dict[str, str]:
    """The dimensions of a count, as they are stored."""
    name, values = counted
    keys = _DIMENSIONS.get(name, ())
    return dict(zip(keys, values.split(" ", len(keys) - 1), strict=True)) if keys else {}


def measure_of(name: str, dimensions: Mapping[str, str]) -> Measure:
    """The count that was stored with these dimensions."""
    return measure(name, *(dimensions.get(key, "") for key in _DIMENSIONS.get(name, ())))
