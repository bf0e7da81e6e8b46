"""Batches of recorded rows: which rows share one, how large they are, and what a model that fails on them comes to."""

import json
from dataclasses import replace

import pytest

from services.common.errors import MeshError, Reason
from services.common.schema import DataType, ModelSchema, TensorSpec
from services.deployer.domain.deployment import Batching, NewDeployment, Wish
from services.deployer.domain.recorded import VALUES_MAX, recorded_rows, warm_inputs, warm_sizes
from services.deployer.domain.trial import TensorShape
from services.deployer.engines.bringup import Bringer
from services.deployer.engines.fleet import Fleet
from tests.support.clock import FakeClock
from tests.support.deployer_fakes import (
    CountingBoard,
    FakeEnvironments,
    FakePackages,
    FakeServer,
    FakeVersions,
    nobody_outside,
    recipe,
)
from tests.support.deployer_store import MemoryStore

SCHEMA = ModelSchema(
    inputs=(
        TensorSpec("pixels", DataType.FP32, (2, 2)),
        TensorSpec("colour", DataType.BYTES, optional=True),
        TensorSpec("scale", DataType.FP32, optional=True, default_json="1.5"),
    ),
    outputs=(TensorSpec("y", DataType.FP32),),
)


def sample(*instances: object) -> bytes:
    return json.dumps({"instances": instances}).encode()


def test_rows_become_tensors_in_order_and_begin_again_where_there_are_fewer() -> None:
    rows = recorded_rows(SCHEMA, sample({"pixels": [[1, 2], [3, 4]]}, {"pixels": [[5, 6], [7, 8]], "scale": 2}))
    pixels, scale = warm_inputs(SCHEMA, rows, 3)
    assert (pixels.shape, list(pixels.data)) == ((3, 2, 2), [1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4])
    assert (scale.shape, list(scale.data)) == ((3,), [1.5, 2, 1.5])


def test_rows_of_other_inputs_or_sizes_stay_out_of_the_batch() -> None:
    with_colour = {"pixels": [[1, 2], [3, 4]], "colour": "red"}
    assert len(recorded_rows(SCHEMA, sample(with_colour, {"pixels": [[1, 2], [3, 4]]}, with_colour))) == 2
    words = ModelSchema(inputs=(TensorSpec("ids", DataType.INT64, (-1,)),))
    rows = recorded_rows(words, sample({"ids": [1, 2, 3]}, {"ids": [4]}, {"ids": [5, 6, 7]}))
    (ids,) = warm_inputs(words, rows, 2)
    assert (ids.shape, list(ids.data)) == ((2, 3), [1, 2, 3, 5, 6, 7])


@pytest.mark.parametrize("empty", [b"", sample(), sample({"colour": "red"}), sample({"pixels": [[1, 2]]})])
def test_where_no_row_fits_there_is_nothing_to_warm_up_with(empty: bytes) -> None:
    assert recorded_rows(SCHEMA, empty) == []
    assert warm_sizes(recorded_rows(SCHEMA, empty), 32) == ()


def test_sizes_are_those_of_batches_within_bounds() -> None:
    rows = recorded_rows(SCHEMA, sample({"pixels": [[1, 2], [3, 4]]}))
    assert [warm_sizes(rows, most) for most in (1, 8, 4096)] == [(1,), (1, 8), (1, 64)]
    large = ModelSchema(inputs=(TensorSpec("x", DataType.FP32, (VALUES_MAX,)),))
    assert warm_sizes([{"x": ((VALUES_MAX,), [])}], 32) == (1,)
    assert recorded_rows(large, sample({"x": [0]})) == []


class World:
    def __init__(self) -> None:
        clock = FakeClock()
        self.store = MemoryStore(clock)
        self.packages = FakePackages()
        self.server = FakeServer(self.packages)
        self.versions = FakeVersions({})
        self.versions.sample = sample({"X": [0.5] * 64}, {"X": [1.5] * 64})
        self.recipe = replace(recipe(), reference_digest="a" * 64)
        self.bringer = Bringer(
            store=self.store,
            versions=self.versions,
            fleet=Fleet({"triton-0": self.server}, nobody_outside),
            packages=self.packages,
            environments=FakeEnvironments(),
            clock=clock,
            threads_default=1,
            loads_max=1,
            board=CountingBoard(),
        )

    async def bring_up(self) -> str:
        """What is said of the warm-up."""
        new = NewDeployment("digits", "v1.0.0", "main", Wish(batching=Batching(max_batch_size=16)))
        made = await self.store.create(new, self.recipe)
        try:
            await self.bringer.bring_up(made, ["triton-0"])
        finally:
            (row,) = await self.store.every()
        return next(one.message for one in row.progress.conditions if one.type == "WarmedUp")


async def test_recorded_rows_are_asked_after_the_trial_and_before_it_answers() -> None:
    world = World()
    assert "2 recorded rows were answered too, in batches of 1 and 16" in await world.bring_up()
    assert world.server.asked == [2, 1, 16]


async def test_a_registry_that_is_away_keeps_nothing_from_being_loaded() -> None:
    world = World()
    world.versions.problem = MeshError(Reason.DEPENDENCY_UNAVAILABLE, "away")
    assert "could not be had (DEPENDENCY_UNAVAILABLE)" in await world.bring_up()
    assert set(world.server.loaded) == {"digits--v1.0.0"}


async def test_a_model_that_fails_on_recorded_rows_does_not_answer() -> None:
    world = World()

    def answers(_: str, rows: int) -> dict[str, TensorShape]:
        right = 10 if rows < 16 else 9
        return {"label": TensorShape("INT64", (rows,)), "probabilities": TensorShape("FP32", (rows, right))}

    world.server.answers = answers
    with pytest.raises(MeshError, match="probabilities") as refused:
        await world.bring_up()
    assert refused.value.reason is Reason.WARMUP_FAILED
    (row,) = await world.store.every()
    assert row.progress.loaded == {}
