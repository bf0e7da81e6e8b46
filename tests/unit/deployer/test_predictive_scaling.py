"""Replicas that precede a peak: what is counted, what is forecast of it, and what becomes of that."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

from services.common.errors import MeshError, Reason
from services.common.signals import Signal
from services.deployer.domain.deployment import Autoscaling, Deployment, Health, NewDeployment, Progress, Status, Wish
from services.deployer.domain.forecast import REFRESH_S
from services.deployer.domain.history import BUCKET_S, DAY, DECISIONS_MIN, HELD_MIN, KEEP_DAYS, Bucket, bucket_start
from services.deployer.domain.outcomes import explained, scaled
from services.deployer.domain.plan import Explain, Scale, ServerState
from services.deployer.domain.scaling import Load
from services.deployer.engines.demand import SILENT_S, Demand
from services.deployer.engines.forecasts import LOOK_EVERY_S
from services.deployer.engines.history import WRITE_EVERY_S
from tests.support.clock import NOON, FakeClock
from tests.support.deployer_fakes import recipe
from tests.support.scaling_fakes import ScalingParts

NAME, KEY = ("digits", "v1.0.0"), ("digits", "main")
SCALING = Autoscaling(enabled=True, max_replicas=8, target_requests_per_sec=10, predictive=True)
LEARNING = "the forecast is not used yet: it takes 2 whole days of requests to tell a daily pattern, 0.0 were seen"


class World:
    """A deployment, whose autoscaling runs as the loop runs it."""

    def __init__(self, scaling: Autoscaling = SCALING, servers: int = 1) -> None:
        self.clock = FakeClock()
        self.demand = Demand(clock=self.clock, changed=Signal())
        self.demand.keep({NAME})
        self.parts = ScalingParts(self.demand, self.clock)
        wish = Wish(autoscaling=scaling)
        names = [f"triton-{number}" for number in range(servers)]
        progress = Progress(status=Status.ACTIVE, loaded=dict.fromkeys(names, "f"), load_time_ms=1000.0)
        self.deployment = Deployment("id", NewDeployment(*NAME, "main", wish), recipe(), wish, progress, 1, NOON, NOON)
        self.observed = {name: ServerState(up=True, ready=frozenset({"digits--v1.0.0"})) for name in names}
        self.parts.scaling.look([self.deployment])

    def tell(self, rate: float, seconds: float = 2.0) -> Scale | Explain | None:
        """A batcher tells of so many requests per second; the loop looks, and does what is decided."""
        self.clock.advance(seconds)
        self.demand.report("batcher-0", 2.0, {NAME: Load(requests_per_s=rate)})
        self.parts.scaling.look([self.deployment])
        step = self.parts.scaling.step(self.deployment, self.observed)
        progress = self.deployment.progress
        if isinstance(step, Scale):
            self.parts.scaling.scaled(self.deployment)
            progress = scaled(progress, step.replicas, step.why, self.clock.now(), reason=step.reason)
        elif isinstance(step, Explain):
            progress = explained(progress, step.reason, step.message, self.clock.now(), acts=step.acts)
        self.deployment = replace(self.deployment, progress=progress)
        return step

    def remember(self, days: float, *, peak_at: timedelta, peak: float = 60.0, rest: float = 5.0) -> None:
        """So many days before, with a peak of five minutes at that time from now on."""
        start = bucket_start(self.clock.now())
        rows = self.parts.store.rows.setdefault(KEY, {})
        of_peak = peak_at // timedelta(seconds=BUCKET_S)
        for age in range(1, round(days * DAY) + 1):
            rate = peak if (age + of_peak) % DAY == 0 else rest
            at = start - timedelta(seconds=age * BUCKET_S)
            rows[at] = Bucket(at, known_s=BUCKET_S, requests=rate * BUCKET_S)

    async def pass_s(self, seconds: float) -> None:
        """Time goes on for what runs beside the loop."""
        self.clock.advance(seconds)
        await settle()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """History and forecasts run."""
        tasks = [asyncio.create_task(self.parts.history.run()), asyncio.create_task(self.parts.forecasts.run())]
        await settle()
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def condition(self) -> tuple[bool, str, str]:
        """Of autoscaling: status, reason, message."""
        found = next(one for one in self.deployment.progress.conditions if one.type == "Autoscaled")
        return found.status, found.reason, found.message


async def settle() -> None:
    """Whatever can go on without time does."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_the_floor_rises_ahead_of_the_peak_that_comes_every_day() -> None:
    world = World()
    world.remember(5, peak_at=timedelta(minutes=30))
    async with world.running():
        steps = [world.tell(5.0) for _ in range(900)]
    # Half an hour of two seconds each.
    rises = [(number, step) for number, step in enumerate(steps) if isinstance(step, Scale)]
    number, step = rises[0]
    assert step == Scale(6, "forecast: 60 requests/s at 12:30 UTC, 10 a replica", "Forecast")
    # Three minutes and twice the second that it takes to load.
    assert 30 * 60 - 182 <= (number + 1) * 2 <= 30 * 60 - 180
    assert len(rises) == 1
    assert world.condition == (True, "Forecast", "6 replicas, by forecast: 60 requests/s at 12:30 UTC, 10 a replica")
    # It is held while the peak is expected, though five requests per second come; then the window has passed already.
    assert [world.tell(5.0) for _ in range(145)] == [None] * 145
    falls = [step for step in (world.tell(5.0) for _ in range(90)) if isinstance(step, Scale)]
    assert [step.replicas for step in falls] == [3, 2, 1]
    assert falls[-1].reason == "Load"


