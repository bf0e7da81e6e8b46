"""What a deployment says while the environment that its version needs is installed."""

from dataclasses import replace
from pathlib import Path

import pytest

from services.common.errors import MeshError, Reason
from services.deployer.domain.deployment import Condition, NewDeployment, Wish
from services.deployer.domain.package import Served, Stated
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


class World:
    """One deployment of a scikit-learn version, and all that brings it up."""

    def __init__(self, framework: str = "sklearn") -> None:
        clock = FakeClock()
        self.recipe = recipe(framework=framework)
        self.store = MemoryStore(clock)
        self.packages = FakePackages()
        self.environments = FakeEnvironments()
        self.server = FakeServer(self.packages)
        self.board = CountingBoard()
        self.told: list[Condition] = []
        self.bringer = Bringer(
            store=self.store,
            versions=FakeVersions({}),
            fleet=Fleet({"triton-0": self.server}, nobody_outside),
            packages=self.packages,
            environments=self.environments,
            clock=clock,
            threads_default=1,
            loads_max=1,
            board=self.board,
        )

    async def bring_up(self) -> None:
        made = await self.store.create(NewDeployment("digits", "v1.0.0", "main", Wish()), self.recipe)
        recorded = self.store.record

        async def record(deployment, progress):  # type: ignore[no-untyped-def]
            self.told += [one for one in progress.conditions if one.type == "Environment" and one not in self.told]
            await recorded(deployment, progress)

        self.store.record = record  # type: ignore[method-assign]
        await self.bringer.bring_up(made, ["triton-0"])


async def test_the_environment_is_a_condition_from_its_first_word_on() -> None:
    world = World()
    world.packages.stated = Stated(("scikit-learn==0.9", "mlflow"), module=True)
    await world.bring_up()
    assert [(one.status, one.reason) for one in world.told] == [(False, "Building"), (True, "Environment")]
    assert world.told[0].message == "building for sklearn"
    assert "left out: mlflow (no part of sklearn)" in world.told[1].message
    (built,) = world.environments.ensured
    assert "scikit-learn==0.9" in built.requirements
    assert world.packages.links == {"digits--v1.0.0": Path("/environments/sklearn")}
    assert set(world.server.loaded) == {"digits--v1.0.0"}
    assert len(world.board.seconds) == 1


async def test_the_metadata_and_the_frameworks_version_are_honoured() -> None:
    world = World()
    world.recipe = replace(world.recipe, requirements=("numpy<1.25",), framework_version="0.8.0")
    await world.bring_up()
    (built,) = world.environments.ensured
    assert built.requirements[:1] == ("numpy<1.25,<2",)
    assert "scikit-learn==0.8.0" in built.requirements


@pytest.mark.parametrize("reason", [Reason.ENVIRONMENT_FAILED, Reason.DEPENDENCY_UNAVAILABLE])
async def test_what_cannot_be_installed_is_said_and_nothing_is_loaded(reason: Reason) -> None:
    world = World()
    world.environments.problem = MeshError(reason, "why, and what to do")
    with pytest.raises(MeshError):
        await world.bring_up()
    assert (world.told[-1].reason, world.told[-1].message) == (reason.value, "why, and what to do")
    assert world.server.loads == 0
    assert world.board.seconds == []


async def test_a_requirement_that_is_an_option_fails_before_anything_is_installed() -> None:
    world = World("python")
    world.packages.stated = Stated(("--index-url https://elsewhere",), module=False)
    with pytest.raises(MeshError, match="no options of pip"):
        await world.bring_up()
    assert (world.told[-1].status, world.told[-1].reason) == (False, "ARTIFACT_INVALID")
    assert world.environments.ensured == []


async def test_a_database_that_hiccups_does_not_end_a_build() -> None:
    world = World()
    recorded, failures = world.store.record, [MeshError(Reason.DEPENDENCY_UNAVAILABLE, "away for a moment")]

    async def record(deployment, progress):  # type: ignore[no-untyped-def]
        building = any(one.reason == "Building" for one in progress.conditions)
        if building and failures:
            raise failures.pop()
        await recorded(deployment, progress)

    world.store.record = record  # type: ignore[method-assign]
    await world.bring_up()
    assert failures == []
    assert set(world.server.loaded) == {"digits--v1.0.0"}


async def test_onnx_needs_none() -> None:
    world = World("onnx")
    await world.bring_up()
    assert world.told == []
    assert world.environments.ensured == []


async def packaged(served: Served) -> tuple[World, str]:
    """A deployment that was brought up, and what its condition Packaged says at the end."""
    world = World()
    world.packages.runs = served
    await world.bring_up()
    (made,) = await world.store.every()
    return world, next(one.message for one in made.progress.conditions if one.type == "Packaged")


async def test_what_a_native_backend_runs_needs_no_environment_and_says_so() -> None:
    world, said = await packaged(Served("fil"))
    assert said.endswith("its artifact's digest is right; Triton's fil backend runs it")
    assert world.told == []
    assert world.environments.ensured == []
    assert set(world.server.loaded) == {"digits--v1.0.0"}


async def test_what_the_runner_runs_although_there_are_native_backends_says_why() -> None:
    world, said = await packaged(Served(because="it averages its trees"))
    assert said.endswith("; the python runner runs it: it averages its trees")
    assert len(world.environments.ensured) == 1
    _, plain = await packaged(Served())
    assert plain.endswith("its artifact's digest is right")
