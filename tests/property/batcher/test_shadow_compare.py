"""Answers of shadow copies beside those of callers: what agrees, where it first does not, and by how much."""

import json
import math
import struct
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.batcher.domain.outputs import OutputPlan
from services.batcher.domain.request import InferResult, Tensor
from services.batcher.domain.row_labels import ROWS_LOGGED_MAX, row_labels
from services.batcher.domain.serving import ShadowComparison
from services.batcher.domain.shadow_choice import place_of
from services.batcher.domain.shadow_compare import (
    EXAMPLE_LENGTH_MAX,
    Answered,
    compare,
    method_of,
    outputs_to_ask,
    row_json,
)
from services.batcher.domain.tensors import Value
from services.common.schema import DataType, PredictionMapping, TensorSpec
from tests.support.batcher_faces_values import LABEL, PROBABILITIES, answer, tensor_of, version_of

X = TensorSpec("x", DataType.FP32)
NUMBER = TensorSpec("y", DataType.FP64)
CLASSES = OutputPlan(version_of(X))
NUMBERS = OutputPlan(version_of(X, outputs=(NUMBER,), mapping=PredictionMapping("y")))
PROBABILITY_ROWS = st.lists(
    st.tuples(*[st.floats(0, 1, width=32)] * 3).filter(lambda row: len(set(row)) == 3), min_size=1, max_size=20
)
FLOATS = st.floats(width=64)


def said(plan: OutputPlan, result: InferResult, rows: int) -> Answered:
    return Answered(plan, result, plan.scores(result, rows))


def classes(rows: Sequence[Sequence[float]], plan: OutputPlan = CLASSES) -> Answered:
    """A version of three classes that gives these probabilities."""
    return said(plan, answer([row.index(max(row)) for row in rows], *rows), len(rows))


def numbers(*values: float) -> Answered:
    return said(NUMBERS, InferResult((tensor_of("y", DataType.FP64, (len(values),), values),)), len(values))


@given(PROBABILITY_ROWS, PROBABILITY_ROWS)
def test_labels_agree_where_the_most_probable_class_of_every_row_is_the_same(
    first: list[tuple[float, ...]], second: list[tuple[float, ...]]
) -> None:
    rows = min(len(first), len(second))
    verdict = compare(ShadowComparison(), classes(first[:rows]), classes(second[:rows]))
    different = [at for at in range(rows) if first[at].index(max(first[at])) != second[at].index(max(second[at]))]
    assert verdict.agree is not bool(different)
    if different:
        row = different[0]
        own = first[row].index(max(first[row]))
        assert verdict.row == row
        assert verdict.difference == pytest.approx(abs(first[row][own] - second[row][own]))


@given(PROBABILITY_ROWS, PROBABILITY_ROWS, st.integers(1, 4))
def test_the_callers_class_is_among_the_most_probable_of_the_copy(
    first: list[tuple[float, ...]], second: list[tuple[float, ...]], top_k: int
) -> None:
    rows = min(len(first), len(second))
    rule = ShadowComparison("top_k", top_k=top_k)
    verdict = compare(rule, classes(first[:rows]), classes(second[:rows]))
    missed = [
        at
        for at in range(rows)
        if first[at].index(max(first[at])) not in sorted(range(3), key=lambda one: -second[at][one])[:top_k]
    ]
    assert (verdict.agree, verdict.row) == (not missed, missed[0] if missed else 0)


def test_classes_are_compared_by_name_whatever_their_order() -> None:
    turned = OutputPlan(version_of(X, mapping=PredictionMapping("label", "probabilities", ("two", "one", "zero"))))
    mine, theirs = classes([(0.7, 0.2, 0.1)]), classes([(0.1, 0.3, 0.6)], turned)
    assert compare(ShadowComparison(), mine, theirs).agree
    assert compare(ShadowComparison("top_k", top_k=1), mine, theirs).agree
    renamed = OutputPlan(version_of(X, mapping=PredictionMapping("label", "probabilities", ("a", "b", "c"))))
    assert not compare(ShadowComparison("top_k", top_k=3), mine, classes([(0.7, 0.2, 0.1)], renamed)).agree


