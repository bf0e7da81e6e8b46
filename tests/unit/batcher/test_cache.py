"""The prediction cache over a model and a second layer that do as told, in virtual time."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from services.batcher.domain.cached import CacheCounts, CachedAnswer, CacheOptions, CacheOutcome
from services.batcher.domain.priority import Priority
from services.batcher.domain.request import InferRequest, InferResult, Tensor
from services.batcher.engines.cache import PredictionCache
from services.common.clock import LoopClock
from services.common.errors import MeshError, Reason
from services.common.schema import DataType, ModelSchema, TensorSpec
from tests.support.batcher_cache_fakes import VERSION, FakeModel, FakeStore, answer, numbers_of, request

pytestmark = [pytest.mark.looptime, pytest.mark.asyncio]

CLOCK = LoopClock(datetime(2026, 1, 15, tzinfo=UTC))


def new_cache(
    model: FakeModel, *, store: FakeStore | None = None, options: CacheOptions | None = None
) -> PredictionCache:
    return PredictionCache(engine=model, clock=CLOCK, options=options, store=store)


async def ask(cache: PredictionCache, numbers: Sequence[int], **given: object) -> CacheOutcome:
    """Asks, checks the answer, and says where it came from."""
    asked = request(numbers, **given)  # type: ignore[arg-type]
    answered = await cache.infer(asked)
    assert answered.result == answer(numbers, asked.outputs)
    return answered.outcome


async def test_the_same_row_reaches_the_model_once() -> None:
    model = FakeModel(CLOCK)
    cache = new_cache(model)
    outcomes = [await ask(cache, [5]) for _ in range(3)]
    assert outcomes == [CacheOutcome.MISS, CacheOutcome.HIT, CacheOutcome.HIT]
    assert model.asked == [[5]]
    assert cache.counts == {("m", "v1.0.0"): CacheCounts(memory=2, missed=1)}


async def test_what_is_kept_comes_without_a_turn_of_the_loop() -> None:
    cache = new_cache(FakeModel(CLOCK))
    await ask(cache, [1, 2])
    running = cache.infer(request([2, 1]))
    with pytest.raises(StopIteration) as stopped:
        running.send(None)
    assert stopped.value.value == CachedAnswer(answer([2, 1]), CacheOutcome.HIT)


async def test_only_missing_rows_go_to_the_model_and_the_answer_keeps_the_order() -> None:
    model = FakeModel(CLOCK)
    cache = new_cache(model)
    await ask(cache, [1, 3])
    assert await ask(cache, [4, 3, 2, 1, 4]) is CacheOutcome.PARTIAL
    assert model.asked == [[1, 3], [4, 2]]


async def test_equal_rows_of_one_request_are_computed_once() -> None:
    model = FakeModel(CLOCK)
    assert await ask(new_cache(model), [7, 7, 7]) is CacheOutcome.MISS
    assert model.asked == [[7]]


async def test_an_entry_ends_after_its_time() -> None:
    model = FakeModel(CLOCK)
    cache = new_cache(model)
    await ask(cache, [1])
    await CLOCK.sleep(3599.9)
    assert await ask(cache, [1], deadline_s=1e6) is CacheOutcome.HIT
    await CLOCK.sleep(0.2)
    assert await ask(cache, [1], deadline_s=1e6) is CacheOutcome.MISS


@pytest.mark.parametrize(
    "other",
    [
        {"tenant": "risk"},
        {"served": replace(VERSION, artifact_digest="b" * 64)},
        {"served": replace(VERSION, version="v1.0.1")},
        {"served": replace(VERSION, deployment_name="other")},
        {"parameters": (("top_k", 1),)},
        {"outputs": ("y",)},
        {"outputs": ("word", "y")},
    ],
)
async def test_what_differs_is_never_answered_from_it(other: dict[str, object]) -> None:
    model = FakeModel(CLOCK)
    cache = new_cache(model)
    await ask(cache, [1])
    assert await ask(cache, [1], **other) is CacheOutcome.MISS
    assert await ask(cache, [1], **other) is CacheOutcome.HIT
    assert await ask(cache, [1]) is CacheOutcome.HIT
    assert model.asked == [[1], [1]]


async def test_parameters_that_python_holds_for_equal_are_told_apart() -> None:
    model = FakeModel(CLOCK)
    cache = new_cache(model)
    for value in (True, 1, 1.0, "1"):
        assert await ask(cache, [1], parameters=(("k", value),)) is CacheOutcome.MISS


async def test_background_requests_share_the_entries() -> None:
    cache = new_cache(FakeModel(CLOCK))
    await ask(cache, [1], priority=Priority.BACKGROUND)
    assert await ask(cache, [1]) is CacheOutcome.HIT


@pytest.mark.parametrize(
    ("numbers", "given"),
    [
        ([1], {"served": replace(VERSION, artifact_digest="")}),
        (range(5), {}),
        ([], {}),
    ],
)
async def test_what_is_none_to_cache_passes_by(numbers: Sequence[int], given: dict[str, object]) -> None:
    model = FakeModel(CLOCK)
    cache = new_cache(model, options=CacheOptions(rows_max=4))
    assert [await ask(cache, numbers, **given) for _ in range(2)] == [CacheOutcome.BYPASS] * 2
    assert (len(model.asked), cache.bypassed, len(cache.memory)) == (2, 2, 0)


async def test_large_inputs_pass_by() -> None:
    cache = new_cache(FakeModel(CLOCK), options=CacheOptions(input_bytes_max=20))
    assert await ask(cache, [1]) is CacheOutcome.MISS
    assert await ask(cache, [1, 2]) is CacheOutcome.BYPASS


async def test_large_answers_are_not_kept() -> None:
    model, store = FakeModel(CLOCK), FakeStore(CLOCK)
    cache = new_cache(model, store=store, options=CacheOptions(entry_bytes_max=21))
    # The word of 2 makes its answer 22 bytes.
    assert [await ask(cache, [1]), await ask(cache, [1])] == [CacheOutcome.MISS, CacheOutcome.HIT]
    assert [await ask(cache, [2]), await ask(cache, [2])] == [CacheOutcome.MISS, CacheOutcome.MISS]
    assert len(store.kept) == 1


async def test_memory_stays_within_its_bound() -> None:
    cache = new_cache(FakeModel(CLOCK), options=CacheOptions(bytes_max=5000))
    for number in range(100):
        await ask(cache, [number])
        assert cache.memory.bytes_held <= 5000
    assert cache.memory.evicted == 100 - len(cache.memory)
    assert await ask(cache, [99]) is CacheOutcome.HIT


async def test_an_entry_keeps_no_batch_alive() -> None:
    big = memoryview(answer([1, 2]).outputs[0].data)

    def view(asked: InferRequest) -> InferResult:
        return InferResult((Tensor("y", DataType.INT64, (1, 2), big[:16]), answer(numbers_of(asked)).outputs[1]))

    cache = new_cache(FakeModel(CLOCK, answers=view))
    await cache.infer(request([1]))
    answered = await cache.infer(request([1]))
    assert answered == CachedAnswer(answer([1]), CacheOutcome.HIT)
    assert all(isinstance(tensor.data, bytes) for tensor in answered.result.outputs)


async def test_rows_that_do_not_fit_together_are_asked_for_together() -> None:
    """An output of any length may be padded to the longest of its batch."""
    schema = ModelSchema(VERSION.schema.inputs, (TensorSpec("y", DataType.INT8, (-1,)),))

    def padded(asked: InferRequest) -> InferResult:
        numbers = numbers_of(asked)
        data = b"".join(bytes([number] * number).ljust(max(numbers), b"\0") for number in numbers)
        return InferResult((Tensor("y", DataType.INT8, (len(numbers), max(numbers)), data),))

    model = FakeModel(CLOCK, answers=padded)
    cache = new_cache(model)
    served = replace(VERSION, schema=schema)
    await cache.infer(request([1], served=served))
    answered = await cache.infer(request([1, 3], served=served))
    assert answered.result == InferResult((Tensor("y", DataType.INT8, (2, 3), b"\1\0\0\3\3\3"),))
    assert model.asked == [[1], [3], [1, 3]]


async def test_inputs_that_cannot_be_cut_are_refused() -> None:
    asked = request([1])
    asked.inputs[1].data = b"\x05\0\0\0w"
    with pytest.raises(MeshError) as caught:
        await new_cache(FakeModel(CLOCK)).infer(asked)
    assert caught.value.reason is Reason.SCHEMA_VIOLATION


async def test_the_second_layer_answers_what_memory_has_not() -> None:
    model, store = FakeModel(CLOCK), FakeStore(CLOCK)
    await ask(new_cache(model, store=store), [1, 2])
    other = new_cache(model, store=store)
    assert await ask(other, [2, 3, 1]) is CacheOutcome.PARTIAL
    assert model.asked == [[1, 2], [3]]
    assert other.counts["m", "v1.0.0"] == CacheCounts(store=2, missed=1)
    asked_for = len(store.reads)
    assert await ask(other, [1, 2, 3]) is CacheOutcome.HIT
    assert len(store.reads) == asked_for


async def test_both_layers_together_keep_an_entry_for_its_time_and_no_longer() -> None:
    model, store = FakeModel(CLOCK), FakeStore(CLOCK)
    await ask(new_cache(model, store=store), [1])
    await CLOCK.sleep(3000)
    other = new_cache(model, store=store)
    assert await ask(other, [1], deadline_s=1e6) is CacheOutcome.HIT
    await CLOCK.sleep(700)
    assert await ask(other, [1], deadline_s=1e6) is CacheOutcome.MISS


async def test_an_end_in_the_far_future_is_not_believed() -> None:
    model, store = FakeModel(CLOCK), FakeStore(CLOCK)
    await ask(new_cache(model, store=store), [1])
    store.kept = {key: (kept, 1e9) for key, (kept, _) in store.kept.items()}
    other = new_cache(model, store=store)
    await ask(other, [1])
    store.kept.clear()
    await CLOCK.sleep(3601)
    assert await ask(other, [1], deadline_s=1e6) is CacheOutcome.MISS


@pytest.mark.parametrize(
    "foreign",
    [
        InferResult(()),
        answer([1], ("y",)),
        answer([1, 2]),
        InferResult((answer([1]).outputs[1], answer([1]).outputs[0], answer([1], ("y",)).outputs[0])),
        InferResult((Tensor("y", DataType.FP64, (1, 2), b"0" * 16), answer([1]).outputs[1])),
        InferResult((Tensor("y", DataType.INT64, (1, 2), b"0" * 8), answer([1]).outputs[1])),
    ],
)
async def test_what_is_stored_and_does_not_fit_is_not_used(foreign: InferResult) -> None:
    model, store = FakeModel(CLOCK), FakeStore(CLOCK)
    await ask(new_cache(model, store=store), [1])
    store.kept = dict.fromkeys(store.kept, (foreign, 1000000000.0))
    assert await ask(new_cache(model, store=store), [1]) is CacheOutcome.MISS


async def test_without_the_second_layer_the_first_goes_on() -> None:
    model, store = FakeModel(CLOCK), FakeStore(CLOCK, away=True)
    cache = new_cache(model, store=store)
    assert [await ask(cache, [1]), await ask(cache, [1])] == [CacheOutcome.MISS, CacheOutcome.HIT]
    assert not store.kept
