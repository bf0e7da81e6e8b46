"""A prediction says the same in JSON and in typed messages, alone and among others."""

import json
import math
import struct
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from infermesh.prediction.v1 import prediction_pb2

from services.batcher.codec.json_wire import JsonWriter
from services.batcher.codec.typed_wire import TypedWriter
from services.batcher.domain.outputs import OutputPlan
from services.batcher.domain.request import InferResult
from services.batcher.telemetry.version_stats import VersionStats
from services.common.schema import DataType, PredictionMapping, TensorSpec
from tests.support.batcher_faces_values import answer, tensor_of, values_of, version_of

PLAN = OutputPlan(version_of())
SINGLES = st.floats(width=32)
ROWS = st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), SINGLES, SINGLES, SINGLES), min_size=1, max_size=12)


def printed(plan: OutputPlan, result: InferResult, rows: int) -> list[dict[str, Any]]:
    body = JsonWriter(plan).response(result, plan.scores(result, rows), latency_ms=1, request_id="r")
    predictions: list[dict[str, Any]] = json.loads(body)["predictions"]
    return predictions


def typed(plan: OutputPlan, result: InferResult, rows: int) -> prediction_pb2.PredictResponse:
    response = TypedWriter(plan).response(result, plan.scores(result, rows), latency_ms=1, request_id="r")
    return prediction_pb2.PredictResponse.FromString(response)


def rounded(value: float | None) -> float | None:
    """As single precision holds it; None for what is no number, as in JSON."""
    if value is None or not math.isfinite(value):
        return None
    single: float = struct.unpack("<f", struct.pack("<f", value))[0]
    return single


@given(ROWS)
def test_both_forms_say_the_same(table: list[tuple[int, float, float, float]]) -> None:
    result = answer([row[0] for row in table], *(row[1:] for row in table))
    shown = printed(PLAN, result, len(table))
    messages = typed(PLAN, result, len(table)).predictions
    assert len(shown) == len(messages) == len(table)
    for row, one, message in zip(table, shown, messages, strict=True):
        assert one["output"] == message.output.int64_value == row[0]
        assert one["class"] == message.class_name
        assert rounded(one["confidence"]) == rounded(message.confidence)
        assert {name: rounded(value) for name, value in one["probabilities"].items()} == {
            name: rounded(value) for name, value in message.probabilities.items()
        }


@given(ROWS)
def test_what_is_said_of_a_row_does_not_depend_on_the_others(table: list[tuple[int, float, float, float]]) -> None:
    together = printed(PLAN, answer([row[0] for row in table], *(row[1:] for row in table)), len(table))
    alone = [printed(PLAN, answer([row[0]], row[1:]), 1)[0] for row in table]
    assert together == alone


@example([(0, math.nan, -math.inf, -math.inf)])
@given(ROWS)
def test_the_class_is_one_of_the_most_probable(table: list[tuple[int, float, float, float]]) -> None:
    scores = PLAN.scores(answer([row[0] for row in table], *(row[1:] for row in table)), len(table))
    assert scores is not None
    for row, index, confidence in zip(table, scores.classes, scores.confidences, strict=True):
        known = [value for value in row[1:] if not math.isnan(value)]
        assert known == [] or (confidence == max(known) == row[1 + index])


@given(ROWS, st.integers(1, 40))
def test_many_rows_are_read_and_counted_as_they_are_alone(
    table: list[tuple[int, float, float, float]], times: int
) -> None:
    rows = table * times
    many, alone = VersionStats("digits", "v1.0.0"), VersionStats("digits", "v1.0.0")
    scores = PLAN.scores(answer([row[0] for row in rows], *(row[1:] for row in rows)), len(rows))
    assert scores is not None
    many.answered(scores)
    singles = [PLAN.scores(answer([row[0]], row[1:]), 1) for row in rows]
    for one in singles:
        alone.answered(one)
    assert many.by_class == alone.by_class
    assert many.by_confidence() == alone.by_confidence()
    for place, one in enumerate(singles):
        assert one is not None
        for name in ("classes", "confidences", "probabilities"):
            # As text: what is no number equals nothing.
            assert str(_listed(getattr(scores, name)[place])) == str(_listed(getattr(one, name)[0]))


def _listed(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


@given(st.sampled_from(list(DataType)), st.integers(1, 4), st.integers(1, 3), st.data())
def test_outputs_of_every_type_are_the_values_in_both_forms(
    data_type: DataType, rows: int, width: int, data: st.DataObject
) -> None:
    values = data.draw(st.lists(values_of(data_type), min_size=rows * width, max_size=rows * width))
    plan = OutputPlan(version_of(outputs=(TensorSpec("y", data_type, (width,)),), mapping=PredictionMapping()))
    result = InferResult((tensor_of("y", data_type, (rows, width), values),))
    shown = printed(plan, result, rows)
    messages = typed(plan, result, rows).predictions
    for row in range(rows):
        expected = values[row * width : (row + 1) * width]
        one, message = shown[row]["output"], messages[row].output
        kind = message.WhichOneof("kind") or ""
        assert kind.endswith("_list") == (width > 1)
        told = list(getattr(message, kind).values) if width > 1 else [getattr(message, kind)]
        assert len(told) == len(one if width > 1 else [one]) == width
        if data_type is DataType.BYTES:
            assert [_bytes(item) for item in told] == [_bytes(item) for item in expected]
        elif data_type is DataType.UINT64 and kind.startswith("double"):
            assert told == [float(item) for item in expected]
        else:
            assert told == expected
        if data_type.is_integer or data_type is DataType.BOOL:
            assert (one if width > 1 else [one]) == expected


def _bytes(item: object) -> bytes:
    assert isinstance(item, str | bytes)
    return item.encode() if isinstance(item, str) else item
