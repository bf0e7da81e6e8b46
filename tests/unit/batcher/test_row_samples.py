"""Rows sampled for drift: each as likely as the other, read as what the schema says, and never more than asked for."""

import math
import random
from collections import Counter

import pytest

from services.batcher.adapters.row_samples import RowSamples
from services.batcher.domain.outputs import OutputPlan
from services.batcher.domain.recording import Recording
from services.batcher.domain.request import InferRequest, InferResult
from services.batcher.domain.reservoir import Reservoir
from services.batcher.domain.row_columns import COLUMNS_MAX, ColumnPlan, SampledRow
from services.batcher.faces.call import Call
from services.batcher.faces.caller import Callers
from services.batcher.faces.catalog import Aftermath, VersionPlan
from services.batcher.telemetry.version_stats import VersionStats
from services.common.schema import DataType, PredictionMapping, TensorSpec
from tests.support.batcher_faces_values import answer, tensor_of, version_of

AGE, TOWN = TensorSpec("age", DataType.FP32), TensorSpec("town", DataType.BYTES)
POINT = TensorSpec("at", DataType.INT32, (2,))


def call_of(plan: VersionPlan, ages: list[float], *, scored: bool = True) -> Call:
    """An answered request with as many rows as ages, in which the class is the row's place."""
    rows = len(ages)
    call = Call({}, arrived_s=0.0, caller=Callers().of({}, 0.0))
    call.model_name, call.plan, call.rows = "digits", plan, rows
    inputs = (
        tensor_of("age", DataType.FP32, (rows,), ages),
        tensor_of("town", DataType.BYTES, (rows,), [f"town {at}" for at in range(rows)]),
        tensor_of("at", DataType.INT32, (rows, 2), list(range(2 * rows))),
    )
    call.request = InferRequest(plan.served, rows, inputs, 1.0)
    probabilities = [[0.75 if at == row % 3 else 0.125 for at in range(3)] for row in range(rows)]
    call.result = answer([row % 3 for row in range(rows)], *probabilities)
    call.scores = plan.outputs.scores(call.result, rows) if scored else None
    return call


def plan_of() -> VersionPlan:
    return VersionPlan(version_of(AGE, TOWN, POINT), VersionStats("digits", "v1.0.0"))


@pytest.mark.parametrize("step", [1, 7, 60])
def test_each_row_is_as_likely_as_the_other(step: int) -> None:
    chance = random.Random(step).random
    taken: Counter[int] = Counter()
    for _ in range(4000):
        reservoir = Reservoir[int](5, chance)
        for first in range(0, 60, step):
            rows = min(step, 60 - first)
            reservoir.seen += rows
            if reservoir.next_at < reservoir.seen:
                reservoir.take(rows, lambda row, first=first: first + row)  # type: ignore[misc]
        seen, kept = reservoir.drain()
        assert seen == 60
        assert len(set(kept)) == 5
        taken.update(kept)
    # 4000 draws of 5 of 60: 333 each, give or take 17; five deviations for the worst of sixty.
    assert min(taken[row] for row in range(60)) > 333 - 87
    assert max(taken.values()) < 333 + 87


def test_features_and_outputs_become_columns() -> None:
    samples, plan = RowSamples(period_s=1.0, chance=random.Random(1).random), plan_of()
    samples.ask_for(10)
    samples.offer(call_of(plan, [1.5, math.nan]), plan)
    ((found, sampled),) = samples.drain(now_s=1.0, time_us=7)
    assert found is plan
    assert (sampled.seen_count, sampled.row_count, sampled.time_us) == (2, 2, 7)
    columns = {(column.feature, column.output): column for column in sampled.columns}
    assert columns["age", False].numbers[0] == 1.5
    assert math.isnan(columns["age", False].numbers[1])
    assert list(columns["town", False].categories) == ["town 0", "town 1"]
    assert [list(columns[f"at[{at}]", False].numbers) for at in range(2)] == [[0, 2], [1, 3]]
    assert list(columns["label", True].categories) == ["zero", "one"]
    assert list(columns["probabilities", True].numbers) == [0.75, 0.75]
    assert list(sampled.confidences) == [0.75, 0.75]
    assert len(columns) == len(sampled.columns) == 6


def test_what_the_logging_policy_keeps_back_leaves_with_no_sample() -> None:
    samples, plan = RowSamples(period_s=1.0, chance=random.Random(1).random), plan_of()
    samples.ask_for(10)
    samples.offer(call_of(plan, [1.5]), plan)
    # The policy came after the sample was taken.
    plan.after = Aftermath((), recording=Recording(0, redacted=frozenset({"probabilities", "age"})))
    ((_, sampled),) = samples.drain(now_s=1.0, time_us=7)
    assert {(column.feature, column.output) for column in sampled.columns} == {
        ("age", False),
        ("town", False),
        ("at[0]", False),
        ("at[1]", False),
        ("label", True),
    }
    assert list(sampled.confidences) == []


def test_what_is_not_asked_for_is_not_kept() -> None:
    samples, plan = RowSamples(period_s=1.0, chance=random.Random(1).random), plan_of()
    samples.offer(call_of(plan, [1.0]), plan)
    assert not list(samples.drain(now_s=1.0, time_us=0))
    samples.ask_for(3)
    for _ in range(50):
        samples.offer(call_of(plan, [1.0, 2.0]), plan)
    assert not list(samples.drain(now_s=1.5, time_us=0)), "one sample a period"
    ((_, sampled),) = samples.drain(now_s=2.0, time_us=0)
    assert (sampled.seen_count, sampled.row_count) == (100, 3)
    assert not list(samples.drain(now_s=3.0, time_us=0)), "it answered nothing since"
    samples.ask_for(0)
    samples.offer(call_of(plan, [1.0]), plan)
    assert not list(samples.drain(now_s=4.0, time_us=0))


def test_a_class_without_probabilities_is_named_by_its_output() -> None:
    samples, plan = RowSamples(period_s=1.0, chance=random.Random(1).random), plan_of()
    samples.ask_for(10)
    samples.offer(call_of(plan, [1.0, 2.0], scored=False), plan)
    ((_, sampled),) = samples.drain(now_s=1.0, time_us=0)
    assert [list(column.categories) for column in sampled.columns if column.feature == "label"] == [["zero", "one"]]
    assert not sampled.confidences


def test_tensors_with_too_many_elements_are_not_followed() -> None:
    image, score = TensorSpec("image", DataType.UINT8, (32, COLUMNS_MAX)), TensorSpec("score", DataType.FP64)
    served = version_of(AGE, image, outputs=(score,), mapping=PredictionMapping("score"))
    row = SampledRow(
        (tensor_of("age", DataType.FP32, (1,), [4.0]),), (tensor_of("score", DataType.FP64, (1,), [0.5]),), 0
    )
    columns = ColumnPlan(served, OutputPlan(served)).columns([row])
    assert [(column.name, column.output, column.numbers) for column in columns] == [
        ("age", False, [4.0]),
        ("score", True, [0.5]),
    ]


def test_an_input_that_was_left_out_is_missing() -> None:
    served = version_of(AGE, TOWN, outputs=(TensorSpec("score", DataType.FP64),), mapping=PredictionMapping("score"))
    age, town, score = ColumnPlan(served, OutputPlan(served)).columns([SampledRow((), InferResult(()).outputs, 0)])
    assert math.isnan(age.numbers[0])
    assert town.categories == [None]
    assert math.isnan(score.numbers[0])
