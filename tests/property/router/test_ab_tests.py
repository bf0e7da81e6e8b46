"""A/B tests against whatever may happen, in virtual time, with two routers over one store.

Routers die, are cut off from the database or so slow that their lease ends under way; the monitor goes away; a version
fails or goes away; people stop, conclude, roll back. At all times the shares are those of the test while it governs;
whoever has lost the lease changes nothing; every test that ended has said so once. In the end, with everything mended,
a test runs to its time and gives the shares back, or the traffic to who won.
"""

from collections.abc import Mapping
from functools import partial

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from services.router.domain.ab_document import ab_test_of, shown_by
from services.router.domain.ab_test import AbTest, AbTestWish
from services.router.domain.rollouts import Rollout, RolloutKind
from services.router.engines.changing import Call
from tests.support.ab_test_router import AbTestRouter
from tests.support.rollout_machine import MODEL, NAMES, NEW, OLD, RolloutMachine, names

LENGTH_S = 60.0


def wish(name: str, *, auto_promote: bool = False) -> AbTestWish:
    return AbTestWish(
        name,
        {OLD: 50, NEW: 50},
        duration_days=LENGTH_S / 86_400,
        metrics=("error_rate",),
        rollback_on_error_rate=0.2,
        auto_promote=auto_promote,
    )


async def created(router: AbTestRouter, *, asked: AbTestWish) -> None:
    await router.ab_tests.create(Call(MODEL), asked)


class AbTestMachine(RolloutMachine[AbTestRouter]):
    """Two routers and their world."""

    def __init__(self) -> None:
        super().__init__()
        self.made = 0
        assert self.asked(NAMES[0], lambda router: router.traffic.roll_back(Call(MODEL), OLD))

    def new_router(self, name: str) -> AbTestRouter:
        return AbTestRouter(self.world, name)

    def asked_by_callers(self, split: Mapping[str, int]) -> None:
        """The old version fails 2 % of them."""
        self.world.monitor.count(
            {
                version: (2 * share, round(2 * share * (self.faults if version == NEW else 0.02)))
                for version, share in split.items()
            }
        )

    def tests(self) -> list[tuple[Rollout, AbTest]]:
        return [(one, ab_test_of(one)) for one in self.run(self.store.page(MODEL, RolloutKind.AB_TEST, limit=1000))]

    # --- what happens

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

    @rule(faults=st.sampled_from((0.0, 0.02, 0.5)))
    def the_new_version_behaves(self, faults: float) -> None:
        self.faults = faults

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
        self.mended()
        self.run(self.live(round(LENGTH_S) + 30))
        assert not any(test.running for _, test in self.tests())
        assert self.asked(NAMES[0], lambda router: router.traffic.roll_back(Call(MODEL), OLD))
        for auto_promote, shares in ((False, {OLD: 100}), (True, {NEW: 100})):
            self.made += 1
            asked = wish(f"test-{self.made}", auto_promote=auto_promote)
            assert self.asked(NAMES[1], partial(created, asked=asked))
            self.run(self.live(round(LENGTH_S) + 10))
            rollout, test = self.tests()[0]
            results = shown_by(rollout)
            assert results is not None
            assert (test.status, results.winner, results.basis) == ("completed", NEW, "fixed_horizon"), results
            for router in self.routers.values():
                assert router.shares(MODEL) == shares
        self.over()


TestAbTests = AbTestMachine.TestCase
TestAbTests.settings = settings(
    max_examples=12, stateful_step_count=20, suppress_health_check=[HealthCheck.too_slow], deadline=None
)