async def test_a_floor_is_of_all_replicas_on_however_many_servers_and_keeps_the_most() -> None:
    world = World(servers=2)
    world.remember(3, peak_at=timedelta(minutes=2), peak=75.0)
    async with world.running():
        assert world.tell(5.0) == Scale(8, "forecast: 75 requests/s at 12:00 UTC, 10 a replica", "Forecast")
    world = World()
    world.remember(3, peak_at=timedelta(minutes=2), peak=750.0)
    async with world.running():
        assert world.tell(5.0) == Scale(8, "forecast: 750 requests/s at 12:00 UTC, 10 a replica", "Forecast")


async def test_too_little_history_is_said_once_and_changes_nothing() -> None:
    world = World()
    world.remember(2, peak_at=timedelta(minutes=10))
    world.parts.store.rows[KEY].pop(NOON - timedelta(seconds=BUCKET_S))
    async with world.running():
        message = f"1 replicas; {LEARNING.replace('0.0', '2.0')}"
        assert world.tell(5.0) == Explain("ForecastLearning", message)
        assert {world.tell(5.0) for _ in range(400)} == {None}
    assert world.condition == (True, "ForecastLearning", message)
    assert world.parts.forecaster.asked == []


async def test_one_that_was_wrong_is_not_used_and_it_is_said_why() -> None:
    world = World()
    world.remember(5, peak_at=timedelta(minutes=10))
    world.parts.forecaster.error = 0.63
    async with world.running():
        assert isinstance(world.tell(5.0), Explain)
        assert {world.tell(5.0) for _ in range(400)} == {None}
        assert world.deployment.replicas == 1
        assert "wrong by 63%" in world.condition[2]
        # Whatever the load makes of the replicas, that stays said.
        assert world.tell(20.0) == Scale(2, f"20 requests/s a replica of 10; {world.condition[2].split('; ', 1)[1]}")
    assert world.condition[1] == "Load"


async def test_on_a_holiday_it_is_not_used_until_what_is_forecast_comes_again() -> None:
    world = World(replace(SCALING, scale_down_stabilization_s=60))
    world.remember(5, peak_at=timedelta(hours=20), rest=35.0)
    async with world.running():
        assert isinstance(world.tell(35.0), Scale)
        assert world.deployment.replicas == 4
        for _ in range(600):
            world.tell(3.0)
        assert world.condition[:2] == (True, "Load")
        assert "in the last 15 minutes 3.07 requests/s came where 35 were forecast" in world.condition[2]
        assert world.deployment.replicas == 1
        for _ in range(900):
            world.tell(35.0)
    assert world.deployment.replicas == 4


