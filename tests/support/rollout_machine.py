"""What may happen to two routers over one store, whatever kind of rollout they drive: the rules that random histories
of canaries and of A/B tests have in common."""

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

import looptime
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from services.common.clock import LoopClock
from services.common.errors import MeshError, Reason
from services.router.domain.rollouts import Mismatch, Rollout, RolloutEvent, Saved
from services.router.domain.rules import NewChange
from services.router.engines.changing import Call
from tests.support.rollout_fakes import MemoryRolloutStore
from tests.support.rollout_router import RolloutRouter, World
from tests.support.router_fakes import ready, without

T = TypeVar("T")
R = TypeVar("R", bound=RolloutRouter)
MODEL, OLD, NEW = "digits", "v1.0.0", "v1.1.0"
BOTH = ready(MODEL, OLD, NEW, deployments={OLD: "old", NEW: "new"})
NAMES = ("router-0", "router-1")
names = st.sampled_from(NAMES)
EXPECTED_REFUSALS = {
    Reason.DEPENDENCY_UNAVAILABLE,
    Reason.ROLLOUT_IN_PROGRESS,
    Reason.ROLLOUT_STATE_INVALID,
    Reason.ETAG_MISMATCH,
    Reason.TRAFFIC_RULE_NOT_FOUND,
    Reason.AB_TEST_NOT_FOUND,
    Reason.DEPLOYMENT_NOT_FOUND,
    Reason.VERSION_NOT_DEPLOYED,
    Reason.MODEL_NOT_SERVED,
}


class WatchedStore(MemoryRolloutStore):
    """Keeps the tokens of those who have written."""

    token = 0

    async def save(
        self,
        rollout: Rollout,
        *,
        generation: int,
        change: NewChange | None = None,
        rule_generation: int = 0,
        fence: int | None = None,
        events: Sequence[RolloutEvent] = (),
    ) -> Saved | Mismatch:
        """As the port says."""
        saved = await super().save(
            rollout,
            generation=generation,
            change=change,
            rule_generation=rule_generation,
            fence=fence,
            events=events,
        )
        if isinstance(saved, Saved) and fence is not None:
            assert fence >= self.token, "an earlier leader has written after a later one"
            self.token = fence
        return saved


class RolloutMachine(RuleBasedStateMachine, Generic[R]):
    """Two routers and their world, in virtual time."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = looptime.new_event_loop()
        self.faults = 0.0
        """The share of its requests that the new version fails."""
        self.world = World(LoopClock(datetime(2026, 1, 15, tzinfo=UTC)))
        self.store = WatchedStore(self.world.rule_store, self.world.leases, self.world.events)
        self.world.rollout_store = self.store
        self.world.deployer.put(BOTH)
        self.routers: dict[str, R] = {}
        for name in NAMES:
            self.run(self.started(name))
        self.run(self.live(2))

    @abstractmethod
    def new_router(self, name: str) -> R:
        """One that was not started yet."""

    @abstractmethod
    def asked_by_callers(self, split: Mapping[str, int]) -> None:
        """Has the monitor count what callers ask in a second, where these shares hold."""

    def run(self, work: Coroutine[object, object, T]) -> T:
        """What `work` returns."""
        return self.loop.run_until_complete(work)

    async def started(self, name: str) -> None:
        """A router that runs."""
        self.routers[name] = self.new_router(name)
        await self.routers[name].start()

    async def live(self, length_s: int) -> None:
        """Seconds in which callers ask, by the shares that hold."""
        for _ in range(length_s):
            await asyncio.sleep(1.0)
            self.asked_by_callers(await self.shares())

    async def shares(self) -> dict[str, int]:
        """Those that the rule gives."""
        kept = await self.world.rule_store.find(MODEL)
        return dict(kept.split.positive) if kept is not None else {OLD: 100}

    def asked(self, name: str, call: Callable[[R], Coroutine[Any, Any, object]]) -> bool:
        """Whether a call was answered."""
        if not self.routers[name].alive:
            return False
        try:
            self.run(asyncio.wait_for(call(self.routers[name]), 60.0))
        except TimeoutError:
            return False
        except MeshError as error:
            if error.reason not in EXPECTED_REFUSALS:
                raise
            return False
        return True

    def mended(self) -> None:
        """Everything works again."""
        self.faults, self.world.monitor.away = 0.0, False
        self.world.deployer.put(BOTH)
        for name, router in self.routers.items():
            router.set_lines()
            if not router.alive:
                self.run(self.started(name))

    def over(self) -> None:
        """The end: every event has arrived once."""
        taken = [event.event_id for event in self.world.monitor.taken]
        assert sorted(taken) == sorted({event.event_id for event in self.store.told})
        for router in self.routers.values():
            self.run(router.die())
        self.loop.close()

    @rule(length_s=st.sampled_from((1, 3, 8, 40)))
    def time_passes(self, length_s: int) -> None:
        """Nothing else happens."""
        self.run(self.live(length_s))

    @rule(name=names, version=st.sampled_from((OLD, NEW)))
    def traffic_is_rolled_back(self, name: str, version: str) -> None:
        """By hand."""
        self.asked(name, lambda router: router.traffic.roll_back(Call(MODEL, reason="enough"), version))

    @rule(there=st.booleans())
    def the_new_version_comes_and_goes(self, there: bool) -> None:
        """Its deployment does."""
        self.world.deployer.put(BOTH if there else without(BOTH, NEW))

    @rule(away=st.booleans())
    def the_monitor_comes_and_goes(self, away: bool) -> None:
        """For both routers."""
        self.world.monitor.away = away

    @rule(name=names, cut=st.booleans(), delay_s=st.sampled_from((0.0, 0.1, 4.0, 9.0)))
    def a_line_changes(self, name: str, cut: bool, delay_s: float) -> None:
        """All of a router's ways to the database."""
        self.routers[name].set_lines(cut=cut, delay_s=delay_s)

    @rule(name=names)
    def a_router_dies(self, name: str) -> None:
        """At once."""
        self.run(self.routers[name].die())

    @rule(name=names)
    def a_router_stops(self, name: str) -> None:
        """In order."""
        if self.routers[name].alive and not self.routers[name].lines["leases"].cut:
            self.run(self.routers[name].stop())

    @rule(name=names)
    def a_router_starts(self, name: str) -> None:
        """Another process of that name."""
        if not self.routers[name].alive:
            self.run(self.started(name))
