"""When the number of replicas is decided anew, and on whose word."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from services.common.signals import Signal
from services.deployer.domain.deployment import (
    Autoscaling,
    Deployment,
    NewDeployment,
    Progress,
    Resources,
    ServingOptions,
    Status,
    Wish,
)
from services.deployer.domain.plan import Explain, Scale, ServerState
from services.deployer.domain.scaling import Load
from services.deployer.domain.usage import CopyUse
from services.deployer.engines.demand import SILENT_S, Demand
from services.deployer.engines.usage import SAMPLE_EVERY_S
from tests.support.clock import NOON, FakeClock
from tests.support.deployer_fakes import recipe
from tests.support.scaling_fakes import ScalingParts

NAME = ("digits", "v1.0.0")
SCALING = Autoscaling(enabled=True, max_replicas=8, target_concurrency=2, scale_down_stabilization_s=60)


class World:
    def __init__(self, servers: int = 1) -> None:
        self.clock = FakeClock()
        self.demand = Demand(clock=self.clock, changed=Signal())
        self.demand.keep({NAME})
        self.parts = ScalingParts(self.demand, self.clock)
        self.scaling = self.parts.scaling
        wish = Wish(autoscaling=SCALING)
        names = [f"triton-{number}" for number in range(servers)]
        progress = Progress(status=Status.ACTIVE, loaded=dict.fromkeys(names, "f"))
        self.deployment = Deployment("id", NewDeployment(*NAME, "main", wish), recipe(), wish, progress, 1, NOON, NOON)
        self.observed = {name: ServerState(up=True, ready=frozenset({"digits--v1.0.0"})) for name in names}

    def tell(self, in_flight: float, by: str = "batcher-0") -> None:
        self.demand.report(by, 2.0, {NAME: Load(in_flight=in_flight)})

    def step(self) -> int | None:
        """The number that it goes to, as the loop would have it go."""
        step = self.scaling.step(self.deployment, self.observed)
        if step is None:
            return None
        assert isinstance(step, Scale)
        self.scaling.scaled(self.deployment)
        self.deployment = replace(self.deployment, progress=replace(self.deployment.progress, replicas=step.replicas))
        return step.replicas


def test_each_word_of_the_batchers_decides_once() -> None:
    world = World()
    assert world.step() is None
    world.tell(8)
    assert (world.step(), world.step()) == (2, None)
    world.clock.advance(16)
    world.tell(8)
    assert world.step() == 4


def test_the_load_of_all_batchers_counts_against_the_replicas_of_all_servers() -> None:
    world = World(servers=2)
    for replicas in (2, 4, None):
        world.tell(3, by="one")
        world.tell(5, by="two")
        assert world.step() == replicas
        world.clock.advance(16)


def test_while_a_batcher_is_silent_nothing_is_decided() -> None:
    world = World()
    world.tell(8, by="one")
    world.clock.advance(SILENT_S + 1)
    world.tell(8, by="two")
    assert world.step() is None


def test_after_a_restart_nothing_falls_before_a_whole_window_was_seen() -> None:
    world = World()
    world.deployment = replace(world.deployment, progress=replace(world.deployment.progress, replicas=4))
    for _ in range(5):
        world.tell(0)
        assert world.step() is None
        world.clock.advance(10)
    world.clock.advance(10)
    world.tell(0)
    assert world.step() == 2


def test_what_sleeps_or_has_no_server_or_no_target_stays_as_it_is() -> None:
    world = World()
    awake = world.deployment
    for deployment, observed in (
        (replace(awake, progress=replace(awake.progress, asleep_since=NOON)), world.observed),
        (replace(awake, wish=Wish(autoscaling=replace(SCALING, target_concurrency=0))), world.observed),
        (awake, {"triton-0": ServerState()}),
    ):
        world.tell(100)
        assert world.scaling.step(deployment, observed) is None


class CpuWorld(World):
    """A deployment of two instances a replica, each with a core, and CPU measured on its servers."""

    def __init__(self, scaling: Autoscaling, servers: int = 1, **resources: str) -> None:
        super().__init__(servers)
        wish = Wish(Resources(**resources), scaling, serving=ServingOptions(instances=2))  # type: ignore[arg-type]
        self.deployment = replace(self.deployment, wish=wish)
        self.parts.scaling.look([self.deployment])

    def use(self, *cores: float, replicas: int = 1) -> None:
        """So much is used on each server from now on, by twice so many copies."""
        uses = [{"digits--v1.0.0": CopyUse(used, 2 * replicas)} for used in cores]
        self.parts.copies.uses = {f"triton-{number}": use for number, use in enumerate(uses)}

    async def measured(self) -> Scale | Explain | None:
        """A sample is taken, a batcher tells, and it is decided."""
        self.clock.advance(SAMPLE_EVERY_S)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        self.tell(0)
        self.parts.scaling.look([self.deployment])
        step = self.parts.scaling.step(self.deployment, self.observed)
        if isinstance(step, Scale):
            self.parts.scaling.scaled(self.deployment)
            progress = replace(self.deployment.progress, replicas=step.replicas)
            self.deployment = replace(self.deployment, progress=progress)
        return step

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """CPU and GPU are measured."""
        task = asyncio.create_task(self.parts.usage.run())
        await asyncio.sleep(0)
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


CPU = Autoscaling(enabled=True, max_replicas=8, target_cpu_percent=50, scale_down_stabilization_s=30)


async def test_replicas_follow_the_cpu_that_their_copies_use() -> None:
    world = CpuWorld(CPU)
    async with world.running():
        world.use(1.6)
        # What began before it was first looked at does not count.
        assert await world.measured() is None
        assert await world.measured() == Scale(2, "80 % CPU of 50")
        # Of the copies that are there now the first whole sample is the next but one.
        world.use(3.2, replicas=2)
        assert await world.measured() is None
        assert await world.measured() == Scale(4, "80 % CPU of 50")
        world.use(0.4, replicas=4)
        # One until it is measured, and the window.
        assert [await world.measured() for _ in range(3)] == [None] * 3
        assert await world.measured() == Scale(2, "no more were wanted: 5 % CPU of 50")


async def test_what_a_replica_may_use_is_stated_or_a_core_for_each_thread() -> None:
    world = CpuWorld(CPU, cpu="500m")
    async with world.running():
        world.use(0.4)
        await world.measured()
        assert await world.measured() == Scale(2, "80 % CPU of 50")


async def test_servers_count_together_and_those_that_cannot_be_seen_do_not() -> None:
    world = CpuWorld(CPU, servers=3)
    async with world.running():
        world.use(0.4, 2.8)
        await world.measured()
        assert await world.measured() == Scale(2, "80 % CPU of 50")


async def test_cpu_that_cannot_be_seen_is_said_and_the_other_targets_act() -> None:
    world = CpuWorld(replace(CPU, target_concurrency=2))
    async with world.running():
        said = await world.measured()
        assert said == Explain(
            "CpuUnknown",
            "1 replicas; target_cpu_percent does not act: the model servers' processes cannot be seen from here",
            acts=True,
        )
        world.tell(8)
        assert isinstance(step := world.parts.scaling.step(world.deployment, world.observed), Scale)
        assert (step.replicas, step.reason) == (2, "Load")
        assert step.why.startswith("8 requests at once a replica of 2; target_cpu_percent does not act")
    world = CpuWorld(CPU)
    async with world.running():
        said = await world.measured()
        assert isinstance(said, Explain)
        assert not said.acts


async def test_while_cpu_is_being_measured_nothing_falls() -> None:
    world = CpuWorld(replace(CPU, target_concurrency=2, scale_down_stabilization_s=0))
    progress = replace(world.deployment.progress, replicas=4)
    world.deployment = replace(world.deployment, progress=progress)
    for _ in range(3):
        world.clock.advance(2)
        world.tell(0)
        assert world.parts.scaling.step(world.deployment, world.observed) is None
    world.use(0.1, replicas=4)
    async with world.running():
        assert await world.measured() == Scale(2, "no more were wanted: 1.25 % CPU of 50")


async def test_replicas_follow_how_busy_the_gpus_are_where_servers_report_it() -> None:
    world = CpuWorld(replace(CPU, target_cpu_percent=0, target_gpu_percent=60))
    async with world.running():
        said = await world.measured()
        assert isinstance(said, Explain)
        assert (said.reason, said.acts) == ("GpuUnknown", False)
        world.parts.gpus.percents = {"triton-0": 90.0, "triton-9": 5.0}
        step = await world.measured()
        assert step == Scale(2, "90 % GPU of 60")
        assert await world.measured() is None


async def test_nothing_is_measured_for_nobody() -> None:
    world = CpuWorld(replace(CPU, target_cpu_percent=0, target_concurrency=2))
    async with world.running():
        for _ in range(3):
            await world.measured()
    assert world.parts.copies.samples == 0
