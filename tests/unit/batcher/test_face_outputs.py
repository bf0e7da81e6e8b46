"""Outputs become predictions: scores, classes, forms."""

import json
import struct
from typing import Any

import pytest
from infermesh.prediction.v1 import prediction_pb2

from services.batcher.codec.json_wire import JsonWriter
from services.batcher.codec.typed_wire import TypedWriter
from services.batcher.domain.outputs import OutputPlan
from services.batcher.domain.request import InferResult, Tensor
from services.batcher.domain.serving import ServedVersion
from services.batcher.domain.tensors import pack
from services.common.schema import DataType, ModelSchema, PredictionMapping, TensorSpec


def plan(*outputs: TensorSpec, mapping: PredictionMapping | None = None) -> OutputPlan:
    return OutputPlan(ServedVersion("m", "v1.0.0", "main", ModelSchema((), outputs), mapping or PredictionMapping()))


def result(*tensors: tuple[str, DataType, tuple[int, ...], list[Any]]) -> InferResult:
    return InferResult(
        tuple(Tensor(name, data_type, shape, pack(data_type, values)) for name, data_type, shape, values in tensors)
    )


def both(made: OutputPlan, given: InferResult) -> tuple[list[dict[str, Any]], prediction_pb2.PredictResponse]:
    """The predictions as JSON prints them and as typed messages."""
    rows = given.outputs[0].shape[0]
    scores = made.scores(given, rows)
    text = JsonWriter(made).response(given, scores, latency_ms=1.23456, request_id="r")
    typed = TypedWriter(made).response(given, scores, latency_ms=1.0, request_id="r")
    shown = json.loads(text)
    assert shown["latency_ms"] == 1.235
    return shown["predictions"], prediction_pb2.PredictResponse.FromString(typed)


@pytest.mark.parametrize("rows", [1, 3])
def test_classes_and_confidences_come_from_the_probabilities(rows: int) -> None:
    made = plan(
        TensorSpec("label", DataType.INT64),
        TensorSpec("p", DataType.FP32, (2,)),
        mapping=PredictionMapping("label", "p", ("no", "yes")),
    )
    given = result(("label", DataType.INT64, (rows,), [1] * rows), ("p", DataType.FP32, (rows, 2), [0.1, 0.9] * rows))
    printed, typed = both(made, given)
    # Single precision is printed with its own digits: 0.1 and not 0.10000000149011612.
    expected = {"output": 1, "confidence": 0.9, "class": "yes", "probabilities": {"no": 0.1, "yes": 0.9}}
    assert printed == [expected] * rows
    assert [item.class_name for item in typed.predictions] == ["yes"] * rows
    assert typed.predictions[0].probabilities["no"] == pytest.approx(0.1)
    assert typed.predictions[0].output.int64_value == 1
    assert made.needed == ()


def test_only_what_predictions_are_made_of_is_asked_for() -> None:
    made = plan(
        TensorSpec("other", DataType.FP32),
        TensorSpec("label", DataType.INT64),
        TensorSpec("p", DataType.FP32, (2,)),
        mapping=PredictionMapping("label", "p"),
    )
    assert made.needed == ("label", "p")
    assert made.class_names == ("0", "1")


def test_without_probabilities_there_is_an_output_alone() -> None:
    printed, typed = both(plan(TensorSpec("y", DataType.FP32)), result(("y", DataType.FP32, (2,), [0.85, -1])))
    assert printed == [{"output": 0.85}, {"output": -1.0}]
    assert typed.predictions[0].output.float_value == pytest.approx(0.85)
    assert not typed.predictions[0].HasField("confidence")


def test_an_integer_output_names_its_class() -> None:
    made = plan(TensorSpec("y", DataType.INT32), mapping=PredictionMapping(class_names=("a", "b")))
    printed, typed = both(made, result(("y", DataType.INT32, (3,), [1, 0, 7])))
    assert printed == [{"output": 1, "class": "b"}, {"output": 0, "class": "a"}, {"output": 7}]
    assert [item.class_name for item in typed.predictions] == ["b", "a", ""]


@pytest.mark.parametrize(
    ("data_type", "values", "printed", "field"),
    [
        (DataType.FP32, [0.1, 0.2], [0.1, 0.2], "float_list"),
        (DataType.FP64, [0.1, 1e300], [0.1, 1e300], "double_list"),
        (DataType.BF16, [0.5, 2.0], [0.5, 2.0], "float_list"),
        (DataType.INT8, [-1, 2], [-1, 2], "int_list"),
        (DataType.UINT64, [1, 2**63], [1, 2**63], "double_list"),
        (DataType.BOOL, [True, False], [True, False], "bool_list"),
        (DataType.BYTES, ["é", "x"], ["é", "x"], "string_list"),
        (DataType.BYTES, [b"\xff", "x"], ["/w==", "x"], "bytes_list"),
    ],
)
def test_every_type_has_both_forms(data_type: DataType, values: list[Any], printed: list[Any], field: str) -> None:
    made = plan(TensorSpec("y", data_type, (2,)))
    shown, typed = both(made, result(("y", data_type, (1, 2), values)))
    assert shown == [{"output": printed}]
    assert typed.predictions[0].output.WhichOneof("kind") == field
    assert len(getattr(typed.predictions[0].output, field).values) == 2


def test_rows_of_no_elements_are_lists_of_none() -> None:
    made = plan(TensorSpec("y", DataType.FP32, (-1,)))
    shown, typed = both(made, InferResult((Tensor("y", DataType.FP32, (2, 0), b""),)))
    assert shown == [{"output": []}, {"output": []}]
    assert typed.predictions[1].output.WhichOneof("kind") == "float_list"


def test_numbers_that_json_has_not_are_null() -> None:
    shown, _ = both(plan(TensorSpec("y", DataType.FP64)), result(("y", DataType.FP64, (1,), [float("nan")])))
    assert shown == [{"output": None}]


def test_outputs_that_are_cut_short_are_an_error_and_not_a_guess() -> None:
    made = plan(TensorSpec("y", DataType.BYTES))
    cut = InferResult((Tensor("y", DataType.BYTES, (1,), struct.pack("<I", 9) + b"x"),))
    with pytest.raises(ValueError, match="element 0"):
        TypedWriter(made).response(cut, None, latency_ms=1, request_id="")
