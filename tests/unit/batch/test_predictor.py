"""Rows on their way to the model: how many at once, what is sent again, which row is to blame."""

import asyncio
import random
from dataclasses import replace

import numpy as np
import pytest

from services.batch.domain.job import JobSpec
from services.batch.engines.predictor import REQUEST_BYTES_MAX, Predictor
from services.common.errors import MeshError, Reason
from tests.support.batch_fakes import CountingBoard, SumsModel, spec_of
from tests.support.clock import FakeClock

SPEC = spec_of("/in.jsonl", "/out.jsonl")


class Bench:
    """A predictor with what it uses at hand."""

    def __init__(self, spec: JobSpec = SPEC, *, outage_timeout_s: float = 10.0) -> None:
        self.model = SumsModel()
        self.explains = spec.output.explain
        self.board = CountingBoard()
        self.clock = FakeClock()
        self.predictor = Predictor(
            model=self.model,
            board=self.board,
            clock=self.clock,
            rng=random.Random(3),
            outage_timeout_s=outage_timeout_s,
            spec=spec,
        )

    async def predict(self, b: list[int]) -> dict[int, float | str]:
        """The total of each row by its place, or why it has none. Time passes as fast as someone sleeps."""
        tensors = {"a": np.zeros(len(b)), "b": np.array(b)}
        work = asyncio.ensure_future(self.predictor.predict(tensors, np.arange(len(b))))
        while not work.done():
            await asyncio.sleep(0)
            self.clock.advance(0.05)
        outcome = await work
        made: dict[int, float | str] = {place: error.reason for place, error in outcome.failed.items()}
        assert set(outcome.explanations) == ({*range(len(b))} - {*outcome.failed} if self.explains else set())
        assert all(one.values == {"a": 0.0, "b": b[place]} for place, one in outcome.explanations.items())
        for places, answer in outcome.answers:
            made |= dict(zip(places.tolist(), answer["total"].tolist(), strict=True))
        return made


async def test_rows_are_sent_in_batches_of_which_so_many_are_on_their_way() -> None:
    bench = Bench(replace(SPEC, batch_size=3, max_parallelism=2))
    assert await bench.predict(list(range(20))) == {number: float(number) for number in range(20)}
    assert sorted(bench.model.calls) == [2, 3, 3, 3, 3, 3, 3]
    assert bench.model.most_inside == 2


async def test_the_row_to_blame_is_found_and_the_others_are_predicted() -> None:
    bench = Bench(replace(SPEC, batch_size=16))
    assert await bench.predict([1, 2, 666, 4, 5, 6, 7, 666]) == {
        0: 1.0,
        1: 2.0,
        2: "MODEL_FAILED",
        3: 4.0,
        4: 5.0,
        5: 6.0,
        6: 7.0,
        7: "MODEL_FAILED",
    }


async def test_what_may_pass_is_sent_again_and_not_before_the_server_asked() -> None:
    bench = Bench()
    bench.model.trouble = [
        MeshError(Reason.QUEUE_FULL, "full", retry_after_s=3.0),
        MeshError(Reason.BACKEND_UNAVAILABLE, "away"),
    ]
    assert await bench.predict([7]) == {0: 7.0}
    assert bench.board.retries == ["QUEUE_FULL", "BACKEND_UNAVAILABLE"]
    assert bench.clock.monotonic() >= 3.0


@pytest.mark.parametrize(
    ("reason", "allowed_s", "least_s", "most_s"),
    [(Reason.BACKEND_UNAVAILABLE, 10.0, 9.9, 11.0), (Reason.VERSION_NOT_SERVED, 600.0, 59.9, 61.0)],
)
async def test_the_budget_of_retries_ends(reason: Reason, allowed_s: float, least_s: float, most_s: float) -> None:
    bench = Bench(outage_timeout_s=allowed_s)
    bench.model.trouble = [MeshError(reason, "away")] * 10_000
    with pytest.raises(MeshError) as error:
        await bench.predict([1])
    assert error.value.reason is reason
    assert least_s <= bench.clock.monotonic() <= most_s


async def test_a_worker_that_hears_nothing_goes_on_while_others_of_the_job_have_answers() -> None:
    bench = Bench(outage_timeout_s=10.0)
    bench.model.trouble = [MeshError(Reason.BACKEND_UNAVAILABLE, "away")] * 100
    bench.predictor.silence.tell(3.0)
    assert await bench.predict([1]) == {0: 1.0}
    assert bench.clock.monotonic() > 100.0, "its own silence is no matter"


async def test_a_job_that_was_silent_before_a_worker_came_is_given_up_at_its_first_failure() -> None:
    bench = Bench(outage_timeout_s=10.0)
    bench.predictor.silence.tell(11.0)
    bench.model.trouble = [MeshError(Reason.BACKEND_UNAVAILABLE, "away")]
    with pytest.raises(MeshError, match="away"):
        await bench.predict([1])
    assert bench.clock.monotonic() < 1.0


async def test_what_will_not_pass_is_not_sent_again() -> None:
    bench = Bench()
    bench.model.trouble = [MeshError(Reason.BACKEND_PROTOCOL, "nonsense")]
    with pytest.raises(MeshError, match="nonsense"):
        await bench.predict([1])
    assert bench.board.retries == []


async def test_changes_hold_for_what_is_sent_after_them() -> None:
    bench = Bench(replace(SPEC, batch_size=1, max_parallelism=1))
    bench.predictor.adjust(batch_size=4, max_parallelism=2)
    await bench.predict(list(range(12)))
    assert bench.model.calls == [4, 4, 4]
    assert bench.model.most_inside == 2


async def test_large_rows_are_sent_in_fewer_numbers() -> None:
    bench = Bench(replace(SPEC, batch_size=1000))
    rows = 4
    wide = np.zeros((rows, REQUEST_BYTES_MAX // 16))
    outcome = await bench.predictor.predict({"a": wide, "b": np.zeros(rows)}, np.arange(rows))
    assert outcome.failed == {}
    assert bench.model.calls == [1] * rows


EXPLAINED = replace(SPEC, batch_size=32, max_parallelism=1, output=replace(SPEC.output, explain=True))


async def test_requests_for_explanations_grow_until_they_take_too_long() -> None:
    bench = Bench(EXPLAINED)
    bench.model.explained_max = 10
    assert await bench.predict(list(range(60))) == {number: float(number) for number in range(60)}
    # 16 were too many, so their halves were sent, and the next grew by ones from 8.
    assert bench.model.calls == [4, 8, 16, 8, 8, 9, 10, 11, 5, 6, 2]
    assert bench.board.retries == ["DEADLINE_TOO_SHORT"] * 2


async def test_a_row_that_takes_too_long_alone_ends_the_budget() -> None:
    bench = Bench(EXPLAINED)
    bench.model.explained_max = 0
    with pytest.raises(MeshError) as error:
        await bench.predict([1, 2, 3])
    assert error.value.reason is Reason.DEADLINE_TOO_SHORT
    assert 9.9 <= bench.clock.monotonic() <= 11.0


async def test_a_row_that_cannot_be_explained_fails_alone_and_a_sample_on_its_way_is_waited_for() -> None:
    bench = Bench(EXPLAINED)
    bench.model.trouble = [MeshError(Reason.EXPLANATION_NOT_READY, "on its way", retry_after_s=2.0)]
    assert await bench.predict([1, 667, 3]) == {0: 1.0, 1: "EXPLANATION_UNAVAILABLE", 2: 3.0}
    assert bench.clock.monotonic() >= 2.0
