"""How A/B tests are driven, in virtual time: a hundred at once, ends without evidence, versions that go away."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from services.common.clock import LoopClock
from services.router.domain.ab_results import Outcome
from services.router.domain.ab_test import AbTestWish
from services.router.domain.rules import Strategy
from services.router.engines.ab_tests import AbTestView
from services.router.engines.changing import Call
from tests.support.ab_test_router import AbTestRouter
from tests.support.rollout_router import World
from tests.support.router_fakes import ready, without

OLD, NEW = "v1.0.0", "v1.1.0"
MODEL = "digits"
DAY_S = 86_400.0
pytestmark = pytest.mark.looptime


@pytest.fixture
async def world() -> World:
    return World(LoopClock(datetime(2026, 1, 15, tzinfo=UTC)))


@pytest.fixture
async def router(world: World) -> AsyncIterator[AbTestRouter]:
    running = AbTestRouter(world)
    await running.start()
    yield running
    await running.stop()


async def served(world: World, router: AbTestRouter, model: str = MODEL) -> None:
    world.deployer.put(ready(model, OLD, NEW))
    await asyncio.sleep(1.0)
    await router.traffic.roll_back(Call(model), OLD)


def wish(**more: object) -> AbTestWish:
    asked: dict[str, object] = {
        "versions": {OLD: 50, NEW: 50},
        "duration_days": 60.0 / DAY_S,
        "metrics": ("error_rate",),
    }
    return AbTestWish("t", **{**asked, **more})  # type: ignore[arg-type]


async def seen(router: AbTestRouter, model: str = MODEL) -> AbTestView:
    return await router.ab_tests.get(model, "t")


async def test_a_hundred_tests_run_and_end_at_once(world: World, router: AbTestRouter) -> None:
    models = [f"model-{number}" for number in range(100)]
    for model in models:
        world.deployer.put(ready(model, OLD, NEW))
    await asyncio.sleep(2.0)
    await asyncio.gather(*(router.ab_tests.create(Call(model), wish()) for model in models))
    began_s = time.process_time()
    for _ in range(70):
        world.monitor.count({OLD: (100, 10), NEW: (100, 1)})
        await asyncio.sleep(1.0)
    spent_s = time.process_time() - began_s
    print(f"100 tests, 70 s of their time: {spent_s:.2f} s of CPU, {spent_s / 70:.1%} of a core")
    for model in models:
        view = await seen(router, model)
        assert (view.test.status, view.results.winner, view.results.outcome) == ("completed", NEW, Outcome.WINNER)
    subjects = [event.model_name for event in world.rollout_store.told]
    assert sorted(subjects) == sorted(models)


async def test_without_evidence_on_its_end_a_test_waits_an_hour_and_concludes_nothing(
    world: World, router: AbTestRouter
) -> None:
    await served(world, router)
    await router.ab_tests.create(Call(MODEL), wish(auto_promote=True))
    world.monitor.count({OLD: (3000, 300), NEW: (3000, 3)})
    await asyncio.sleep(30.0)
    world.monitor.away = True
    await asyncio.sleep(3500.0)
    assert (await seen(router)).test.running
    await asyncio.sleep(200.0)
    view = await seen(router)
    assert (view.test.status, view.results.outcome, view.results.winner) == ("completed", Outcome.INCONCLUSIVE, "")
    assert router.shares(MODEL) == {OLD: 100}
    assert [event.severity for event in world.rollout_store.told] == ["warning"]


async def test_a_monitor_that_comes_back_late_still_ends_a_test_with_a_conclusion(
    world: World, router: AbTestRouter
) -> None:
    await served(world, router)
    await router.ab_tests.create(Call(MODEL), wish(auto_promote=True))
    await asyncio.sleep(10.0)
    world.monitor.away = True
    await asyncio.sleep(600.0)
    world.monitor.count({OLD: (3000, 300), NEW: (3000, 3)})
    world.monitor.away = False
    await asyncio.sleep(10.0)
    view = await seen(router)
    assert (view.test.status, view.results.winner, view.results.basis) == ("completed", NEW, "fixed_horizon")
    assert router.shares(MODEL) == {NEW: 100}


async def test_a_router_that_comes_back_long_after_the_end_asks_for_evidence_first(
    world: World, router: AbTestRouter
) -> None:
    await served(world, router)
    await router.ab_tests.create(Call(MODEL), wish(auto_promote=True))
    world.monitor.count({OLD: (3000, 300), NEW: (3000, 3)})
    await asyncio.sleep(5.0)
    world.monitor.count({OLD: (3000, 300), NEW: (3000, 3)})
    await router.stop()
    await asyncio.sleep(2 * 3600.0)
    later = AbTestRouter(world, "router-1")
    await later.start()
    await asyncio.sleep(15.0)
    view = await seen(later)
    assert (view.test.status, view.results.winner, view.results.basis) == ("completed", NEW, "fixed_horizon")
    await later.stop()


async def test_a_version_that_stays_away_ends_the_test(world: World, router: AbTestRouter) -> None:
    await served(world, router)
    await router.ab_tests.create(Call(MODEL), wish(duration_days=1.0))
    await asyncio.sleep(5.0)
    world.deployer.put(without(ready(MODEL, OLD, NEW), NEW))
    await asyncio.sleep(30.0)
    assert (await seen(router)).test.running, "it may be restarting"
    await asyncio.sleep(40.0)
    view = await seen(router)
    assert view.test.status == "stopped"
    assert "v1.1.0 has not been ready" in view.test.status_reason
    assert [(event.kind, event.severity) for event in world.rollout_store.told] == [("ab_test_ended", "critical")]


async def test_requests_that_go_elsewhere_than_the_shares_conclude_nothing(world: World, router: AbTestRouter) -> None:
    await served(world, router)
    await router.ab_tests.create(Call(MODEL), wish(auto_promote=True))
    await asyncio.sleep(5.0)
    world.monitor.count({OLD: (4000, 400), NEW: (3000, 3)})
    await asyncio.sleep(70.0)
    view = await seen(router)
    assert (view.test.status, view.results.outcome, view.results.sample_ratio_mismatch) == (
        "completed",
        Outcome.INCONCLUSIVE,
        True,
    )
    assert router.shares(MODEL) == {OLD: 100}


async def test_a_test_splits_by_user_and_gives_everything_back(world: World, router: AbTestRouter) -> None:
    await served(world, router)
    before = await world.rule_store.find(MODEL)
    assert before is not None
    await router.ab_tests.create(Call(MODEL, actor="ada"), wish(metrics=("ctr",), sticky_key_header="x-session"))
    during = await world.rule_store.find(MODEL)
    assert during is not None
    assert (during.split.strategy, during.split.sticky_header) == (Strategy.STICKY, "x-session")
    assert (during.governing, during.log_labels) == ("t", True)
    await router.ab_tests.stop(Call(MODEL, actor="bob", reason="enough"), "t")
    after = await world.rule_store.find(MODEL)
    assert after is not None
    assert after.split.same_as(before.split)
    assert after.split.runs == before.split.runs
    assert (after.governing, after.log_labels) == ("", False)
    changes = await world.rule_store.changes(MODEL, before=None, limit=2)
    assert [(change.action, change.actor) for change in changes] == [("ab_test", "bob"), ("ab_test", "ada")]
    assert changes[0].reason == "stopped by bob: enough"


async def test_a_roll_back_without_a_version_leads_back_from_the_test(world: World, router: AbTestRouter) -> None:
    await served(world, router)
    await router.ab_tests.create(Call(MODEL), wish(versions={OLD: 90, NEW: 10}))
    await router.traffic.roll_back(Call(MODEL), "")
    assert router.shares(MODEL) == {OLD: 100}
    await asyncio.sleep(3.0)
    assert (await seen(router)).test.status == "stopped"
    (event,) = world.rollout_store.told
    # The roll-back was somebody's wish: nothing is offered that would take it back.
    assert (event.kind, event.undo_command) == ("ab_test_ended", "")


async def test_errors_end_a_test_within_seconds(world: World, router: AbTestRouter) -> None:
    await served(world, router)
    await router.ab_tests.create(Call(MODEL), wish(duration_days=1.0, rollback_on_error_rate=0.05))
    await asyncio.sleep(5.0)
    world.monitor.count({OLD: (200, 4), NEW: (200, 60)})
    await asyncio.sleep(4.0)
    view = await seen(router)
    assert view.test.status == "rolled_back"
    assert router.shares(MODEL) == {OLD: 100}


async def test_a_test_that_nothing_was_seen_of_says_so_at_its_end(world: World, router: AbTestRouter) -> None:
    await served(world, router)
    world.monitor.away = True
    await router.ab_tests.create(Call(MODEL), wish())
    assert (await seen(router)).results.conclusion == "Nothing is known yet: there is no evidence so far."
    view = await router.ab_tests.conclude(Call(MODEL), "t", promote="")
    assert (view.test.status, view.results.outcome) == ("completed", Outcome.INCONCLUSIVE)
    assert view.results.conclusion == "Inconclusive: 0 samples of error_rate where at least 1000 a side are needed."
    assert router.shares(MODEL) == {OLD: 100}
