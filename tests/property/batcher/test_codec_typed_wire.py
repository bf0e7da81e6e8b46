"""Typed answers that are written as bytes are the messages that protobuf builds."""

import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from infermesh.prediction.v1 import instance_pb2, prediction_pb2

from services.batcher.codec.typed_wire import TypedWriter, explained
from services.batcher.domain.explained import Explanation
from services.batcher.domain.outputs import OutputPlan, row_values
from services.batcher.domain.request import InferResult, Tensor
from services.batcher.domain.tensors import Value
from services.common.schema import DataType, PredictionMapping, TensorSpec
from tests.support.batcher_faces_values import tensor_of, values_of, version_of

NUMBERS = [item for item in DataType if item.is_float]
NAMES = st.lists(st.text(st.characters(codec="utf-8"), max_size=130), max_size=5)


def floats(data_type: DataType) -> st.SearchStrategy[Value]:
    """Numbers that the type has, NaN among them."""
    return values_of(data_type) | st.just(math.nan)


def feature(data_type: DataType, value: Any) -> instance_pb2.Feature:
    """A row's output in the field that is meant for it."""
    values = value if isinstance(value, list) else [value]
    if data_type is DataType.BYTES:
        kind = "string" if all(isinstance(item, str) for item in values) else "bytes"
        values = [item.encode() if kind == "bytes" and isinstance(item, str) else item for item in values]
    elif data_type is DataType.BOOL:
        kind = "bool"
    elif data_type.is_float:
        kind = "double" if data_type is DataType.FP64 else "float"
    else:
        kind = "int" if all(-(2**63) <= item < 2**63 for item in values) else "double"
    if not isinstance(value, list):
        return instance_pb2.Feature(**{"int64_value" if kind == "int" else f"{kind}_value": values[0]})
    made = instance_pb2.Feature()
    getattr(made, f"{kind}_list").SetInParent()
    getattr(made, f"{kind}_list").values.extend(values)
    return made


def built(plan: OutputPlan, result: InferResult, rows: int) -> prediction_pb2.PredictResponse:
    """The answer, put together in the simplest way there is."""
    served = plan.served
    response = prediction_pb2.PredictResponse(
        model_name=served.model_name, model_version=served.version, latency_ms=0.25, request_id="id"
    )
    scores = plan.scores(result, rows)
    output = result.outputs[0]
    for row, value in enumerate(row_values(output)):
        prediction = response.predictions.add()
        prediction.output.CopyFrom(feature(output.data_type, value))
        if scores is None:
            prediction.class_name = plan.label(value)
            continue
        prediction.confidence = scores.confidences[row]
        prediction.class_name = plan.class_name(scores.classes[row])
        for index, probability in enumerate(scores.probabilities[row]):
            prediction.probabilities[plan.class_name(index)] = probability
    return response


def same(message: prediction_pb2.PredictResponse, data: bytes) -> None:
    """Asserts that they are one message, by their texts: NaN equals nothing."""
    read = prediction_pb2.PredictResponse.FromString(data)
    assert str(read) == str(message)
    assert read.ByteSize() == message.ByteSize()


def outputs(data: st.DataObject, rows: int, shape: tuple[int, ...], data_type: DataType) -> Tensor:
    """An output tensor of any type."""
    count = rows * math.prod(shape)
    element = floats(data_type) if data_type.is_float else values_of(data_type)
    small = st.integers(0, 9) if data_type.is_integer else element
    values = data.draw(st.lists(element | small, min_size=count, max_size=count))
    return tensor_of("y", data_type, (rows, *shape), values)


@given(st.sampled_from(list(DataType)), st.integers(1, 4), st.sampled_from([(), (1,), (3,), (2, 20), (0,)]), st.data())
def test_answers_without_probabilities(
    data_type: DataType, rows: int, shape: tuple[int, ...], data: st.DataObject
) -> None:
    names = tuple(data.draw(NAMES))
    spec = TensorSpec("y", data_type, shape)
    plan = OutputPlan(version_of(outputs=(spec,), mapping=PredictionMapping(class_names=names)))
    result = InferResult((outputs(data, rows, shape, data_type),))
    written = TypedWriter(plan).response(result, None, latency_ms=0.25, request_id="id")
    same(built(plan, result, rows), written)


@given(st.sampled_from(NUMBERS), st.lists(st.integers(1, 4), min_size=1, max_size=3), st.booleans(), st.data())
def test_answers_with_probabilities(
    data_type: DataType, requests: list[int], open_width: bool, data: st.DataObject
) -> None:
    """One writer answers them all, whether or not there is a name for each class, and though their number changes."""
    label = data.draw(st.sampled_from(list(DataType)))
    width = data.draw(st.integers(1, 6) | st.just(130))
    names = tuple(data.draw(NAMES))
    specs = (TensorSpec("y", label), TensorSpec("p", data_type, (-1 if open_width else width,)))
    plan = OutputPlan(version_of(outputs=specs, mapping=PredictionMapping("y", "p", names)))
    writer = TypedWriter(plan)
    for rows in requests:
        if open_width:
            width = data.draw(st.integers(1, 6))
        count = rows * width
        values = data.draw(st.lists(floats(data_type), min_size=count, max_size=count))
        result = InferResult((outputs(data, rows, (), label), tensor_of("p", data_type, (rows, width), values)))
        written = writer.response(result, plan.scores(result, rows), latency_ms=0.25, request_id="id")
        same(built(plan, result, rows), written)


@given(
    st.lists(st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), st.floats()), min_size=1, max_size=3)
)
def test_explanations_are_added(values: list[dict[str, float]]) -> None:
    plan = OutputPlan(version_of(outputs=(TensorSpec("y", DataType.FP32),), mapping=PredictionMapping()))
    result = InferResult((tensor_of("y", DataType.FP32, (len(values),), [1.5] * len(values)),))
    written = TypedWriter(plan).response(result, None, latency_ms=0.25, request_id="id")
    message = built(plan, result, len(values))
    for prediction, one in zip(message.predictions, values, strict=True):
        prediction.explanation.update(one)
        prediction.explanation_baseline = 0.5
    same(message, explained(written, [Explanation(one, 0.5) for one in values]))
