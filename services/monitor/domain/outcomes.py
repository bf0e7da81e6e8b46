"""What became of predictions: what an outcome says, and what it adds to the sums once its prediction is known."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from services.common.errors import invalid
from services.common.names import check_model_name
from services.monitor.domain.labels import Prediction

ACCURACY = "accuracy"
ABSOLUTE_ERROR = "absolute_error"
DERIVED = (ACCURACY, ABSOLUTE_ERROR)
"""Metrics that come from ground truth; nobody may report them."""
METRICS_MAX = 32
REQUEST_ID_MAX = 512
INSTANCE_MAX = 1_000_000
TRUTH_MAX = 1024
METRIC_SIZE_MAX = 1e15
"""Larger numbers cannot be summed up exactly with their squares."""
_AHEAD_MAX = timedelta(minutes=5)
"""What the clock of whoever reports may be ahead."""

Truth = str | float | bool | None


@dataclass(frozen=True, order=True, slots=True)
class OutcomeKey:
    """The prediction that an outcome is about."""

    request_id: str
    instance_index: int


@dataclass(frozen=True, slots=True)
class Predicted:
    """What was predicted for one instance. Neither class nor number where that is not known."""

    model: str
    version: str
    time: datetime
    label: str | None = None
    number: float | None = None


@dataclass(frozen=True, slots=True)
class Reporter:
    """Who reported an outcome: a team, "" for nobody's; and the models that their key is limited to, None for all."""

    team: str = ""
    models: frozenset[str] | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of one prediction; `predicted` is None while its request is not in the prediction log, or is of a
    model that the reporter does not see."""

    key: OutcomeKey
    truth: Truth
    metrics: Mapping[str, float]
    observed_at: datetime
    predicted: Predicted | None = None
    reporter: Reporter = Reporter()

    def joined(self, predicted: Predicted) -> "Outcome":
        """The same outcome, of this prediction."""
        return replace(self, predicted=predicted)


@dataclass(frozen=True)
class OutcomeDelta:
    """A value that enters the sums of a version (`sign` 1) or leaves them (-1), at the moment of its prediction."""

    model: str
    version: str
    metric: str
    time: datetime
    sign: int
    value: float


def predicted_of(prediction: Prediction, instance_index: int) -> Predicted:
    """What a request predicted for one of its instances; without class and number for one that it did not have."""
    labels = prediction.labels
    return Predicted(
        prediction.model,
        prediction.version,
        datetime.fromtimestamp(prediction.time_us / 1_000_000, UTC),
        labels.classes[instance_index] if instance_index < len(labels.classes) else None,
        labels.numbers[instance_index] if instance_index < len(labels.numbers) else None,
    )


def values_of(outcome: Outcome) -> dict[str, float]:
    """What an outcome adds to the sums, by metric: its own metrics, and how right the prediction was. Nothing while its
    prediction is not known.
    """
    predicted = outcome.predicted
    if predicted is None:
        return {}
    values = dict(outcome.metrics)
    if outcome.truth is not None and predicted.label is not None:
        values[ACCURACY] = 1.0 if class_name(outcome.truth) == predicted.label else 0.0
    elif is_number(outcome.truth) and predicted.number is not None:
        error = abs(float(outcome.truth or 0.0) - predicted.number)
        if math.isfinite(error) and error <= METRIC_SIZE_MAX:
            values[ABSOLUTE_ERROR] = error
    return values


def deltas(predicted: Predicted, values: Mapping[str, float], *, sign: int) -> list[OutcomeDelta]:
    """The values as changes of the sums."""
    return [
        OutcomeDelta(predicted.model, predicted.version, metric, predicted.time, sign, value)
        for metric, value in sorted(values.items())
    ]


def class_name(truth: str | float | bool) -> str:
    """Ground truth as class names are written: 3.0 is "3", true is "true"."""
    if isinstance(truth, bool):
        return "true" if truth else "false"
    if isinstance(truth, float):
        return str(int(truth)) if truth.is_integer() and abs(truth) < METRIC_SIZE_MAX else repr(truth)
    return truth


def truth_of(stored: str | float | bool | None) -> Truth:
    """Ground truth as JSON gives it back, where a whole number may have become an integer."""
    if isinstance(stored, bool) or not isinstance(stored, int | float):
        return stored
    return float(stored)


def is_number(truth: Truth) -> bool:
    """Whether ground truth is a number; true and false are none."""
    return isinstance(truth, float) and not isinstance(truth, bool)


def check_request_id(request_id: str, field: str) -> str:
    """`request_id` itself. Raises INVALID_FIELD where no request can have it."""
    if not 1 <= len(request_id) <= REQUEST_ID_MAX or "\0" in request_id:
        raise invalid(field, request_id, f"1 to {REQUEST_ID_MAX} characters: the id that the answer stated")
    return request_id


def check_instance(instance_index: int, field: str) -> int:
    """`instance_index` itself. Raises INVALID_FIELD where no request has so many instances."""
    if instance_index > INSTANCE_MAX:
        raise invalid(field, instance_index, f"0 to {INSTANCE_MAX}: the place of the instance in its request")
    return instance_index


def check_truth(truth: str | float, field: str) -> str | float:
    """`truth` itself. Raises INVALID_FIELD where it is no name of a class and no number."""
    if isinstance(truth, str) and (len(truth) > TRUTH_MAX or "\0" in truth):
        raise invalid(field, truth, f"the name of a class of at most {TRUTH_MAX} characters")
    if isinstance(truth, float) and not math.isfinite(truth):
        raise invalid(field, truth, "a finite number")
    return truth


def check_metrics(metrics: Mapping[str, float], field: str) -> Mapping[str, float]:
    """`metrics` themselves. Raises INVALID_FIELD for the first that is wrong, named as in `field["name"]`."""
    if len(metrics) > METRICS_MAX:
        raise invalid(field, f"{len(metrics)} metrics", f"at most {METRICS_MAX}")
    for name, value in sorted(metrics.items()):
        path = f'{field}["{name}"]'
        check_model_name(name, path)
        if name in DERIVED:
            raise invalid(path, value, "another name: this metric is worked out from ground_truth")
        if not (math.isfinite(value) and abs(value) <= METRIC_SIZE_MAX):
            raise invalid(path, value, f"a finite number between -{METRIC_SIZE_MAX:.0e} and {METRIC_SIZE_MAX:.0e}")
    return metrics


def check_observed(observed_at: datetime, now: datetime, field: str) -> datetime:
    """`observed_at` itself. Raises INVALID_FIELD where it lies ahead."""
    if observed_at > now + _AHEAD_MAX:
        raise invalid(field, observed_at.isoformat(), f"a moment before now ({now.isoformat(timespec='seconds')})")
    return observed_at