@given(st.lists(st.tuples(FLOATS, FLOATS), min_size=1, max_size=20), st.floats(0, 10), st.floats(0, 1))
def test_numbers_are_near_within_both_tolerances(
    pairs: list[tuple[float, float]], absolute: float, relative: float
) -> None:
    rule = ShadowComparison("tolerance", absolute_tolerance=absolute, relative_tolerance=relative)
    verdict = compare(rule, numbers(*[a for a, _ in pairs]), numbers(*[b for _, b in pairs]))

    def near(a: float, b: float) -> bool:
        if not (math.isfinite(a) and math.isfinite(b)):
            return a == b or (math.isnan(a) and math.isnan(b))
        return abs(a - b) <= absolute + relative * abs(a)

    far = [at for at, pair in enumerate(pairs) if not near(*pair)]
    assert (verdict.agree, verdict.row) == (not far, far[0] if far else 0)
    if far:
        gaps = [abs(a - b) for a, b in pairs]
        assert verdict.difference == max([gap for gap in gaps if math.isfinite(gap)], default=0.0)


@given(st.lists(FLOATS, min_size=1, max_size=20))
def test_an_answer_agrees_with_itself_nan_included(values: list[float]) -> None:
    for method in ("", "tolerance", "label", "top_k"):
        assert compare(ShadowComparison(method, 1, 0.0, 0.0), numbers(*values), numbers(*values)).agree


def test_the_first_row_and_the_largest_difference_are_those_of_all_outputs() -> None:
    outputs = (TensorSpec("a", DataType.FP32, (2,)), TensorSpec("b", DataType.INT64), TensorSpec("t", DataType.BYTES))
    plan = OutputPlan(version_of(X, outputs=outputs, mapping=PredictionMapping("a")))

    def result(a: Sequence[float], b: Sequence[int], t: Sequence[str]) -> Answered:
        tensors = (
            tensor_of("a", DataType.FP32, (3, 2), a),
            tensor_of("b", DataType.INT64, (3,), b),
            tensor_of("t", DataType.BYTES, (3,), t),
        )
        return said(plan, InferResult(tensors), 3)

    mine = result([1, 2, 3, 4, 5, 6], [7, 8, 9], ["x", "y", "z"])
    theirs = result([1, 2, 3, 4, 5, 7.5], [7, 12, 9], ["x", "y", "other"])
    verdict = compare(ShadowComparison("tolerance"), mine, theirs)
    assert (verdict.agree, verdict.row, verdict.difference) == (False, 1, 4.0)
    only_texts = compare(ShadowComparison("tolerance", 5, 10.0), mine, theirs)
    assert (only_texts.agree, only_texts.row) == (False, 2)


def test_an_output_that_the_copy_lacks_or_has_in_another_shape_is_a_disagreement() -> None:
    mine = numbers(1.0, 2.0)
    other = OutputPlan(version_of(X, outputs=(TensorSpec("z", DataType.FP64),), mapping=PredictionMapping("z")))
    lacking = said(other, InferResult((tensor_of("z", DataType.FP64, (2,), [1.0, 2.0]),)), 2)
    wider = Answered(NUMBERS, InferResult((tensor_of("y", DataType.FP64, (2, 1), [1.0, 2.0]),)), None)
    text = Answered(NUMBERS, InferResult((tensor_of("y", DataType.BYTES, (2,), ["1", "2"]),)), None)
    single = Answered(NUMBERS, InferResult((tensor_of("y", DataType.FP32, (2,), [1.0, 2.0]),)), None)
    rule = ShadowComparison("tolerance")
    assert [compare(rule, mine, one).agree for one in (lacking, wider, text, single)] == [False, False, False, True]


def test_what_is_compared_unless_a_rule_says_so() -> None:
    assert method_of(ShadowComparison(), CLASSES, CLASSES) == "label"
    assert method_of(ShadowComparison(), CLASSES, NUMBERS) == "tolerance"
    assert method_of(ShadowComparison("top_k"), NUMBERS, NUMBERS) == "top_k"


def test_copies_ask_for_what_the_caller_got_and_what_classes_are_made_of() -> None:
    label, probabilities = (tensor_of(one.name, one.data_type, (0, *one.shape), []) for one in (LABEL, PROBABILITIES))
    more = TensorSpec("embedding", DataType.FP32, (512,))
    shadow = OutputPlan(version_of(X, outputs=(LABEL, PROBABILITIES, more)))
    assert outputs_to_ask([label], CLASSES, method="label") == ()
    assert outputs_to_ask([label], CLASSES, method="tolerance") == ("label",)
    assert outputs_to_ask([label], shadow, method="top_k") == ("label", "probabilities")
    assert outputs_to_ask([probabilities, label], shadow, method="tolerance") == ("label", "probabilities")


