"""Canaries against whatever may happen, in virtual time, with two routers over one store.

Routers die, stop, are cut off from the database or so slow that their lease ends under way; the monitor goes away; the
new version fails, gets no requests, goes away; people pause, resume, promote, abort, roll back. At all times the shares
are those of the stage while a canary governs, and those before it once it failed; whoever has lost the lease changes
nothing. In the end, with everything mended, a canary that keeps its limits has all traffic, and every event has arrived
once.
"""

from collections.abc import Mapping

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from services.router.domain.canary import Canary
from services.router.domain.canary_document import canary_of
from services.router.domain.canary_steps import stage_shares
from services.router.domain.canary_wish import CanaryWish, StageWish
from services.router.domain.criteria import SuccessCriteria
from services.router.domain.rollouts import Rollout, RolloutKind
from services.router.domain.wishes import SplitWish
from services.router.engines.changing import Call
from tests.support.rollout_machine import MODEL, NAMES, NEW, OLD, RolloutMachine, names
from tests.support.rollout_router import RolloutRouter

WISH = CanaryWish(
    (StageWish(10, 0.5), StageWish(50, 0.25), StageWish(100, 0.0)),
    SuccessCriteria(error_rate_max=0.05, requests_min=50),
    hold_minutes_max=1.0,
)


class CanaryMachine(RolloutMachine[RolloutRouter]):
    """Two routers and their world."""

    rate, dropped = 100, 0

    def new_router(self, name: str) -> RolloutRouter:
        return RolloutRouter(self.world, name)

    def asked_by_callers(self, split: Mapping[str, int]) -> None:
        seen = {version: self.rate * share // 100 for version, share in split.items()}
        self.world.monitor.count(
            {version: (count, round(count * self.faults) if version == NEW else 0) for version, count in seen.items()},
            dropped=self.dropped,
        )

    async def leaders(self) -> int:
        return len([router for router in self.routers.values() if router.leadership.leader])

    def newest(self) -> tuple[Rollout, Canary] | None:
        found = self.run(self.store.page(MODEL, RolloutKind.CANARY, limit=1))
        return (found[0], canary_of(found[0])) if found else None

    # --- what happens

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

    @rule(faults=st.sampled_from((0.0, 0.5)))
    def the_new_version_behaves(self, faults: float) -> None:
        self.faults = faults

    @rule(rate=st.sampled_from((0, 10, 100)), dropped=st.sampled_from((0, 100)))
    def callers_come_and_go(self, rate: int, dropped: int) -> None:
        self.rate, self.dropped = rate, dropped

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
        self.rate, self.dropped = 100, 0
        self.mended()
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
        assert self.run(self.leaders()) == 1
        self.over()


TestCanaries = CanaryMachine.TestCase
TestCanaries.settings = settings(
    max_examples=15, stateful_step_count=20, suppress_health_check=[HealthCheck.too_slow], deadline=None
)
