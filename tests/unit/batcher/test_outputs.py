"""Scores of rows: alone, in company, and where a model says nothing sensible."""

import math

import pytest

from services.batcher.domain.outputs import OutputPlan, float_rows, row_values, single_precision
from services.batcher.domain.request import InferResult
from services.batcher.domain.tensors import pack
from services.common.schema import DataType, PredictionMapping, TensorSpec
from tests.support.batcher_faces_values import LABEL, answer, tensor_of, version_of

NAN = math.nan
PLAN = OutputPlan(version_of())


@pytest.mark.parametrize(
    ("row", "best"),
    [
        ((0.1, 0.7, 0.2), 1),
        ((0.5, 0.5, 0.0), 0),
        ((NAN, 0.25, 0.5), 2),
        ((0.25, NAN, 0.5), 2),
        ((0.5, 0.25, NAN), 0),
        ((0.0, NAN, -math.inf), 0),
        ((math.inf, NAN, 1.0), 0),
    ],
)
def test_a_row_has_the_same_class_alone_and_in_company(row: tuple[float, float, float], best: int) -> None:
    alone = PLAN.scores(answer([0], row), 1)
    beside = PLAN.scores(answer([0, 0, 0], (0.0, 0.0, 1.0), row, (NAN, NAN, NAN)), 3)
    assert alone is not None
    assert beside is not None
    assert (alone.classes[0], beside.classes[1]) == (best, best)
    assert alone.confidences[0] == beside.confidences[1] == pytest.approx(row[best])


def test_a_row_of_no_probabilities_at_all_has_no_confidence_that_is_a_number() -> None:
    for result, rows in ((answer([0], (NAN, NAN, NAN)), 1), (answer([0, 0], (NAN, NAN, NAN), (1.0, 0.0, 0.0)), 2)):
        scores = PLAN.scores(result, rows)
        assert scores is not None
        assert scores.classes[0] == 0
        assert math.isnan(scores.confidences[0])


def test_probabilities_that_were_not_asked_for_give_no_scores() -> None:
    assert PLAN.scores(InferResult(answer([1], (0.0, 1.0, 0.0)).outputs[:1]), 1) is None
    assert OutputPlan(version_of(mapping=PredictionMapping("label"))).scores(answer([1], (0.0, 1.0, 0.0)), 1) is None


@pytest.mark.parametrize("data_type", [DataType.FP16, DataType.BF16, DataType.FP32, DataType.FP64])
@pytest.mark.parametrize("rows", [1, 2])
def test_probabilities_of_any_precision_are_scored(data_type: DataType, rows: int) -> None:
    spec = TensorSpec("probabilities", data_type, (2,))
    plan = OutputPlan(version_of(outputs=(LABEL, spec), mapping=PredictionMapping("label", "probabilities")))
    tensor = tensor_of("probabilities", data_type, (rows, 2), [0.25, 0.75] * rows)
    scores = plan.scores(InferResult((tensor,)), rows)
    assert scores is not None
    assert list(scores.classes) == [1] * rows
    assert list(scores.confidences) == [0.75] * rows
    assert [list(row) for row in scores.probabilities] == [[0.25, 0.75]] * rows


def test_classes_without_names_are_numbered() -> None:
    spec = TensorSpec("p", DataType.FP32, (-1,))
    plan = OutputPlan(version_of(outputs=(spec,), mapping=PredictionMapping("", "p", ("only",))))
    assert (plan.class_name(0), plan.class_name(1)) == ("only", "1")


@pytest.mark.parametrize(
    ("output", "label"), [(0, "zero"), (2, "two"), (3, ""), (-1, ""), (True, ""), (1.0, ""), ([1], "")]
)
def test_an_output_names_its_class_only_where_it_is_its_index(output: object, label: str) -> None:
    assert PLAN.label(output) == label


@pytest.mark.parametrize("count", [3, 200])
def test_rows_are_values_or_lists_in_row_major_order(count: int) -> None:
    numbers = list(range(count))
    assert row_values(tensor_of("y", DataType.INT16, (count,), numbers)) == numbers
    assert row_values(tensor_of("y", DataType.INT16, (count, 1), numbers)) == numbers
    assert row_values(tensor_of("y", DataType.INT16, (1, count), numbers)) == [numbers]
    assert float_rows(tensor_of("y", DataType.FP32, (1, count), numbers)) == [numbers]


def test_integers_keep_their_digits_where_single_precision_would_not() -> None:
    assert single_precision(DataType.INT64, pack(DataType.INT64, [2**53 + 1])) == [2**53 + 1]
    assert single_precision(DataType.FP64, pack(DataType.FP64, [0.1])) == [0.1]
