"""When the number of replicas is decided anew, and on whose word."""

from dataclasses import replace

from services.common.signals import Signal
from services.deployer.domain.deployment import Autoscaling, Deployment, NewDeployment, Progress, Status, Wish
from services.deployer.domain.plan import Scale, ServerState
from services.deployer.domain.scaling import Load
from services.deployer.engines.demand import SILENT_S, Demand
from services.deployer.engines.scaling import Scaling
from tests.support.clock import NOON, FakeClock
from tests.support.deployer_fakes import recipe

NAME = ("digits", "v1.0.0")
SCALING = Autoscaling(enabled=True, max_replicas=8, target_concurrency=2, scale_down_stabilization_s=60)


class World:
    def __init__(self, servers: int = 1) -> None:
        self.clock = FakeClock()
        self.demand = Demand(clock=self.clock, changed=Signal())
        self.demand.keep({NAME})
        self.scaling = Scaling(demand=self.demand, clock=self.clock)
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


def test_the_load_of_all_batchers_counts_and_falls_to_the_servers_alike() -> None:
    world = World(servers=2)
    world.tell(3, by="one")
    world.tell(5, by="two")
    assert world.step() == 2
    world.clock.advance(16)
    world.tell(3, by="one")
    world.tell(5, by="two")
    assert world.step() is None


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
