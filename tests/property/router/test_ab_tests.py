"""A/B tests against whatever may happen, in virtual time, with two routers over one store.

Routers die, are cut off from the database or so slow that their lease ends under way; the monitor goes away; a version
fails or goes away; people stop, conclude, roll back. At all times the shares are those of the test while it governs;
whoever has lost the lease changes nothing; every test that ended has said so once. In the end, with everything mended,
a test runs to its time and gives the shares back, or the traffic to who won.
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
from services.router.domain.ab_document import ab_test_of, shown_by
from services.router.domain.ab_test import AbTest, AbTestWish
from services.router.domain.rollouts import Mismatch, Rollout, RolloutEvent, RolloutKind, Saved
from services.router.domain.rules import NewChange
from services.router.engines.changing import Call
from tests.support.ab_test_router import AbTestRouter
from tests.support.rollout_fakes import MemoryRolloutStore
from tests.support.rollout_router import World
from tests.support.router_fakes import ready, without

T = TypeVar("T")
MODEL, OLD, NEW = "digits", "v1.0.0", "v1.1.0"
BOTH = ready(MODEL, OLD, NEW, deployments={OLD: "old", NEW: "new"})
LENGTH_S = 60.0
NAMES = ("router-0", "router-1")
names = st.sampled_from(NAMES)
EXPECTED_REFUSALS = {
    Reason.DEPENDENCY_UNAVAILABLE,
    Reason.ROLLOUT_IN_PROGRESS,
    Reason.ROLLOUT_STATE_INVALID,
    Reason.ETAG_MISMATCH,
    Reason.AB_TEST_NOT_FOUND,
    Reason.VERSION_NOT_DEPLOYED,
    Reason.MODEL_NOT_SERVED,
}


def wish(name: str, *, auto_promote: bool = False) -> AbTestWish:
    return AbTestWish(
        name,
        {OLD: 50, NEW: 50},
        duration_days=LENGTH_S / 86_400,
        metrics=("error_rate",),
        rollback_on_error_rate=0.2,
        auto_promote=auto_promote,
    )


class WatchedStore(MemoryRolloutStore):
    """Keeps the tokens of those who have written."""

    machine: "AbTestMachine"

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


class AbTestMachine(RuleBasedStateMachine):
    """Two routers and their world."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = looptime.new_event_loop()
        self.token = 0
        self.faults = 0.0
        self.made = 0
        self.world = World(LoopClock(datetime(2026, 1, 15, tzinfo=UTC)))
        store = WatchedStore(self.world.rule_store, self.world.leases, self.world.events)
        store.machine = self
        self.world.rollout_store = store
        self.store = store
        self.world.deployer.put(BOTH)
        self.routers: dict[str, AbTestRouter] = {}
        for name in NAMES:
            self.run(self.started(name))
        self.run(self.live(2))
        assert self.asked(NAMES[0], lambda router: router.traffic.roll_back(Call(MODEL), OLD))

    def run(self, work: Coroutine[object, object, T]) -> T:
        return self.loop.run_until_complete(work)

    async def started(self, name: str) -> None:
        self.routers[name] = AbTestRouter(self.world, name)
        await self.routers[name].start()

    async def live(self, length_s: int) -> None:
        """Seconds in which callers ask, by the shares that hold; the old version fails 2 % of them."""
        for _ in range(length_s):
            await asyncio.sleep(1.0)
            split = await self.shares()
            self.world.monitor.count(
                {
                    version: (2 * share, round(2 * share * (self.faults if version == NEW else 0.02)))
                    for version, share in split.items()
                }
            )

    async def shares(self) -> dict[str, int]:
        kept = await self.world.rule_store.find(MODEL)
        return dict(kept.split.positive) if kept is not None else {}

    def tests(self) -> list[tuple[Rollout, AbTest]]:
        return [(one, ab_test_of(one)) for one in self.run(self.store.page(MODEL, RolloutKind.AB_TEST, limit=1000))]

    # --- what happens

    @rule(length_s=st.sampled_from((1, 3, 8, 40)))
    def time_passes(self, length_s: int) -> None:
        self.run(self.live(length_s))

    @rule(name=names, auto_promote=st.booleans())
    def a_test_is_created(self, name: str, auto_promote: bool) -> None:
        self.made += 1
        asked = wish(f"test-{self.made}", auto_promote=auto_promote)
        if self.asked(name, lambda router: router.ab_tests.create(Call(MODEL, actor="ada"), asked)):
            assert self.tests()[0][1].running

    @rule(name=names, promote=st.sampled_from((None, "", NEW)))
    def a_test_is_ended_by_hand(self, name: str, promote: str | None) -> None:
        test, call = f"test-{self.made}", Call(MODEL, actor="ada", reason="so")
        if promote is None:
            done = self.asked(name, lambda router: router.ab_tests.stop(call, test))
        else:
            done = self.asked(name, lambda router: router.ab_tests.conclude(call, test, promote=promote))
        if done:
            _, newest = self.tests()[0]
            assert newest.status == ("stopped" if promote is None else "completed")
            if promote:
                assert self.run(self.shares()) == {promote: 100}

    @rule(name=names, version=st.sampled_from((OLD, NEW)))
    def traffic_is_rolled_back(self, name: str, version: str) -> None:
        self.asked(name, lambda router: router.traffic.roll_back(Call(MODEL, reason="enough"), version))

    @rule(faults=st.sampled_from((0.0, 0.02, 0.5)))
    def the_new_version_behaves(self, faults: float) -> None:
        self.faults = faults

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
    def shares_are_those_of_the_test_that_governs(self) -> None:
        kept = self.run(self.world.rule_store.find(MODEL))
        if kept is None or not kept.governing:
            return
        _, test = next(one for one in self.tests() if one[1].name == kept.governing)
        assert test.running
        assert kept.split.positive == test.plan.versions
        assert (kept.split.strategy, kept.split.sticky_header) == ("sticky", "x-user-id")

    @invariant()
    def every_end_is_told_once(self) -> None:
        told = [event.subject for event in self.store.told if event.kind == "ab_test_ended"]
        for rollout, test in self.tests():
            assert told.count(test.name) == (0 if test.running else 1)
            assert (rollout.ended_at is None) is test.running
        assert len([test for _, test in self.tests() if test.running]) <= 1

    def teardown(self) -> None:
        """Everything is mended, and goes on."""
        self.faults, self.world.monitor.away = 0.0, False
        self.world.deployer.put(BOTH)
        for name, router in self.routers.items():
            router.set_lines()
            if not router.alive:
                self.run(self.started(name))
        self.run(self.live(round(LENGTH_S) + 30))
        assert not any(test.running for _, test in self.tests())
        assert self.asked(NAMES[0], lambda router: router.traffic.roll_back(Call(MODEL), OLD))
        for auto_promote, shares in ((False, {OLD: 100}), (True, {NEW: 100})):
            self.made += 1
            asked = wish(f"test-{self.made}", auto_promote=auto_promote)
            assert self.asked(NAMES[1], lambda router, asked=asked: router.ab_tests.create(Call(MODEL), asked))
            self.run(self.live(round(LENGTH_S) + 10))
            rollout, test = self.tests()[0]
            results = shown_by(rollout)
            assert results is not None
            assert (test.status, results.winner, results.basis) == ("completed", NEW, "fixed_horizon"), results
            for router in self.routers.values():
                assert router.shares(MODEL) == shares
        taken = [event.event_id for event in self.world.monitor.taken]
        assert sorted(taken) == sorted({event.event_id for event in self.store.told})
        for router in self.routers.values():
            self.run(router.die())
        self.loop.close()


TestAbTests = AbTestMachine.TestCase
TestAbTests.settings = settings(
    max_examples=12, stateful_step_count=20, suppress_health_check=[HealthCheck.too_slow], deadline=None
)