async def test_without_a_target_for_requests_it_is_learnt_what_a_replica_can_do() -> None:
    """In an hour with a quarter of a second's concurrency a replica answers 8 requests per second."""
    world = World(replace(SCALING, target_requests_per_sec=0, target_concurrency=4))
    world.remember(5, peak_at=timedelta(minutes=90), peak=30.0)
    async with world.running():
        world.tell(5.0)
        assert world.condition[1] == "ForecastCapacityUnknown"
        for step in range(HELD_MIN * BUCKET_S // 2):
            world.clock.advance(2.0)
            load = Load(requests_per_s=8.0 if step % 2 else 7.9, in_flight=4)
            world.demand.report("batcher-0", 2.0, {NAME: load})
            world.parts.scaling.look([world.deployment])
            assert not isinstance(world.parts.scaling.step(world.deployment, world.observed), Scale)
            if step % 30 == 0:
                await settle()
        await world.pass_s(WRITE_EVERY_S)
        await world.pass_s(REFRESH_S - HELD_MIN * BUCKET_S + 2 * LOOK_EVERY_S)
        steps = [found for _ in range(900) if isinstance(found := world.tell(5.0), Scale)]
    assert steps[0].replicas == 4
    assert steps[0].why.startswith("forecast: 30 requests/s at 13:30 UTC, 7.9")
    held = [row for row in world.parts.store.rows[KEY].values() if row.decisions >= DECISIONS_MIN]
    assert len(held) >= HELD_MIN
    assert {(row.version, row.short) for row in held} == {("v1.0.0", 0)}


async def test_another_version_keeps_the_pattern_and_learns_its_own_capacity() -> None:
    world = World(replace(SCALING, target_requests_per_sec=0, target_concurrency=4))
    world.remember(5, peak_at=timedelta(minutes=2))
    rows = world.parts.store.rows[KEY]
    for start in list(rows)[:20]:
        rows[start] = replace(rows[start], version="v1.0.0", decisions=100, per_replica=1000.0)
    async with world.running():
        assert world.tell(5.0) == Scale(6, "forecast: 60 requests/s at 12:00 UTC, 10 a replica", "Forecast")
        assert world.deployment.replicas == 6
        new = replace(world.deployment.new, version="v2.0.0")
        world.deployment = replace(world.deployment, new=new, deployment_id="next")
        world.demand.keep({("digits", "v2.0.0")})
        world.tell(5.0)
        await world.pass_s(LOOK_EVERY_S)
        world.tell(5.0)
    assert world.condition[1] == "ForecastCapacityUnknown"
    assert world.parts.forecaster.asked == [5 * DAY, 5 * DAY]


async def test_a_forecaster_that_fails_is_said_and_tried_again_and_what_there_was_is_used_meanwhile() -> None:
    world = World()
    world.remember(5, peak_at=timedelta(hours=5))
    world.parts.forecaster.problem = MeshError(Reason.DEPENDENCY_UNAVAILABLE, "it is broken")
    async with world.running():
        world.tell(5.0)
        assert world.condition == (
            True,
            "ForecastUnavailable",
            "1 replicas; the forecast is not used: none could be made (it is broken); it is tried again",
        )
        world.parts.forecaster.problem = None
        await world.pass_s(200)
        world.tell(5.0)
        assert world.condition[1] == "ForecastUsed"
        world.parts.forecaster.problem = MeshError(Reason.DEPENDENCY_UNAVAILABLE, "it is broken")
        for _ in range(5):
            await world.pass_s(REFRESH_S)
        # The peak at five is in the forecast of noon.
        world.tell(5.0)
    assert world.condition[:2] == (True, "Forecast")
    assert world.deployment.replicas == 6


async def test_a_new_version_whose_forecast_fails_keeps_the_pattern_and_is_tried_now_and_then() -> None:
    world = World()
    world.remember(5, peak_at=timedelta(minutes=30))
    async with world.running():
        world.tell(5.0)
        world.parts.forecaster.problem = MeshError(Reason.DEPENDENCY_UNAVAILABLE, "it is broken")
        new = replace(world.deployment.new, version="v2.0.0")
        world.deployment = replace(world.deployment, new=new, deployment_id="next")
        world.demand.keep({("digits", "v2.0.0")})
        tries = world.parts.forecaster.tries
        for _ in range(60):
            world.tell(5.0)
            await world.pass_s(LOOK_EVERY_S)
        # Once every two minutes, in seven.
        assert world.parts.forecaster.tries - tries == 4
        assert world.condition[1] == "ForecastUsed"


async def test_what_is_counted_is_stored_and_outlives_a_database_that_is_away() -> None:
    world = World()
    async with world.running():
        for _ in range(60):
            world.tell(4.0)
        world.parts.store.away = True
        await world.pass_s(0)
        for _ in range(60):
            world.tell(4.0)
        await settle()
        assert KEY not in world.parts.store.rows or len(world.parts.store.rows[KEY]) <= 1
        world.parts.store.away = False
        for _ in range(60):
            world.tell(4.0)
        await settle()
    await world.parts.history.write()
    rows = world.parts.store.rows[KEY].values()
    # The first look has none before it.
    assert sum(row.known_s for row in rows) == 360
    assert sum(row.requests for row in rows) == 4 * 360
    assert sum(row.decisions for row in rows) == 180
    assert {row.started_at for row in rows} == {NOON, NOON + timedelta(minutes=5)}


async def test_while_a_batcher_is_silent_or_the_loop_stands_still_nothing_is_known() -> None:
    world = World()
    world.tell(4.0)
    # Nobody told meanwhile, and then the loop did not look.
    world.clock.advance(SILENT_S)
    world.parts.scaling.look([world.deployment])
    world.clock.advance(5)
    world.parts.scaling.look([world.deployment])
    world.tell(4.0, seconds=60)
    world.tell(4.0)
    await world.parts.history.write()
    assert sum(row.known_s for row in world.parts.store.rows[KEY].values()) == 4.0


async def test_all_versions_of_a_deployment_count_and_older_ones_get_no_floor() -> None:
    world = World()
    world.remember(5, peak_at=timedelta(minutes=2))
    older = replace(
        world.deployment,
        deployment_id="older",
        successor="id",
        new=replace(world.deployment.new, version="v0.9.0"),
    )
    world.demand.keep({NAME, ("digits", "v0.9.0")})
    async with world.running():
        for _ in range(4):
            world.clock.advance(2)
            loads = {NAME: Load(requests_per_s=4.0), ("digits", "v0.9.0"): Load(requests_per_s=3.0)}
            world.demand.report("batcher-0", 2.0, loads)
            world.parts.scaling.look([world.deployment, older])
            step = world.parts.scaling.step(older, world.observed)
            assert step is None
        assert isinstance(world.parts.scaling.step(world.deployment, world.observed), Scale)
    await world.parts.history.write()
    counted = world.parts.store.rows[KEY][NOON]
    assert (counted.known_s, counted.requests) == (8.0, 8 * 7.0)


async def test_what_does_not_ask_for_it_is_not_counted() -> None:
    for scaling in (replace(SCALING, predictive=False), replace(SCALING, enabled=False)):
        world = World(scaling)
        async with world.running():
            for _ in range(100):
                world.tell(4.0)
            await settle()
        await world.parts.history.write()
        assert world.parts.store.rows == {}
        assert world.parts.forecaster.asked == []


async def test_old_counts_go() -> None:
    world = World()
    old = NOON - timedelta(days=KEEP_DAYS + 1)
    world.parts.store.rows[KEY] = {old: Bucket(old, 300, 1)}
    async with world.running():
        await world.pass_s(WRITE_EVERY_S)
    assert old not in world.parts.store.rows[KEY]


async def test_of_what_others_scale_it_is_learnt_what_a_replica_answers() -> None:
    targets = Autoscaling(enabled=True, max_replicas=8, target_concurrency=4, target_cpu_percent=70, predictive=True)
    world = World(targets)
    progress = Progress(status=Status.ACTIVE, ready_replicas=2, health=Health.HEALTHY)
    there = replace(world.deployment.new, cluster="prod", namespace="red")
    clustered = replace(world.deployment, new=there, progress=progress)

    async def learnt(deployment: Deployment, load: Load) -> tuple[int, int, float]:
        """What one word of the batchers adds: decisions, those short of replicas, and what a replica answered."""
        world.parts.store.rows.clear()
        world.clock.advance(2.0)
        world.demand.report("batcher-0", 2.0, {NAME: load})
        for _ in range(2):
            world.parts.scaling.learn(deployment)
        await world.parts.history.write()
        rows = world.parts.store.rows.get(KEY, {}).values()
        return sum(row.decisions for row in rows), sum(row.short for row in rows), sum(row.per_replica for row in rows)

    assert await learnt(clustered, Load(requests_per_s=30.0, in_flight=4.0)) == (1, 0, 15.0)
    assert await learnt(clustered, Load(requests_per_s=90.0, in_flight=20.0)) == (1, 1, 45.0), "more than its target"
    rolling = replace(clustered, progress=replace(progress, health=Health.DEGRADED))
    assert await learnt(rolling, Load(requests_per_s=30.0)) == (1, 1, 15.0), "others have begun to add to it"
    for idle in (
        replace(clustered, progress=replace(progress, ready_replicas=0)),
        replace(clustered, progress=replace(progress, status=Status.DEPLOYING)),
        replace(clustered, successor="another"),
    ):
        assert await learnt(idle, Load(requests_per_s=30.0)) == (0, 0, 0.0)
