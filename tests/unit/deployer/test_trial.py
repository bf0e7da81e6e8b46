"""The trial prediction: what is sent, and which answers are taken."""

import pytest

from services.common.errors import MeshError, Reason
from services.common.schema import DataType, ModelSchema, TensorSpec
from services.deployer.domain.trial import TensorShape, check_answer, trial_inputs, trial_rows
from tests.support.deployer_fakes import DIGITS_SCHEMA

GOOD = {"label": TensorShape("INT64", (2,)), "probabilities": TensorShape("FP32", (2, 10))}


@pytest.mark.parametrize(
    ("spec", "shape", "data"),
    [
        (TensorSpec("a", DataType.FP32, (3,)), (2, 3), [0.0] * 6),
        (TensorSpec("a", DataType.INT64), (2,), [0, 0]),
        (TensorSpec("a", DataType.INT8, (-1, 2)), (2, 1, 2), [0] * 4),
        (TensorSpec("a", DataType.FP64, minimum=1.5), (2,), [1.5, 1.5]),
        (TensorSpec("a", DataType.INT32, minimum=-5, maximum=-2), (2,), [-2, -2]),
        (TensorSpec("a", DataType.BYTES, categories=("red", "blue")), (2,), ["red", "red"]),
        (TensorSpec("a", DataType.BYTES), (2,), ["", ""]),
        (TensorSpec("a", DataType.BOOL), (2,), [False, False]),
        (TensorSpec("a", DataType.FP32, (2,), optional=True, default_json="[0.5, 1]"), (2, 2), [0.5, 1, 0.5, 1]),
    ],
)
def test_rows_are_made_of_the_schema_alone(spec: TensorSpec, shape: tuple[int, ...], data: list[object]) -> None:
    (tensor,) = trial_inputs(ModelSchema(inputs=(spec,)), 2)
    assert (tensor.name, tensor.data_type, tensor.shape) == (spec.name, spec.data_type, shape)
    assert list(tensor.data) == data


def test_two_rows_are_tried_wherever_batches_may_have_two() -> None:
    assert [trial_rows(size) for size in (1, 2, 32)] == [1, 2, 2]


def test_the_promised_outputs_are_taken_and_further_ones_do_no_harm() -> None:
    check_answer(DIGITS_SCHEMA, 2, {**GOOD, "more": TensorShape("FP32", (1,))})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"label": None}, "no output 'label', but probabilities"),
        ({"label": TensorShape("INT32", (2,))}, "'label' is INT32 where the schema says INT64"),
        ({"label": TensorShape("INT64", (1,))}, r"shape \[1\] for 2 rows"),
        ({"probabilities": TensorShape("FP32", (2, 3))}, r"\[2, 3\] for 2 rows where the schema says \[2, 10\]"),
        ({"probabilities": TensorShape("FP32", (2,))}, r"shape \[2\]"),
    ],
)
def test_an_answer_that_breaks_the_schema_says_how(change: dict[str, TensorShape | None], said: str) -> None:
    answer = {name: shape for name, shape in {**GOOD, **change}.items() if shape is not None}
    with pytest.raises(MeshError, match=said) as failed:
        check_answer(DIGITS_SCHEMA, 2, answer)
    assert failed.value.reason is Reason.WARMUP_FAILED


def test_a_dimension_of_any_size_takes_any() -> None:
    schema = ModelSchema(outputs=(TensorSpec("words", DataType.INT64, (-1,)),))
    check_answer(schema, 2, {"words": TensorShape("INT64", (2, 7))})
