"""What became of predictions: what an outcome says, and what it adds to the sums once its prediction is known."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from services.monitor.domain.labels import Prediction

ACCURACY = "accuracy"
ABSOLUTE_ERROR = "absolute_error"
DERIVED = (ACCURACY, ABSOLUTE_ERROR)
"""Metrics that come from ground truth; nobody may report them."""
METRICS_MAX = 32
METRIC_SIZE_MAX = 1e15
"""Larger numbers cannot be summed up exactly with their squares."""

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


@dataclass(frozen=True)
class Outcome:
    """What became of one prediction; `predicted` is None while its request is not in the prediction log."""

    key: OutcomeKey
    truth: Truth
    metrics: Mapping[str, float]
    observed_at: datetime
    predicted: Predicted | None = None

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


@dataclass
class Reported:
    """What became of a report: how many were taken, and how many of them wait for their prediction."""

    accepted: int = 0
    unmatched: int = 0
    outcomes: list[Outcome] = field(default_factory=list)


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


def is_number(truth: Truth) -> bool:
    """Whether ground truth is a number; true and false are none."""
    return isinstance(truth, float) and not isinstance(truth, bool)
