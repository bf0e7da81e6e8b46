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


async def test_what_will_not_pass_is_not_sent_again() -> None:
    bench = Bench()
    bench.model.trouble = [MeshError(Reason.BACKEND_PROTOCOL, "nonsense")]
    with pytest.raises(MeshError, match="nonsense"):
        await bench.predict([1])
    assert bench.board.retries == []


async def test_changes_hold_for_what_is_sent_after_them() -> None:
    bench = Bench(replace(SPEC, batch_size=1, max_parallelism=1))
    await bench.predictor.adjust(batch_size=4, max_parallelism=3)
    await bench.predict(list(range(12)))
    assert bench.model.calls == [4, 4, 4]
    assert bench.model.most_inside == 3


async def test_large_rows_are_sent_in_fewer_numbers() -> None:
    bench = Bench(replace(SPEC, batch_size=1000))
    rows = 4
    wide = np.zeros((rows, REQUEST_BYTES_MAX // 16))
    outcome = await bench.predictor.predict({"a": wide, "b": np.zeros(rows)}, np.arange(rows))
    assert outcome.failed == {}
    assert bench.model.calls == [1] * rows