SHAPES = st.sampled_from([(DataType.FP32, ()), (DataType.FP64, (3,)), (DataType.FP16, (500,)), (DataType.BYTES, (9,))])


@given(st.lists(SHAPES, min_size=1, max_size=30), st.integers(1, 3), st.data())
def test_examples_are_json_of_bounded_size_and_of_the_row_asked_for(
    shapes: list[tuple[DataType, tuple[int, ...]]], rows: int, data: st.DataObject
) -> None:
    tensors: list[Tensor] = []
    for at, (kind, shape) in enumerate(shapes):
        count = rows * math.prod(shape)
        drawn: st.SearchStrategy[Value] = (
            st.text() if kind is DataType.BYTES else st.sampled_from([1.5, math.nan, math.inf])
        )
        values: list[Value] = [data.draw(drawn)] * count
        tensors.append(tensor_of(f"output {at}", kind, (rows, *shape), values))
    row = data.draw(st.integers(0, rows - 1))
    text = row_json(InferResult(tuple(tensors)), row)
    assert len(text) <= EXAMPLE_LENGTH_MAX
    shown = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    left_out = shown.pop("...", "0 outputs")
    assert len(shown) + int(left_out.split()[0]) == len(tensors)


def test_an_example_shows_numbers_with_the_digits_that_they_have() -> None:
    result = InferResult((tensor_of("p", DataType.FP32, (2, 2), [0.1, 0.9, 0.25, math.nan]),))
    assert row_json(result, 0) == '{"p": [0.1, 0.9]}'
    assert row_json(result, 1) == '{"p": [0.25, "nan"]}'


@given(st.lists(st.sampled_from(["zero", "one", "two"]), max_size=5))
def test_labels_name_classes_by_probabilities_or_by_the_output(names: list[str]) -> None:
    order = ("zero", "one", "two")
    at = [order.index(name) for name in names]
    rows = [[0.8 if place == one else 0.1 for place in range(3)] for one in at]
    whole = answer(at, *rows)
    only_label = InferResult(whole.outputs[:1])
    for result in (whole, only_label):
        labels = row_labels(CLASSES, result, CLASSES.scores(result, len(at)))
        assert (list(labels.classes), list(labels.values)) == (names, [])


def test_labels_of_versions_without_classes_are_numbers_and_texts_are_classes() -> None:
    result = InferResult((tensor_of("y", DataType.FP64, (2,), [1.5, -2.0]),))
    assert row_labels(NUMBERS, result, None).values == [1.5, -2.0]
    spec = TensorSpec("word", DataType.BYTES)
    words = OutputPlan(version_of(X, outputs=(spec,), mapping=PredictionMapping("word")))
    said_words = InferResult((tensor_of("word", DataType.BYTES, (2,), ["spam", b"\xff"]),))
    assert list(row_labels(words, said_words, None).classes) == ["spam", "b'\\xff'"]
    many = OutputPlan(version_of(X, outputs=(replace(NUMBER, shape=(2,)),), mapping=PredictionMapping("y")))
    vectors = InferResult((tensor_of("y", DataType.FP64, (1, 2), [1.0, 2.0]),))
    assert row_labels(many, vectors, None) == row_labels(NUMBERS, InferResult(()), None)


def test_of_large_requests_only_the_first_rows_are_logged() -> None:
    count = ROWS_LOGGED_MAX + 5
    data = struct.pack(f"<{count}d", *range(count))
    result = InferResult((Tensor("y", DataType.FP64, (count,), data),))
    assert len(row_labels(NUMBERS, result, None, rows_max=ROWS_LOGGED_MAX).values) == ROWS_LOGGED_MAX
    assert len(row_labels(NUMBERS, result, None).values) == count


def test_the_same_requests_are_copied_everywhere_and_as_many_as_asked_for() -> None:
    places = [place_of(f"req_0123456789ab-{number}") for number in range(100_000)]
    assert places[:4] == [place_of(f"req_0123456789ab-{number}") for number in range(4)]
    for percent in (1, 10, 50):
        share = sum(place < percent for place in places) / len(places)
        assert share == pytest.approx(percent / 100, abs=0.005)
    assert min(places) == 0
    assert max(places) == 99
