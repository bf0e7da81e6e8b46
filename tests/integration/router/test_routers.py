"""Several routers over one PostgreSQL, as real processes: killed, stood still, stopped. One at a time acts."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from infermesh.router.v1 import canary_pb2, traffic_rule_pb2
from infermesh.router.v1 import router_service_pb2 as pb

from tests.integration.router.driving import Surroundings
from tests.integration.router.monitoring import PlayedMonitor
from tests.integration.router.processes import RouterProcess, router_process
from tests.support.router_fakes import ready
from tests.support.waiting import eventually

OLD, NEW = "v1.0.0", "v1.1.0"
LEASE_S = 3.0
pytestmark = pytest.mark.timeout(150)


@pytest.fixture
async def monitor(around: Surroundings) -> AsyncIterator[PlayedMonitor]:
    around.deployer.state.put(ready("digits", OLD, deployments={OLD: "old"}))
    played = PlayedMonitor(around.others_port)
    await played.start()
    yield played
    await played.stop()


def query(around: Surroundings, text: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(
        around.database_url.replace("+psycopg", ""), options="-c search_path=router", autocommit=True
    ) as connection:
        return connection.execute(text.encode()).fetchall()


def token(around: Surroundings) -> int:
    """Of the newest leader; 0: there was none."""
    rows = query(around, "SELECT token FROM leases")
    return int(rows[0][0]) if rows else 0


async def canary(router: RouterProcess) -> canary_pb2.Canary:
    found: canary_pb2.Canary = await router.api.GetCanary(pb.GetCanaryRequest(model_name="digits"))
    return found


async def both_ready(around: Surroundings, router: RouterProcess) -> None:
    around.deployer.state.put(ready("digits", OLD, NEW, deployments={OLD: "old", NEW: "new"}))

    async def there() -> bool:
        traffic = await router.api.GetTraffic(pb.GetTrafficRequest(model_name="digits"))
        return list(traffic.ready_versions) == [OLD, NEW]

    await eventually(there, what="both versions are ready")


async def start(router: RouterProcess, *, stage_s: float) -> canary_pb2.Canary:
    config = traffic_rule_pb2.CanaryConfig(
        enabled=True,
        stages=[
            traffic_rule_pb2.CanaryStage(percent=10, duration_minutes=stage_s / 60),
            traffic_rule_pb2.CanaryStage(percent=100),
        ],
        success_criteria=traffic_rule_pb2.SuccessCriteria(error_rate_max=0.05),
    )
    await router.api.UpdateTraffic(
        pb.UpdateTrafficRequest(model_name="digits", deployment_name="new", canary_config=config)
    )
    return await canary(router)


async def ended(router: RouterProcess) -> canary_pb2.Canary:
    async def look() -> canary_pb2.Canary | None:
        found = await canary(router)
        return found if found.status != "running" else None

    found = await eventually(look, what="the canary ends", every_s=0.05)
    assert found is not None
    return found


async def test_a_router_killed_in_mid_stage_goes_on_where_it_was(
    around: Surroundings, monitor: PlayedMonitor, tmp_path: Path
) -> None:
    # Too few requests to decide anything.
    monitor.seen = {OLD: (900, 0), NEW: (10, 0)}
    async with router_process(around, tmp_path, lease_s=LEASE_S) as router:
        await both_ready(around, router)
        begun = await start(router, stage_s=1.0)
        await eventually(lambda: bool(monitor.asked), what="evidence is asked for")
        router.kill()
    monitor.asked.clear()
    async with router_process(around, tmp_path, lease_s=LEASE_S) as router:
        found = await canary(router)
        assert (found.status, found.stage, found.stage_started_at) == ("running", 0, begun.stage_started_at)

        async def split() -> bool:
            traffic = await router.api.GetTraffic(pb.GetTrafficRequest(model_name="digits"))
            return dict(traffic.effective_split) == {NEW: 10, OLD: 90}

        await eventually(split, what="it knows again which versions answer")
        monitor.seen = {OLD: (900, 0), NEW: (1000, 0)}
        done = await ended(router)
        assert done.status == "promoted"
        # It is one stage, from before the kill, and so is the evidence.
        first = done.history[0]
        assert (first.started_at, first.outcome) == (begun.stage_started_at, "passed")
        # From its first whole second on.
        since = {
            request.start_time.ToNanoseconds() - begun.stage_started_at.ToNanoseconds() for request in monitor.asked
        }
        assert len(since) == 1
        assert 0 <= since.pop() < 1_000_000_000
        # Where the restart took long the stage was held meanwhile.
        await eventually(lambda: monitor.kinds()[-1:] == ["canary_promoted"], what="the monitor is told")
    assert query(around, "SELECT count(*) FROM traffic_changes") == [(2,)]


async def test_a_leader_that_stood_still_finds_another_in_its_place_and_changes_nothing(
    around: Surroundings, monitor: PlayedMonitor, tmp_path: Path
) -> None:
    monitor.seen = {OLD: (900, 0), NEW: (10, 0)}
    async with router_process(around, tmp_path, lease_s=LEASE_S) as first:
        await eventually(lambda: token(around) > 0, what="the first one leads")
        async with router_process(around, tmp_path, lease_s=LEASE_S) as second:
            await both_ready(around, first)
            await both_ready(around, second)
            await start(first, stage_s=600.0)
            await eventually(lambda: bool(monitor.asked), what="evidence is asked for")
            first.stop()
            began_s = time.monotonic()
            monitor.seen = {OLD: (900, 0), NEW: (500, 250)}
            done = await ended(second)
            print(f"the leader stood still; another one rolled back {time.monotonic() - began_s:.1f} s after the fault")
            assert done.status == "rolled_back"
            assert token(around) > 1
            changes = query(around, "SELECT generation, action, after FROM traffic_changes ORDER BY id")
            first.go_on()

            async def agrees() -> bool:
                traffic = await first.api.GetTraffic(pb.GetTrafficRequest(model_name="digits"))
                return dict(traffic.effective_split) == {OLD: 100}

            await eventually(agrees, what="the first one has it too")
            assert await canary(first) == await canary(second)
            assert query(around, "SELECT generation, action, after FROM traffic_changes ORDER BY id") == changes
            assert len(changes) == 2
            await eventually(lambda: monitor.kinds() == ["canary_failed"], what="the monitor is told once")
            led = token(around)
            second.end()
            ended_s = time.monotonic()
            await eventually(lambda: token(around) > led, what="the first one leads again")
            print(f"after an orderly stop another router led within {time.monotonic() - ended_s:.2f} s")
