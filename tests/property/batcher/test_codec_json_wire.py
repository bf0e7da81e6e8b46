"""JSON answers that are put together out of pieces are the documents that orjson prints."""

import math

import orjson
from hypothesis import given
from hypothesis import strategies as st

from services.batcher.codec.json_wire import JsonWriter
from services.batcher.domain.explained import Explanation
from services.batcher.domain.outputs import OutputPlan, Scores, float_rows, single_precision
from services.batcher.domain.request import InferResult
from services.batcher.domain.tensors import Value
from services.common.schema import DataType, PredictionMapping, TensorSpec
from tests.support.batcher_faces_values import NUMBER_TYPES, tensor_of, values_of, version_of

TEXT = st.text(st.characters(codec="utf-8"), max_size=6)
PRINTABLE = [item for item in DataType if item is not DataType.BYTES]


def element(data_type: DataType) -> st.SearchStrategy[Value]:
    """Any value of the type, NaN among them, and often one that is a class index."""
    if data_type.is_float:
        return values_of(data_type) | st.just(math.nan)
    return values_of(data_type) | st.integers(0, 9) if data_type.is_integer else values_of(data_type)


def built(
    plan: OutputPlan, result: InferResult, scores: Scores | None, explanations: list[Explanation]
) -> dict[str, object]:
    """The document, put together in the simplest way there is."""
    predictions: list[dict[str, object]] = []
    for row, value in enumerate(float_rows(result.outputs[0])):
        label = plan.label(value)
        one = {"output": value, "class": label} if label and scores is None else {"output": value}
        if scores is not None:
            width = len(scores.probabilities[0])
            names = [plan.class_name(index) for index in range(width)]
            tensor = result.outputs[1]
            numbers = single_precision(tensor.data_type, tensor.data)[row * width : (row + 1) * width]
            index = scores.classes[row]
            one |= {"confidence": numbers[index], "class": names[index]}
            one["probabilities"] = dict(zip(names, numbers, strict=True))
        if explanations:
            one |= {"explanation": explanations[row].values, "explanation_baseline": explanations[row].baseline}
        predictions.append(one)
    served = plan.served
    return {
        "predictions": predictions,
        "model_name": served.model_name,
        "model_version": served.version,
        "latency_ms": 0.123,
        "request_id": 'an "id"',
    }


@given(
    st.sampled_from(PRINTABLE),
    st.sampled_from(NUMBER_TYPES) | st.none(),
    st.integers(1, 3),
    st.sampled_from([(), (1,), (3,), (2, 0)]),
    st.data(),
)
def test_answers_are_the_same_text(
    data_type: DataType,
    probable: DataType | None,
    rows: int,
    shape: tuple[int, ...],
    data: st.DataObject,
) -> None:
    names = data.draw(st.lists(TEXT, max_size=4))
    specs = [TensorSpec("y", data_type, shape)]
    count = rows * math.prod(shape)
    tensors = [
        tensor_of(
            "y", data_type, (rows, *shape), data.draw(st.lists(element(data_type), min_size=count, max_size=count))
        )
    ]
    if probable is not None:
        width = data.draw(st.integers(1, 5))
        values = data.draw(st.lists(element(probable), min_size=rows * width, max_size=rows * width))
        specs.append(TensorSpec("p", probable, (-1,)))
        tensors.append(tensor_of("p", probable, (rows, width), values))
    mapping = PredictionMapping("y", "p" if probable is not None else "", tuple(names))
    plan, result = OutputPlan(version_of(outputs=specs, mapping=mapping)), InferResult(tuple(tensors))
    scores = plan.scores(result, rows)
    values_by_feature = st.dictionaries(TEXT, st.floats(), max_size=3)
    explanations = [
        Explanation(data.draw(values_by_feature), 0.5) for _ in range(rows if data.draw(st.booleans()) else 0)
    ]
    written = JsonWriter(plan).response(
        result, scores, latency_ms=0.12349, request_id='an "id"', explanations=explanations
    )
    expected = built(plan, result, scores, explanations)
    assert written == orjson.dumps(expected, option=orjson.OPT_SERIALIZE_NUMPY)
