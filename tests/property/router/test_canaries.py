"""Canaries against whatever may happen, in virtual time, with two routers over one store.

Routers die, stop, are cut off from the database or so slow that their lease ends under way; the monitor goes away; the
new version fails, gets no requests, goes away; people pause, resume, promote, abort, roll back. At all times the shares
are those of the stage while a canary governs, and those before it once it failed; whoever has lost the lease changes
nothing. In the end, with everything mended, a canary that keeps its limits has all traffic, and every event has arrived
once.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from datetime import UTC, datetime
from typing import TypeVar

import looptime
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.common.clock import LoopClock
from services.common.errors import MeshError, Reason
from services.router.domain.canary import Canary
from services.router.domain.canary_document import canary_of
from services.router.domain.canary_steps import stage_shares
from services.router.domain.canary_wish import CanaryWish, StageWish
from services.router.domain.criteria import SuccessCriteria
from services.router.domain.rollouts import Mismatch, Rollout, RolloutEvent, RolloutKind, Saved
from services.router.domain.rules import NewChange
from services.router.domain.wishes import SplitWish
from services.router.engines.changing import Call
from tests.support.rollout_fakes import MemoryRolloutStore
from tests.support.rollout_router import RolloutRouter, World
from tests.support.router_fakes import ready, without

T = TypeVar("T")
MODEL, OLD, NEW = "digits", "v1.0.0", "v1.1.0"
BOTH = ready(MODEL, OLD, NEW, deployments={OLD: "old", NEW: "new"})
WISH = CanaryWish(
    (StageWish(10, 0.5), StageWish(50, 0.25), StageWish(100, 0.0)),
    SuccessCriteria(error_rate_max=0.05, requests_min=50),
    hold_minutes_max=1.0,
)
NAMES = ("router-0", "router-1")
names = st.sampled_from(NAMES)
EXPECTED_REFUSALS = {
    Reason.DEPENDENCY_UNAVAILABLE,
    Reason.ROLLOUT_IN_PROGRESS,
    Reason.ROLLOUT_STATE_INVALID,
    Reason.ETAG_MISMATCH,
    Reason.TRAFFIC_RULE_NOT_FOUND,
    Reason.DEPLOYMENT_NOT_FOUND,
    Reason.VERSION_NOT_DEPLOYED,
    Reason.MODEL_NOT_SERVED,
}


class WatchedStore(MemoryRolloutStore):
    """Keeps the tokens of those who have written."""

    machine: "CanaryMachine"

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
            assert fence >= self.machine.token, "an earlier leader has written after a later one"
            self.machine.token = fence
        return saved


class CanaryMachine(RuleBasedStateMachine):
    """Two routers and their world."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = looptime.new_event_loop()
        self.token = 0
        self.faults = 0.0
        self.rate = 100
        self.dropped = 0
        self.world = World(LoopClock(datetime(2026, 1, 15, tzinfo=UTC)))
        store = WatchedStore(self.world.rule_store, self.world.leases, self.world.events)
        store.machine = self
        self.world.rollout_store = store
        self.store = store
        self.world.deployer.put(BOTH)
        self.routers: dict[str, RolloutRouter] = {}
        for name in NAMES:
            self.run(self.started(name))
        self.run(self.live(2))

    def run(self, work: Coroutine[object, object, T]) -> T:
        return self.loop.run_until_complete(work)

    async def started(self, name: str) -> None:
        self.routers[name] = RolloutRouter(self.world, name)
        await self.routers[name].start()

    async def live(self, length_s: int) -> None:
        """Seconds in which callers ask, by the shares that hold."""
        for _ in range(length_s):
            await asyncio.sleep(1.0)
            split = await self.shares()
            seen = {version: self.rate * share // 100 for version, share in split.items()}
            self.world.monitor.count(
                {
                    version: (count, round(count * self.faults) if version == NEW else 0)
                    for version, count in seen.items()
                },
                dropped=self.dropped,
            )

    async def leaders(self) -> int:
        return len([router for router in self.routers.values() if router.leadership.leader])

    async def shares(self) -> dict[str, int]:
        kept = await self.world.rule_store.find(MODEL)
        return dict(kept.split.positive) if kept is not None else {OLD: 100}

    def newest(self) -> tuple[Rollout, Canary] | None:
        found = self.run(self.store.page(MODEL, RolloutKind.CANARY, limit=1))
        return (found[0], canary_of(found[0])) if found else None

    # --- what happens

    @rule(length_s=st.sampled_from((1, 3, 8, 40)))
    def time_passes(self, length_s: int) -> None:
        self.run(self.live(length_s))

    @rule(name=names)
    def a_canary_is_started(self, name: str) -> None:
        if self.asked(
            name, lambda router: router.canaries.starts.start(Call(MODEL, "new", actor="ada"), SplitWish(), WISH)
        ):
            found = self.newest()
            assert found is not None
            assert found[1].running

    @rule(name=names, how=st.sampled_from(("pause", "resume", "promote", "abort")))
    def a_canary_is_led_by_hand(self, name: str, how: str) -> None:
        if not self.asked(name, lambda router: getattr(router.canaries, how)(Call(MODEL, actor="ada", reason="so"))):
            return
        found = self.newest()
        assert found is not None
        status = {"pause": "paused", "resume": "running", "promote": "promoted", "abort": "aborted"}[how]
        assert found[1].status == status

    @rule(name=names, version=st.sampled_from((OLD, NEW)))
    def traffic_is_rolled_back(self, name: str, version: str) -> None:
        self.asked(name, lambda router: router.traffic.roll_back(Call(MODEL, reason="enough"), version))

    @rule(faults=st.sampled_from((0.0, 0.5)))
    def the_new_version_behaves(self, faults: float) -> None:
        self.faults = faults

    @rule(rate=st.sampled_from((0, 10, 100)), dropped=st.sampled_from((0, 100)))
    def callers_come_and_go(self, rate: int, dropped: int) -> None:
        self.rate, self.dropped = rate, dropped

    @rule(there=st.booleans())
    def the_new_version_comes_and_goes(self, there: bool) -> None:
        self.world.deployer.put(BOTH if there else without(BOTH, NEW))

    @rule(away=st.booleans())
    def the_monitor_comes_and_goes(self, away: bool) -> None:
        self.world.monitor.away = away

    @rule(name=names, cut=st.booleans(), delay_s=st.sampled_from((0.0, 0.1, 4.0, 9.0)))
    def a_line_changes(self, name: str, cut: bool, delay_s: float) -> None:
        self.routers[name].set_lines(cut=cut, delay_s=delay_s)

    @rule(name=names)
    def a_router_dies(self, name: str) -> None:
        self.run(self.routers[name].die())

    @rule(name=names)
    def a_router_stops(self, name: str) -> None:
        if self.routers[name].alive and not self.routers[name].lines["leases"].cut:
            self.run(self.routers[name].stop())

    @rule(name=names)
    def a_router_starts(self, name: str) -> None:
        if not self.routers[name].alive:
            self.run(self.started(name))

    def asked(self, name: str, call: object) -> bool:
        """Whether a call was answered."""
        if not self.routers[name].alive:
            return False
        try:
            self.run(asyncio.wait_for(call(self.routers[name]), 60.0))  # type: ignore[operator]
        except TimeoutError:
            return False
        except MeshError as error:
            if error.reason not in EXPECTED_REFUSALS:
                raise
            return False
        return True

    # --- what must hold

    @invariant()
    def shares_are_those_of_the_stage(self) -> None:
        found, kept = self.newest(), self.run(self.world.rule_store.find(MODEL))
        if found is None or kept is None:
            return
        _, canary = found
        if kept.governing:
            assert canary.running
            assert kept.governing == canary.name
            assert kept.split.positive == {version: share for version, share in stage_shares(canary).items() if share}

    @invariant()
    def a_canary_that_failed_gave_everything_back(self) -> None:
        for rollout in self.run(self.store.page(MODEL, RolloutKind.CANARY, limit=1000)):
            canary = canary_of(rollout)
            ends = [event for event in self.store.told if event.subject == canary.canary_id]
            assert len([event for event in ends if event.kind != "canary_held"]) == (0 if canary.running else 1)
            assert len({event.event_id for event in ends}) == len(ends)
            assert len(canary.history) >= canary.stage
            assert (rollout.ended_at is None) is canary.running

    def teardown(self) -> None:
        """Everything is mended, and goes on."""
        self.faults, self.rate, self.dropped, self.world.monitor.away = 0.0, 100, 0, False
        self.world.deployer.put(BOTH)
        for name, router in self.routers.items():
            router.set_lines()
            if not router.alive:
                self.run(self.started(name))
        self.run(self.live(20))
        # What has been seen to fail may condemn it yet, and what was held may be over.
        self.run(self.live(180))
        found = self.newest()
        if found is not None and found[1].status == "paused":
            assert self.asked(NAMES[0], lambda router: router.canaries.abort(Call(MODEL)))
            self.run(self.live(5))
        found = self.newest()
        assert found is None or not found[1].running
        assert self.asked(NAMES[0], lambda router: router.traffic.roll_back(Call(MODEL), OLD))
        self.run(self.live(2))
        assert self.asked(NAMES[1], lambda router: router.canaries.starts.start(Call(MODEL, "new"), SplitWish(), WISH))
        self.run(self.live(90))
        found = self.newest()
        assert found is not None
        assert found[1].status == "promoted", found
        self.run(self.live(3))
        for router in self.routers.values():
            assert router.shares(MODEL) == {NEW: 100}
        taken = [event.event_id for event in self.world.monitor.taken]
        assert sorted(taken) == sorted({event.event_id for event in self.store.told})
        assert self.run(self.leaders()) == 1
        for router in self.routers.values():
            self.run(router.die())
        self.loop.close()


TestCanaries = CanaryMachine.TestCase
TestCanaries.settings = settings(
    max_examples=15, stateful_step_count=20, suppress_health_check=[HealthCheck.too_slow], deadline=None
)
