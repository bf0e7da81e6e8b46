"""Canaries as routers drive them, in virtual time, to the second."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from services.common.clock import LoopClock
from services.router.domain.canary_document import results_of
from services.router.domain.canary_wish import CanaryWish, StageWish
from services.router.domain.criteria import MetricCriterion, SuccessCriteria, Verdict
from services.router.domain.rollouts import RolloutKind
from services.router.domain.wishes import SplitWish
from services.router.engines.canaries import CanaryView
from services.router.engines.canary_driver import JudgingPace
from services.router.engines.changing import Call
from tests.support.rollout_router import RolloutRouter, World
from tests.support.router_fakes import ready, without

pytestmark = pytest.mark.looptime
MODEL, OLD, NEW = "digits", "v1.0.0", "v1.1.0"
BOTH = ready(MODEL, OLD, NEW, deployments={OLD: "old", NEW: "new"})
CRITERIA = SuccessCriteria(error_rate_max=0.05, requests_min=50)
WISH = CanaryWish((StageWish(10, 1.0), StageWish(50, 1.0), StageWish(100, 0.0)), CRITERIA, hold_minutes_max=5.0)
FINE: Mapping[str, tuple[int, int]] = {OLD: (90, 0), NEW: (10, 0)}
BROKEN: Mapping[str, tuple[int, int]] = {OLD: (90, 0), NEW: (10, 5)}


class Stage:
    """A world with some routers, and time that passes in it."""

    def __init__(self) -> None:
        self.world = World(LoopClock(datetime(2026, 1, 15, 12, tzinfo=UTC)))
        self.world.deployer.put(BOTH)
        self.routers: list[RolloutRouter] = []

    async def router(self) -> RolloutRouter:
        """Another one."""
        router = RolloutRouter(self.world, f"router-{len(self.routers)}")
        self.routers.append(router)
        await router.start()
        await asyncio.sleep(1.0)
        return router

    async def live(self, length_s: int, seen: Mapping[str, tuple[int, int]] = FINE, *, dropped: int = 0) -> None:
        """Seconds in which this is seen."""
        for _ in range(length_s):
            await asyncio.sleep(1.0)
            self.world.monitor.count(seen, dropped=dropped)

    def kinds(self) -> list[str]:
        """Of the events that the monitor has."""
        return [event.kind for event in self.world.monitor.taken]


@asynccontextmanager
async def opened() -> AsyncIterator[tuple[Stage, RolloutRouter]]:
    """A stage with a router on which a canary was started. Not a fixture: its time would be another one."""
    stage = Stage()
    router = await stage.router()
    await router.canaries.starts.start(Call(MODEL, "new"), SplitWish(), WISH)
    yield stage, router
    for one in stage.routers:
        await one.die()


async def seen(router: RolloutRouter) -> CanaryView:
    return await router.canaries.get(MODEL)


async def test_faults_of_the_rollout_before_do_not_end_one_that_begins_in_the_same_second() -> None:
    stage = Stage()
    router = await stage.router()
    await asyncio.sleep(0.25)
    stage.world.monitor.count({OLD: (90, 0), NEW: (100, 90)})
    await asyncio.sleep(0.25)
    await router.canaries.starts.start(Call(MODEL, "new"), SplitWish(), WISH)
    await stage.live(4)
    assert (await seen(router)).canary.status == "running"
    await stage.live(20, BROKEN)
    assert (await seen(router)).canary.status == "rolled_back", "those of its own do"
    await router.die()


async def test_stages_follow_each_other_when_they_are_due() -> None:
    async with opened() as (stage, router):
        await stage.live(58)
        assert router.shares(MODEL) == {NEW: 10, OLD: 90}
        await stage.live(8)
        assert router.shares(MODEL) == {NEW: 50, OLD: 50}
        view = await seen(router)
        assert view.canary.stage == 1
        # Each stage has evidence of its own.
        assert 0 < view.results[0].request_count <= 80
        await stage.live(60)
        assert router.shares(MODEL) == {NEW: 100}
        lasted = [(one.ended_at - one.started_at).total_seconds() for one in (await seen(router)).canary.history]
        assert lasted[:2] == pytest.approx([60.0, 60.0], abs=2.5)
        assert stage.kinds() == ["canary_promoted"]


async def test_what_it_shows_is_seen_at_once_and_kept_now_and_then() -> None:
    async with opened() as (stage, router):
        await stage.live(20)
        view = await seen(router)
        assert view.results[0].verdict is Verdict.PASSING
        assert view.results[0].request_count >= 170
        (kept,) = await stage.world.rollout_store.page(MODEL, RolloutKind.CANARY, limit=1)
        assert 100 <= results_of(kept)[0][0].request_count <= view.results[0].request_count
        assert kept.generation == 1


async def test_a_breach_is_rolled_back_as_soon_as_it_is_proven() -> None:
    async with opened() as (stage, router):
        await stage.live(10)
        await stage.live(12, BROKEN)
        assert router.shares(MODEL) == {OLD: 100}
        view = await seen(router)
        assert view.canary.status == "rolled_back"
        # What condemned it stays.
        assert view.results[0].verdict is Verdict.BREACHED
        assert stage.kinds() == ["canary_failed"]


async def test_a_version_that_is_back_soon_goes_on_and_one_that_is_not_does_not() -> None:
    async with opened() as (stage, router):
        await stage.live(5)
        stage.world.deployer.put(without(BOTH, NEW))
        await stage.live(8)
        # Others answer meanwhile.
        assert router.shares(MODEL) == {OLD: 100}
        stage.world.deployer.put(BOTH)
        await stage.live(5)
        assert router.shares(MODEL) == {NEW: 10, OLD: 90}
        stage.world.deployer.put(without(BOTH, NEW))
        await stage.live(12)
        view = await seen(router)
        assert view.canary.status == "rolled_back"
        assert "has not been ready for 10 s" in view.canary.status_reason
        stage.world.deployer.put(BOTH)
        await stage.live(2)
        assert router.shares(MODEL) == {OLD: 100}


async def test_an_incomplete_log_condemns_and_proves_nothing() -> None:
    async with opened() as (stage, router):
        await stage.live(75, dropped=10)
        view = await seen(router)
        assert (view.canary.status, view.canary.stage) == ("running", 0)
        assert view.canary.held_since is not None
        assert "dropped" in view.evidence_error
        assert stage.kinds() == ["canary_held"]
        await stage.live(30, BROKEN, dropped=10)
        assert (await seen(router)).canary.status == "rolled_back"


async def test_while_the_monitor_is_away_nothing_is_judged_and_the_stage_is_held() -> None:
    async with opened() as (stage, router):
        await stage.live(20, FINE)
        stage.world.monitor.away = True
        await stage.live(60, BROKEN)
        view = await seen(router)
        assert (view.canary.status, view.canary.stage) == ("running", 0)
        assert view.canary.held_since is not None
        assert "nothing is judged" in view.evidence_error
        assert router.shares(MODEL) == {NEW: 10, OLD: 90}
        assert stage.kinds() == []
        stage.world.monitor.away = False
        await stage.live(10)
        assert (await seen(router)).canary.status == "rolled_back"
        assert stage.kinds() == ["canary_held", "canary_failed"]


async def test_while_the_database_is_away_the_shares_stay() -> None:
    async with opened() as (stage, router):
        await stage.live(10)
        router.set_lines(cut=True)
        await stage.live(30, BROKEN)
        assert router.shares(MODEL) == {NEW: 10, OLD: 90}
        router.set_lines()
        await stage.live(12, BROKEN)
        assert router.shares(MODEL) == {OLD: 100}


async def test_another_router_goes_on_in_the_middle_of_a_stage() -> None:
    async with opened() as (stage, first):
        second = await stage.router()
        await stage.live(30)
        began = (await seen(first)).canary.stage_started_at
        await first.die()
        await stage.live(20)
        assert second.leadership.leader
        view = await seen(second)
        assert (view.canary.stage, view.canary.stage_started_at) == (0, began)
        # Evidence from the time of the first one counts.
        assert view.results[0].request_count >= 450
        await stage.live(14)
        assert second.shares(MODEL) == {NEW: 50, OLD: 50}
        assert stage.kinds() == []


async def test_a_router_that_comes_back_late_asks_for_evidence_before_it_holds_or_ends_anything() -> None:
    async with opened() as (stage, first):
        await stage.live(30)
        await first.die()
        await stage.live(60)
        # The stage is over, and what is needed was seen.
        second = await stage.router()
        await stage.live(10)
        assert second.shares(MODEL) == {NEW: 50, OLD: 50}
        stage.world.monitor.away = True
        await stage.live(90)
        assert (await seen(second)).canary.held_since is not None
        await second.die()
        stage.world.monitor.away = False
        # As long as it may be held, and longer.
        await stage.live(600)
        third = await stage.router()
        await stage.live(10)
        assert third.shares(MODEL) == {NEW: 100}
        # None of the first stage; the second one was held, and that is over.
        assert stage.kinds() == ["canary_held", "canary_promoted"]


async def test_a_roll_back_without_a_version_leads_back_from_the_canary() -> None:
    stage = Stage()
    router = await stage.router()
    older = "v0.9.0"
    stage.world.deployer.put(ready(MODEL, older, OLD, NEW, deployments={older: "older", OLD: "old", NEW: "new"}))
    await asyncio.sleep(1.0)
    await router.traffic.update(Call(MODEL), SplitWish({older: 100}))
    await router.traffic.update(Call(MODEL), SplitWish({OLD: 100}))
    await router.canaries.starts.start(Call(MODEL, "new"), SplitWish(), WISH)
    await router.traffic.roll_back(Call(MODEL), "")
    assert router.shares(MODEL) == {OLD: 100}
    await stage.live(3)
    assert (await seen(router)).canary.status == "aborted"
    # Without one it leads to who had most before.
    await router.traffic.roll_back(Call(MODEL), "")
    assert router.shares(MODEL) == {older: 100}
    await router.die()


async def test_what_was_known_is_kept_where_another_router_finds_no_monitor() -> None:
    async with opened() as (stage, first):
        second = await stage.router()
        await stage.live(30)
        known = (await seen(first)).results[0].request_count
        stage.world.monitor.away = True
        await first.die()
        await stage.live(15)
        assert second.leadership.leader
        view = await seen(second)
        assert "nothing is judged" in view.evidence_error
        assert view.results[0].request_count >= known - 110
        aborted = await second.canaries.abort(Call(MODEL))
        assert aborted.canary.history[-1].results == view.results


async def test_a_pause_stops_the_stage_and_not_the_limits() -> None:
    async with opened() as (stage, router):
        await stage.live(10)
        await router.canaries.pause(Call(MODEL))
        await stage.live(200)
        assert (await seen(router)).canary.stage == 0
        await router.canaries.resume(Call(MODEL))
        await stage.live(55)
        assert router.shares(MODEL) == {NEW: 10, OLD: 90}
        await stage.live(8)
        assert router.shares(MODEL) == {NEW: 50, OLD: 50}
        await router.canaries.pause(Call(MODEL))
        await stage.live(20, BROKEN)
        assert router.shares(MODEL) == {OLD: 100}


async def test_judging_takes_a_quarter_of_the_time_at_most() -> None:
    pace = JudgingPace()
    assert pace.pause_s(canaries=1000) == 0.0
    for _ in range(50):
        pace.spent(0.02)
    assert pace.pause_s(canaries=1) == pytest.approx(0.08, rel=0.01)
    # A hundred of them take 2 s of every 8.
    assert pace.pause_s(canaries=100) == pytest.approx(8.0, rel=0.01)
    for _ in range(50):
        pace.spent(0.001)
    assert pace.pause_s(canaries=100) == pytest.approx(0.4, rel=0.01)


async def test_predictions_are_logged_in_full_while_a_limit_waits_for_outcomes() -> None:
    stage = Stage()
    router = await stage.router()
    criteria = replace(CRITERIA, metrics=(MetricCriterion("ctr", min=0.1),))
    await router.canaries.starts.start(Call(MODEL, "new"), SplitWish(), replace(WISH, criteria=criteria))
    assert router.rules.rules[MODEL].log_labels
    await router.canaries.abort(Call(MODEL))
    assert not router.rules.rules[MODEL].log_labels
    await router.die()
