"""When the pool moves things, and by what it knows of memory."""

from collections.abc import Collection
from dataclasses import replace
from math import inf

from services.common.signals import Signal
from services.deployer.domain.deployment import (
    Deployment,
    NewDeployment,
    Progress,
    Resources,
    ServingOptions,
    Status,
    Wish,
)
from services.deployer.domain.memory import ServerMemory, guess_bytes, taken
from services.deployer.domain.placement import Shortage
from services.deployer.domain.plan import ServerState
from services.deployer.domain.scaling import Load
from services.deployer.engines.demand import DECAY_S, Demand
from services.deployer.engines.memories import Memories
from services.deployer.engines.pool import PATIENCE_S, Pool, PoolOptions
from tests.support.clock import NOON, FakeClock
from tests.support.deployer_fakes import recipe

MB = 1e6
SERVERS = ("triton-0", "triton-1")


class World:
    """Two servers, and deployments of 100 MB a replica."""

    def __init__(self, limit_bytes: float = inf) -> None:
        self.clock = FakeClock()
        self.demand = Demand(clock=self.clock, changed=Signal())
        self.rows: dict[str, Deployment] = {}
        self.ready: dict[str, set[str]] = {name: set() for name in SERVERS}
        self.down: set[str] = set()
        self.limit_bytes = limit_bytes
        self.start()

    def start(self) -> None:
        memories = Memories({}, clock=self.clock)
        options = PoolOptions(dict.fromkeys(SERVERS, self.limit_bytes), drain_s=3)
        self.pool = Pool(SERVERS, demand=self.demand, memories=memories, clock=self.clock, options=options)

    def add(self, model: str, *servers: str, replicas: int = 1, pinned: bool = False) -> None:
        """A deployment that answers on these servers; on none: that is new."""
        wish = Wish(resources=Resources(replicas=replicas), serving=ServingOptions(pinned=pinned))
        progress = Progress(memory_bytes=100 * MB, load_time_ms=1000)
        if servers:
            progress = replace(
                progress,
                status=Status.ACTIVE,
                loaded=dict.fromkeys(servers, "f"),
                observed_generation=1,
                traffic_routed=True,
            )
        new = NewDeployment(model, "v1.0.0", "main", wish)
        self.rows[model] = Deployment(model, new, recipe(), wish, progress, 1, NOON, NOON)
        for name in servers:
            self.ready[name].add(f"{model}--v1.0.0")

    def change(self, model: str, **progress: object) -> None:
        row = self.rows[model]
        self.rows[model] = replace(row, progress=replace(row.progress, **progress))  # type: ignore[arg-type]

    def look(self, busy: Collection[str] = (), *, seconds: float = 0.0) -> None:
        self.clock.advance(seconds)
        self.demand.keep({(model, "v1.0.0") for model in self.rows})
        observed = {
            name: ServerState() if name in self.down else ServerState(True, frozenset(self.ready[name]))
            for name in SERVERS
        }
        self.pool.decide(list(self.rows.values()), observed, busy)

    def servers(self, model: str) -> set[str]:
        return set(self.pool.berth(self.rows[model]).servers)


def test_replicas_are_spread_and_a_restart_moves_nothing() -> None:
    world = World()
    world.add("one", "triton-1")
    world.add("two", replicas=2)
    world.add("three", replicas=3)
    world.look()
    assert world.servers("one") == {"triton-1"}
    for model, copies in (("two", 1), ("three", 2)):
        berth = world.pool.berth(world.rows[model])
        assert (berth.servers, berth.spread, berth.copies) == (frozenset(SERVERS), 2, copies)
    world.start()
    world.look()
    assert world.servers("one") == {"triton-1"}


def test_a_server_that_is_away_for_a_moment_is_counted_on_and_then_others_take_over() -> None:
    world = World()
    world.add("one", "triton-1")
    world.down.add("triton-1")
    world.look()
    world.look(seconds=PATIENCE_S - 0.1)
    assert world.servers("one") == {"triton-1"}
    world.look(seconds=0.2)
    assert world.servers("one") == {"triton-0"}
    # Where none is left it waits for where it was.
    world.down.add("triton-0")
    world.look(seconds=PATIENCE_S + 1)
    world.look(seconds=PATIENCE_S + 1)
    assert world.servers("one") == {"triton-0"}


def test_what_was_left_is_unloaded_once_it_has_drained_and_not_while_it_is_worked_on() -> None:
    world = World()
    world.add("one", "triton-1")
    world.ready["triton-0"].add("one--v1.0.0")
    world.look()
    world.look(seconds=2.9)
    assert world.pool.berth(world.rows["one"]).drained == ()
    world.look(busy={"one"}, seconds=0.2)
    assert world.pool.berth(world.rows["one"]).drained == ()
    world.look()
    world.look(seconds=3.1)
    assert world.pool.berth(world.rows["one"]).drained == ("triton-0",)
    assert list(world.pool.concerned(world.rows["one"])) == list(SERVERS)


def test_what_is_asked_for_least_makes_room_and_what_is_pinned_or_worked_on_does_not() -> None:
    world = World(limit_bytes=240 * MB)
    world.add("pinned", "triton-0", pinned=True)
    world.add("hot", "triton-0")
    world.add("busy", "triton-1")
    world.add("quiet", "triton-1")
    world.look()
    for _ in range(60):
        world.demand.report("batcher-0", 2.0, {("hot", "v1.0.0"): Load(requests_per_s=10)})
        world.look(seconds=2)
    world.add("new")
    world.look(busy={"busy"})
    berth = world.pool.berth(world.rows["new"])
    assert (berth.servers, berth.short) == (frozenset(), Shortage.LEAVING)
    assert world.pool.berth(world.rows["quiet"]).evicted == "it made room for new--v1.0.0"
    assert all(world.pool.berth(world.rows[model]).evicted is None for model in ("pinned", "hot", "busy"))
    world.change("quiet", asleep_since=NOON)
    world.ready["triton-1"].remove("quiet--v1.0.0")
    world.add("huge", replicas=2)
    world.change("huge", memory_bytes=900 * MB)
    world.look()
    assert world.servers("new") == {"triton-1"}
    assert world.pool.berth(world.rows["huge"]).short is Shortage.EXHAUSTED


def test_demand_fades() -> None:
    world = World()
    name = ("one", "v1.0.0")
    world.add("one", "triton-0")
    for _ in range(1000):
        world.demand.report("batcher-0", 2.0, {name: Load(requests_per_s=5)})
        world.look(seconds=2)
    assert 4.9 < world.demand.rate_per_s(name) < 5.1
    world.look(seconds=DECAY_S)
    assert 5 / 3 < world.demand.rate_per_s(name) < 5 / 2.5
    assert world.demand.waits_s(name) == 0
    world.demand.want(name)
    world.clock.advance(1)
    world.demand.want(name)
    world.clock.advance(1)
    assert world.demand.waits_s(name) == 2


def test_what_a_model_takes_is_its_processes_or_what_the_server_has_grown_by() -> None:
    before = ServerMemory(30 * MB, {})
    assert taken("m", before, ServerMemory(31 * MB, {"m": 40 * MB})) == 40 * MB
    assert taken("m", before, ServerMemory(90 * MB, {})) == 60 * MB
    assert taken("m", before, ServerMemory(29 * MB, {})) is None
    assert taken("m", before, None) is None
    large = replace(recipe(), artifact_bytes=500_000_000)
    assert guess_bytes(large) > 500 * MB > guess_bytes(recipe()) > 0
