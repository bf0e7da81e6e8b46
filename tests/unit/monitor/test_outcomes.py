"""What an outcome says, and what of it is refused with its name."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from google.protobuf import json_format
from infermesh.monitor.v1 import outcome_pb2

from services.common.errors import MeshError
from services.monitor.convert.outcomes import outcome_from_proto, outcome_to_proto
from services.monitor.domain.outcomes import Outcome, OutcomeKey, Predicted, Truth, class_name, values_of
from tests.support.clock import NOON


def read(sent: dict[str, Any], field: str = "outcomes[3]") -> Outcome:
    message = outcome_pb2.Outcome()
    json_format.ParseDict(sent, message)
    return outcome_from_proto(message, field=field, now=NOON)


def of(predicted: Predicted | None, truth: Truth, **metrics: float) -> dict[str, float]:
    outcome = Outcome(OutcomeKey("req", 0), truth, metrics, NOON)
    return values_of(outcome.joined(predicted) if predicted else outcome)


def predicted(label: str | None = None, number: float | None = None) -> Predicted:
    return Predicted("digits", "v1.0.0", NOON, label, number)


@pytest.mark.parametrize("truth", ["cat", 3.0, 2.5, True, False, 1e300])
def test_an_outcome_comes_back_as_it_was_sent(truth: Truth) -> None:
    sent = {"request_id": "req", "instance_index": 2, "ground_truth": truth, "metrics": {"ctr": 1.0}}
    outcome = read(sent)
    assert (outcome.truth, outcome.observed_at) == (truth, NOON)
    shown = json_format.MessageToDict(outcome_to_proto(outcome), preserving_proto_field_name=True)
    assert shown == {**sent, "observed_time": "2026-01-15T12:00:00Z"}


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ({"ground_truth": "cat"}, "outcomes[3].request_id"),
        ({"request_id": "x" * 513, "ground_truth": "cat"}, "outcomes[3].request_id"),
        ({"request_id": "req"}, "outcomes[3].metrics"),
        ({"request_id": "req", "ground_truth": None}, "outcomes[3].metrics"),
        ({"request_id": "req", "ground_truth": ["cat"]}, "outcomes[3].ground_truth"),
        ({"request_id": "req", "ground_truth": "x" * 1025}, "outcomes[3].ground_truth"),
        ({"request_id": "req", "metrics": {"ctr": "NaN"}}, 'outcomes[3].metrics["ctr"]'),
        ({"request_id": "req", "metrics": {"ctr": 1e16}}, 'outcomes[3].metrics["ctr"]'),
        ({"request_id": "req", "metrics": {"No Name": 1.0}}, 'outcomes[3].metrics["No Name"]'),
        ({"request_id": "req", "metrics": {"accuracy": 1.0}}, 'outcomes[3].metrics["accuracy"]'),
        ({"request_id": "req", "metrics": {f"m{place}": 1.0 for place in range(33)}}, "outcomes[3].metrics"),
        ({"request_id": "req", "ground_truth": 1, "instance_index": 2_000_000}, "outcomes[3].instance_index"),
        (
            {"request_id": "req", "ground_truth": 1, "observed_time": "2026-01-15T13:00:00Z"},
            "outcomes[3].observed_time",
        ),
    ],
)
def test_what_is_wrong_is_named(sent: dict[str, Any], field: str) -> None:
    with pytest.raises(MeshError) as caught:
        read(sent)
    assert [violation.field for violation in caught.value.violations] == [field]


def test_an_outcome_may_have_become_true_before() -> None:
    sent = {"request_id": "req", "ground_truth": 1, "observed_time": "2026-01-01T00:00:00Z"}
    assert read(sent).observed_at == datetime.fromisoformat("2026-01-01T00:00:00+00:00")
    assert read(sent).observed_at < NOON - timedelta(days=14)


def test_how_right_a_prediction_was() -> None:
    assert of(None, "cat", ctr=1.0) == {}
    assert of(predicted(), "cat", ctr=1.0) == {"ctr": 1.0}
    assert of(predicted("cat"), "cat") == {"accuracy": 1.0}
    assert of(predicted("cat"), "dog", ctr=0.5) == {"accuracy": 0.0, "ctr": 0.5}
    assert of(predicted("3"), 3.0) == {"accuracy": 1.0}
    assert of(predicted("false"), False) == {"accuracy": 1.0}
    assert of(predicted("cat"), None) == {}
    assert of(predicted(number=2.5), 1.0) == {"absolute_error": 1.5}
    assert of(predicted(number=float("nan")), 1.0) == {}
    assert of(predicted(number=2.5), "two") == {}
    assert of(predicted(number=2.5), True) == {}


def test_numbers_are_written_as_classes_are() -> None:
    assert [class_name(truth) for truth in (3.0, -1.0, 0.5, True, "3.0")] == ["3", "-1", "0.5", "true", "3.0"]
