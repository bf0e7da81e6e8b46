"""Explanations over models that are known: what they say, what they cost, when they are refused."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from services.batcher.domain.explained import INSTANCES_MAX, Explanation
from services.batcher.domain.priority import Priority
from services.batcher.domain.request import InferRequest
from services.batcher.domain.serving import Batching, ServedVersion
from services.batcher.faces.call import Call
from services.batcher.faces.caller import INSIDE
from services.batcher.faces.catalog import VersionPlan
from services.batcher.faces.explainer import Explainer, ExplainerOptions
from services.batcher.telemetry.explanations import ExplanationStats
from services.batcher.telemetry.labels import LabelSets
from services.batcher.telemetry.version_stats import VersionStats
from services.common.clock import SystemClock
from services.common.errors import MeshError, Reason
from services.common.schema import DataType, ModelSchema, PredictionMapping, TensorSpec
from tests.support.batcher_explain import Columns, Floats, FunctionEngine, MemoryReferences

Row = Mapping[str, object]
TOLERANCE = 1e-4
"""What is promised, relative to the largest of 1, the output and the baseline; models here are far more exact."""
RNG = np.random.default_rng(5)
WEIGHTS = RNG.normal(size=5)
SAMPLE = [{name: float(value) for name, value in zip("abcde", row, strict=True)} for row in RNG.normal(size=(40, 5))]
NUMBERS = tuple(TensorSpec(name, DataType.FP64) for name in "abcde")
PIXELS = (TensorSpec("X", DataType.FP32, (4, 16)),)
SCORE = TensorSpec("score", DataType.FP64, (1,))


def served(
    inputs: Sequence[TensorSpec] = NUMBERS,
    outputs: Sequence[TensorSpec] = (SCORE,),
    *,
    mapping: PredictionMapping | None = None,
    digest: str = "d",
) -> ServedVersion:
    return ServedVersion(
        "credit",
        "v1.0.0",
        "prod",
        ModelSchema(tuple(inputs), tuple(outputs)),
        mapping=mapping or PredictionMapping(),
        batching=Batching(max_batch_size=16),
        reference_digest=digest,
    )


def linear(columns: Columns) -> dict[str, Floats]:
    """Five numbers, each with its weight."""
    rows = np.stack([columns[name] for name in "abcde"], axis=1).astype(np.float64)
    return {"score": (rows @ WEIGHTS + 2.0)[:, None]}


def network(columns: Columns) -> dict[str, Floats]:
    """A model that is nothing like linear, of 64 numbers: three classes."""
    rows = columns["X"].reshape(len(columns["X"]), -1).astype(np.float64)
    raw = np.tanh(rows @ np.random.default_rng(1).normal(size=(64, 8))) @ np.random.default_rng(2).normal(size=(8, 3))
    shares = np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True)
    return {"label": shares.argmax(axis=1).astype(np.float64), "probabilities": shares}


CLASSES = served(
    PIXELS,
    (TensorSpec("label", DataType.FP64), TensorSpec("probabilities", DataType.FP64, (3,))),
    mapping=PredictionMapping("label", "probabilities", ("x", "y", "z")),
)
IMAGES = [{"X": RNG.normal(size=64).tolist()} for _ in range(30)]


class Bench:
    """An explainer, and requests that were predicted before they are explained."""

    def __init__(self, version: ServedVersion, engine: FunctionEngine, sample: object, **options: int) -> None:
        self.engine = engine
        self.references = MemoryReferences({"d": sample})  # type: ignore[dict-item]
        self.stats = ExplanationStats(LabelSets())
        self.clock = SystemClock()
        self.plan = VersionPlan(version, VersionStats("credit", "v1.0.0"))
        self.explainer = Explainer(
            engine=engine,
            references=self.references,
            clock=self.clock,
            stats=self.stats,
            options=ExplainerOptions(**options),
        )

    async def explain(
        self, rows: Sequence[Row], *, within_s: float = 20.0, background: bool = False, **parameters: str
    ) -> Sequence[Explanation]:
        plan = self.plan
        call = Call(
            {b"x-priority": b"background"} if background else {}, arrived_s=self.clock.monotonic(), caller=INSIDE
        )
        call.plan, call.rows = plan, len(rows)
        self.explainer.check(call, plan, len(rows))
        inputs = plan.instances.tensors(rows)
        deadline_s = self.clock.monotonic() + within_s
        call.request = InferRequest(plan.served, len(rows), inputs, deadline_s, parameters=tuple(parameters.items()))
        result = await self.engine.infer(call.request)
        call.scores, call.compute_s = plan.outputs.scores(result, len(rows)), result.compute_s
        self.call = call
        before, self.engine.requests = self.engine.requests, []
        try:
            return await self.explainer.explain(call, result)
        finally:
            self.engine.requests[:0] = before[:-1]

    def counted(self) -> dict[str, float]:
        return {
            sample.name: sample.value
            for family in self.stats.collect()
            for sample in family.samples
            if not sample.name.endswith("_bucket")
        }


def vector(row: Row) -> Floats:
    return np.array([row[name] for name in "abcde"], float)


async def test_all_rows_that_an_explanation_took_are_charged_to_its_request() -> None:
    bench = Bench(served(), FunctionEngine(linear), SAMPLE, rows_max=200)
    await bench.explain([dict(SAMPLE[0]), dict(SAMPLE[1])])
    asked = sum(request.rows for request in bench.engine.requests)
    assert asked > 2
    assert bench.call.compute_s == 2 + asked


@pytest.mark.parametrize("rows_max", [8192, 200])
async def test_a_linear_model_is_explained_by_its_weights(rows_max: int) -> None:
    bench = Bench(served(), FunctionEngine(linear), SAMPLE, rows_max=rows_max)
    rows: list[Row] = [dict(SAMPLE[0]), {"a": 9.0, "b": -3.0, "c": 0.5, "d": 0.0, "e": 1e3}]
    means = np.mean([vector(row) for row in SAMPLE], axis=0)
    explained = await bench.explain(rows)
    for row, one in zip(rows, explained, strict=True):
        output = float(vector(row) @ WEIGHTS + 2.0)
        assert list(one.values) == list("abcde")
        if rows_max == 8192:
            assert list(one.values.values()) == pytest.approx(WEIGHTS * (vector(row) - means), rel=1e-9, abs=1e-9)
            assert one.baseline == pytest.approx(float(means @ WEIGHTS + 2.0))
        assert sum(one.values.values()) + one.baseline == pytest.approx(output, rel=1e-9)
    assert explained[0].baseline == explained[1].baseline


async def test_the_probability_of_the_predicted_class_is_explained_element_by_element() -> None:
    bench = Bench(CLASSES, FunctionEngine(network), IMAGES)
    rows = IMAGES[:3]
    explained = await bench.explain(rows)
    shares = network({"X": np.array([row["X"] for row in rows], np.float32)})["probabilities"]
    for place, one in enumerate(explained):
        assert list(one.values)[:2] == ["X[0][0]", "X[0][1]"]
        assert len(one.values) == 64
        assert sum(one.values.values()) + one.baseline == pytest.approx(float(shares[place].max()), abs=TOLERANCE)
    # The label, which nobody explains, is not asked for.
    assert {request.outputs for request in bench.engine.requests} == {("probabilities",)}


async def test_the_same_instance_is_explained_the_same_wherever_it_stands() -> None:
    bench = Bench(CLASSES, FunctionEngine(network), IMAGES, rows_max=100)
    one, again = await bench.explain([IMAGES[3]]), await bench.explain([IMAGES[5], IMAGES[3]])
    assert one[0].values == pytest.approx(again[1].values, abs=1e-12)
    assert one[0].baseline == pytest.approx(again[1].baseline, abs=1e-12)


async def test_text_and_truth_values_count_like_numbers() -> None:
    inputs = (
        TensorSpec("plan", DataType.BYTES),
        TensorSpec("trial", DataType.BOOL),
        TensorSpec("tags", DataType.BYTES, (2,)),
        TensorSpec("idle", DataType.INT16),
    )

    def model(columns: Columns) -> dict[str, Floats]:
        paid = columns["plan"] == "päid"
        tagged = (columns["tags"] == "new").any(axis=1)
        return {
            "score": np.asarray(10.0 * paid + 4.0 * columns["trial"].astype(float) + 2.0 * (paid & tagged))[:, None]
        }

    sample = [{"plan": "free", "trial": False, "tags": ["a", "bb"], "idle": 1}]
    bench = Bench(served(inputs), FunctionEngine(model), sample)
    (one,) = await bench.explain([{"plan": "päid", "trial": True, "tags": ["long one", "new"], "idle": 7}])
    assert one.values == pytest.approx({"plan": 11.0, "trial": 4.0, "tags": 1.0, "idle": 0.0})
    assert one.baseline == 0.0


async def test_words_of_a_single_feature_are_told_apart() -> None:
    def model(columns: Columns) -> dict[str, Floats]:
        return {"score": (columns["words"] == "good").sum(axis=1).astype(float)[:, None]}

    bench = Bench(served((TensorSpec("words", DataType.BYTES, (-1,)),)), FunctionEngine(model), [{"words": ["", "x"]}])
    (one,) = await bench.explain([{"words": ["good", "bad"]}])
    assert one.values == {"words[0]": 1.0, "words[1]": 0.0}
    with pytest.raises(
        MeshError, match=r"BYTES\[3\] in the instances and BYTES\[2\] in the reference sample"
    ) as caught:
        await bench.explain([{"words": ["good", "bad", "more"]}])
    assert caught.value.reason is Reason.EXPLANATION_UNAVAILABLE


async def test_rows_are_asked_about_batch_by_batch_within_the_budget() -> None:
    bench = Bench(CLASSES, FunctionEngine(network), IMAGES, rows_max=500)
    await bench.explain(IMAGES[:4], note="kept")
    requests = bench.engine.requests
    assert bench.engine.running_max == 1
    assert max(request.rows for request in requests) == 16
    assert bench.engine.rows <= 30 + 4 * (500 + 16 * 64)
    assert {request.parameters for request in requests} == {(("note", "kept"),)}
    assert all(request.priority > Priority.CALLER for request in requests)
    assert bench.counted() == {
        "model_explanations_total": 4,
        "model_explanations_failed_total": 0,
        "model_explanation_rows_total": bench.engine.rows,
        "model_explanation_seconds_count": 1,
        "model_explanation_seconds_sum": pytest.approx(0, abs=60),
    }


async def test_few_run_at_once_few_wait_and_the_next_is_told_when_to_come_back() -> None:
    bench = Bench(served(), FunctionEngine(linear), SAMPLE, at_once_max=2, waiting_max=3)
    tasks = [asyncio.ensure_future(bench.explain([SAMPLE[0]])) for _ in range(8)]
    done = await asyncio.gather(*tasks, return_exceptions=True)
    refused = [one for one in done if isinstance(one, MeshError)]
    assert bench.engine.running_max <= 8
    assert len(refused) == 3
    assert {(one.reason, one.metadata["limit"]) for one in refused} == {(Reason.QUEUE_FULL, "explanations")}
    assert all((one.retry_after_s or 0) >= 1.0 for one in refused)


async def test_rows_of_jobs_take_no_turn_from_callers_and_have_one_of_their_own() -> None:
    bench = Bench(served(), FunctionEngine(linear), SAMPLE, at_once_max=1, waiting_max=2)
    bench.engine.open.clear()
    jobs = [asyncio.ensure_future(bench.explain([SAMPLE[0]], background=True)) for _ in range(4)]
    (refused,), _ = await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
    with pytest.raises(MeshError, match="2 requests wait"):
        refused.result()
    assert bench.engine.running == 1
    bench.engine.held.clear()
    caller = asyncio.ensure_future(bench.explain([SAMPLE[1]]))
    await bench.engine.held.wait()
    assert bench.engine.running == 2
    bench.engine.open.set()
    assert len(await caller) == 1
    done = await asyncio.gather(*(job for job in jobs if job is not refused))
    assert [len(one) for one in done] == [1, 1, 1]
    priorities = {request.priority for request in bench.engine.requests if request.rows > 1}
    assert priorities == {Priority.EXPLANATION, Priority.BACKGROUND}


async def test_a_cancelled_request_asks_no_more_and_gives_its_turn_away() -> None:
    bench = Bench(served(), FunctionEngine(linear), SAMPLE, at_once_max=1)
    begun = asyncio.Event()
    bench.engine.before = lambda request: begun.set() if request.rows == 16 else None
    task = asyncio.ensure_future(bench.explain([SAMPLE[0]]))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    asked = len(bench.engine.requests)
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(bench.engine.requests) == asked
    assert len(await bench.explain([SAMPLE[1]])) == 1
    assert bench.counted()["model_explanations_failed_total"] == 1


async def test_a_deadline_that_passes_says_how_far_it_came() -> None:
    bench = Bench(served(), FunctionEngine(linear), SAMPLE)

    def late(request: InferRequest) -> None:
        if bench.engine.rows > 100:
            raise MeshError(Reason.DEADLINE_TOO_SHORT, "the deadline passed")

    bench.engine.before = late
    with pytest.raises(MeshError, match=r"after \d+ of 1240 rows") as caught:
        await bench.explain([SAMPLE[0]])
    assert caught.value.reason is Reason.DEADLINE_TOO_SHORT


async def test_a_deadline_that_passes_in_the_line_says_so() -> None:
    bench = Bench(served(), FunctionEngine(linear), SAMPLE, at_once_max=1)
    bench.engine.open.clear()
    first = asyncio.ensure_future(bench.explain([SAMPLE[0]]))
    await bench.engine.held.wait()
    with pytest.raises(MeshError, match="before its turn had come") as caught:
        await bench.explain([SAMPLE[1]], within_s=0.05)
    assert caught.value.reason is Reason.DEADLINE_TOO_SHORT
    bench.engine.open.set()
    assert len(await first) == 1


async def test_what_the_model_refuses_is_said_in_its_words() -> None:
    bench = Bench(served(), FunctionEngine(linear), SAMPLE)

    def fails(request: InferRequest) -> None:
        if request.rows == 16:
            raise MeshError(Reason.MODEL_FAILED, "no such combination")

    bench.engine.before = fails
    with pytest.raises(MeshError, match="no such combination"):
        await bench.explain([SAMPLE[0]])


async def test_what_is_no_number_explains_nothing() -> None:
    bench = Bench(served(), FunctionEngine(lambda columns: {"score": 1 / columns["a"][:, None].astype(float)}), SAMPLE)
    bench.references.samples["d"] = [{**SAMPLE[0], "a": 0.0}]
    with np.errstate(divide="ignore"), pytest.raises(MeshError, match="NaN or infinity") as caught:
        await bench.explain([SAMPLE[1]])
    assert caught.value.reason is Reason.EXPLANATION_UNAVAILABLE


@pytest.mark.parametrize(
    ("version", "says"),
    [
        (served(digest=""), "registered without a reference sample.*reference_sample"),
        (served(outputs=(TensorSpec("score", DataType.FP32, (3,)),)), r"score is FP32\[3\].*one number"),
        (served(outputs=(TensorSpec("text", DataType.BYTES),)), "text is text"),
        (
            served(outputs=(TensorSpec("label", DataType.INT64),), mapping=PredictionMapping("label", "", ("a", "b"))),
            "label names a class; register it with its probabilities",
        ),
    ],
)
async def test_versions_that_cannot_be_explained_say_why(version: ServedVersion, says: str) -> None:
    bench = Bench(version, FunctionEngine(linear), SAMPLE)
    with pytest.raises(MeshError, match=says) as caught:
        await bench.explain([SAMPLE[0]])
    assert caught.value.reason is Reason.EXPLANATION_UNAVAILABLE
    assert bench.engine.requests == []


async def test_an_output_whose_size_is_open_is_looked_at_when_it_comes() -> None:
    version = served(outputs=(TensorSpec("score", DataType.FP64, (-1,)),))
    wide = FunctionEngine(lambda columns: {"score": np.zeros((len(columns["a"]), 2))})
    with pytest.raises(MeshError, match="score has 2 numbers in a row, not one"):
        await Bench(version, wide, SAMPLE).explain([SAMPLE[0]])
    assert len(await Bench(version, FunctionEngine(linear), SAMPLE).explain([SAMPLE[0]])) == 1


async def test_more_instances_than_one_request_may_have_name_the_bound() -> None:
    bench = Bench(served(), FunctionEngine(linear), SAMPLE)
    with pytest.raises(MeshError, match=f"33 instances; at most {INSTANCES_MAX}") as caught:
        await bench.explain([SAMPLE[0]] * (INSTANCES_MAX + 1))
    assert caught.value.reason is Reason.INVALID_FIELD


async def test_a_sample_that_is_on_its_way_says_when_to_come_back() -> None:
    bench = Bench(replace(served(), reference_digest="elsewhere"), FunctionEngine(linear), SAMPLE)
    with pytest.raises(MeshError, match=r"not here yet: the registry does not answer; try again in 1\.0 s") as caught:
        await bench.explain([SAMPLE[0]])
    assert (caught.value.reason, caught.value.retry_after_s) == (Reason.EXPLANATION_NOT_READY, 1.0)


async def test_a_single_number_is_credited_with_all() -> None:
    version = served((TensorSpec("a", DataType.FP32),))
    engine = FunctionEngine(lambda columns: {"score": columns["a"][:, None].astype(float) ** 2})
    (one,) = await Bench(version, engine, [{"a": 1.0}, {"a": 3.0}]).explain([{"a": 4.0}])
    assert (dict(one.values), one.baseline) == ({"a": 11.0}, 5.0)
