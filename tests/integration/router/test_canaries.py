"""Canaries over real gRPC and a real PostgreSQL, on the evidence of a monitor that tests play."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from infermesh.router.v1 import canary_pb2, traffic_pb2, traffic_rule_pb2
from infermesh.router.v1 import router_service_pb2 as pb

from services.common.errors import MeshError, Reason
from tests.integration.router.driving import PlayedBatcher, Router, Surroundings
from tests.integration.router.monitoring import PlayedMonitor
from tests.support.router_fakes import ready
from tests.support.waiting import eventually

OLD, NEW = "v1.0.0", "v1.1.0"
BOTH = ready("digits", OLD, NEW, deployments={OLD: "old", NEW: "new"})
QUICK = [(10, 0.0), (50, 0.0), (100, 0.0)]
LONG = [(10, 60.0), (100, 0.0)]
MANY = 50


@dataclass
class Played:
    """A router between a deployer, a batcher and a monitor that are played."""

    around: Surroundings
    monitor: PlayedMonitor
    router: Router

    @property
    def api(self) -> Any:
        """RouterService."""
        return self.router.api

    def shares(self) -> dict[str, int]:
        """What gateways route by."""
        routes = self.router.gateways.table.models.get("digits")
        return {share.version: share.percent for share in routes.shares} if routes is not None else {}

    async def canary(self) -> canary_pb2.Canary:
        """As callers see it."""
        found: canary_pb2.Canary = await self.api.GetCanary(pb.GetCanaryRequest(model_name="digits"))
        return found

    async def ended(self) -> canary_pb2.Canary:
        """Once it has ended."""

        async def look() -> canary_pb2.Canary | None:
            found = await self.canary()
            return found if found.status not in ("running", "paused") else None

        found = await eventually(look, what="the canary ends", every_s=0.05)
        assert found is not None
        return found

    def let_connect(self, *, allowed: bool) -> None:
        """Whether the router's database takes connections; where not, those that there are end."""
        url, _, name = self.around.database_url.replace("+psycopg", "").rpartition("/")
        with psycopg.connect(f"{url}/postgres", autocommit=True) as connection:
            connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {str(allowed).lower()}".encode())
            if not allowed:
                connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])

    def query(self, text: str) -> list[tuple[Any, ...]]:
        """What the database says."""
        url = self.around.database_url.replace("+psycopg", "")
        with psycopg.connect(url, options="-c search_path=router", autocommit=True) as connection:
            return connection.execute(text.encode()).fetchall()


@pytest.fixture
async def monitor(around: Surroundings) -> AsyncIterator[PlayedMonitor]:
    played = PlayedMonitor(around.others_port)
    await played.start()
    yield played
    await played.stop()


@pytest.fixture
async def played(around: Surroundings, monitor: PlayedMonitor) -> AsyncIterator[Played]:
    around.deployer.state.put(ready("digits", OLD, deployments={OLD: "old"}))
    async with around.router() as router:
        batcher = PlayedBatcher(router.channel)
        it = Played(around, monitor, router)
        await eventually(lambda: it.shares() == {OLD: 100}, what="the old version is routed to")
        around.deployer.state.put(BOTH)
        await eventually(lambda: len(router.gateways.table.models["digits"].versions) == 2, what="both are")
        yield it
        await batcher.leave()


def wish(
    stages: list[tuple[int, float]] = QUICK, *, shadow_disagreement_max: float | None = None, **more: Any
) -> pb.UpdateTrafficRequest:
    config = traffic_rule_pb2.CanaryConfig(
        enabled=True,
        stages=[traffic_rule_pb2.CanaryStage(percent=percent, duration_minutes=length) for percent, length in stages],
        success_criteria=traffic_rule_pb2.SuccessCriteria(
            error_rate_max=0.05, shadow_disagreement_max=shadow_disagreement_max
        ),
    )
    return pb.UpdateTrafficRequest(
        **{"model_name": "digits", "deployment_name": "new", "canary_config": config, "reason": "try it", **more}
    )


async def refusal(call: Any) -> MeshError:
    with pytest.raises(MeshError) as raised:
        await call
    return raised.value


async def test_a_canary_that_keeps_its_limits_gets_all_traffic(played: Played) -> None:
    plan = await played.api.PlanTraffic(wish())
    assert (dict(plan.after.traffic_split), plan.moved_percent) == ({NEW: 10, OLD: 90}, 10)
    assert played.shares() == {OLD: 100}
    started: traffic_pb2.Traffic = await played.api.UpdateTraffic(wish())
    # What was answered has reached the gateways.
    assert dict(started.effective_split) == {NEW: 10, OLD: 90}
    assert played.shares() == {NEW: 10, OLD: 90}
    assert started.governing_rule.startswith("canary-")
    now = await played.canary()
    assert (now.status, now.percent, now.version, now.baseline_version) == ("running", 10, NEW, OLD)
    assert [stage.percent for stage in now.config.stages] == [10, 50, 100]
    assert now.HasField("stage_ends_at")
    assert not now.HasField("ended_at")
    played.monitor.seen = {OLD: (900, 0), NEW: (1000, 3)}
    done = await played.ended()
    assert (done.status, done.percent) == ("promoted", 100)
    assert [(record.percent, record.outcome) for record in done.history] == [
        (10, "passed"),
        (50, "passed"),
        (100, "promoted"),
    ]
    assert done.results[0].measured == pytest.approx(0.003)
    assert done.results[0].verdict == "passing"
    await eventually(lambda: played.shares() == {NEW: 100}, what="gateways have it")
    changes = await played.api.ListTrafficChanges(pb.ListTrafficChangesRequest(model_name="digits"))
    assert [dict(change.after) for change in changes.changes] == [{NEW: 100}, {NEW: 50, OLD: 50}, {NEW: 10, OLD: 90}]
    assert {change.action for change in changes.changes} == {"canary"}
    traffic = await played.api.GetTraffic(pb.GetTrafficRequest(model_name="digits"))
    assert traffic.governing_rule == "split"
    await eventually(lambda: played.monitor.kinds() == ["canary_promoted"], what="the monitor is told")
    await eventually(lambda: played.query("SELECT count(*) FROM rollout_events") == [(0,)], what="it is forgotten")


async def test_a_canary_that_breaks_a_limit_is_rolled_back_at_once(played: Played) -> None:
    played.monitor.seen = {OLD: (900, 0), NEW: (100, 0)}
    await played.api.UpdateTraffic(wish(LONG))
    before = len(played.router.gateways.published)
    began_s = time.monotonic()
    played.monitor.seen = {OLD: (900, 0), NEW: (200, 40)}
    await eventually(lambda: played.shares() == {OLD: 100}, what="traffic is restored", every_s=0.005)
    print(
        f"from the fault in the evidence to restored traffic: {time.monotonic() - began_s:.3f} s (evidence every 0.1 s)"
    )
    assert len(played.router.gateways.published) == before + 1
    done = await played.ended()
    assert played.query("SELECT status FROM rollouts") == [("rolled_back",)]
    assert done.status == "rolled_back"
    assert "error_rate_max" in done.status_reason
    assert "0.2 in 200 samples" in done.status_reason
    assert done.results[0].verdict == "breached"
    assert (done.history[0].outcome, done.history[0].results[0]) == ("breached", done.results[0])
    await eventually(lambda: played.monitor.kinds() == ["canary_failed"], what="the monitor is told")
    (event,) = played.monitor.events
    assert (event.severity, event.undo_command, event.value) == ("critical", "infermesh traffic undo digits", 0.2)
    # It is ready still, for who asks by name.
    assert played.router.gateways.table.models["digits"].versions == (OLD, NEW)
    rules = await played.api.ListTrafficRules(pb.ListTrafficRulesRequest(model_name="digits"))
    shown = {rule.rule_type: rule for rule in rules.traffic_rules}
    assert (shown["canary"].status, dict(shown["canary"].version_weights)) == ("completed", {NEW: 10, OLD: 90})
    assert shown["canary"].success_criteria.error_rate_max == 0.05


async def test_it_is_led_by_hand(played: Played) -> None:
    await played.api.UpdateTraffic(wish(LONG))
    moved = pb.UpdateTrafficRequest(model_name="digits", traffic_split={OLD: 50, NEW: 50})
    assert (await refusal(played.api.UpdateTraffic(moved))).reason is Reason.ROLLOUT_IN_PROGRESS
    assert (await refusal(played.api.UpdateTraffic(wish(LONG)))).reason is Reason.ROLLOUT_IN_PROGRESS
    first = await played.canary()
    paused = await played.api.PauseCanary(pb.PauseCanaryRequest(model_name="digits", etag=first.etag, reason="lunch"))
    assert (paused.status, paused.status_reason) == ("paused", "paused by hand: lunch")
    assert not paused.HasField("stage_ends_at")
    assert played.shares() == {NEW: 10, OLD: 90}
    stale = await refusal(played.api.ResumeCanary(pb.ResumeCanaryRequest(model_name="digits", etag=first.etag)))
    assert stale.reason is Reason.ETAG_MISMATCH
    resumed = await played.api.ResumeCanary(pb.ResumeCanaryRequest(model_name="digits"))
    assert resumed.status == "running"
    assert resumed.stage_started_at.ToDatetime() > first.stage_started_at.ToDatetime()
    assert resumed.history[0].outcome == "restarted"
    promoted = await played.api.PromoteCanary(pb.PromoteCanaryRequest(model_name="digits", reason="good"))
    assert (promoted.status, played.shares()) == ("promoted", {NEW: 100})
    again = await refusal(played.api.PauseCanary(pb.PauseCanaryRequest(model_name="digits")))
    assert again.reason is Reason.ROLLOUT_STATE_INVALID
    nothing_left = await refusal(played.api.UpdateTraffic(wish(LONG)))
    assert nothing_left.reason is Reason.ROLLOUT_STATE_INVALID
    # Back, and another one, which is aborted.
    await played.api.RollBack(pb.RollBackRequest(model_name="digits", to_version=OLD))
    await played.api.UpdateTraffic(wish(LONG))
    aborted = await played.api.AbortCanary(pb.AbortCanaryRequest(model_name="digits", reason="enough"))
    assert (aborted.status, aborted.status_reason, played.shares()) == (
        "aborted",
        "aborted by hand: enough",
        {OLD: 100},
    )
    page = await played.api.ListCanaries(pb.ListCanariesRequest(model_name="digits", page_size=1))
    assert [one.status for one in page.canaries] == ["aborted"]
    rest = await played.api.ListCanaries(
        pb.ListCanariesRequest(model_name="digits", page_size=1, page_token=page.next_page_token)
    )
    assert [one.status for one in rest.canaries] == ["promoted"]
    assert not rest.next_page_token


async def test_a_roll_back_by_hand_ends_it(played: Played) -> None:
    await played.api.UpdateTraffic(wish(LONG))
    await played.api.RollBack(pb.RollBackRequest(model_name="digits", to_version=OLD, reason="I have seen enough"))
    assert played.shares() == {OLD: 100}
    done = await played.ended()
    assert done.status == "aborted"
    assert "I have seen enough" in done.status_reason
    await played.api.UpdateTraffic(wish(LONG))
    assert played.shares() == {NEW: 10, OLD: 90}


async def test_a_call_that_is_repeated_starts_one_canary(played: Played) -> None:
    first = await played.api.UpdateTraffic(wish(LONG, request_id="r1"))
    again = await played.api.UpdateTraffic(wish(LONG, request_id="r1"))
    assert again.etag == first.etag
    assert (await refusal(played.api.UpdateTraffic(wish(QUICK, request_id="r1")))).reason is Reason.REQUEST_ID_REUSED
    page = await played.api.ListCanaries(pb.ListCanariesRequest(model_name="digits"))
    assert len(page.canaries) == 1


async def test_what_cannot_be_is_refused_and_changes_nothing(played: Played) -> None:
    none = await refusal(played.api.GetCanary(pb.GetCanaryRequest(model_name="digits")))
    assert none.reason is Reason.TRAFFIC_RULE_NOT_FOUND
    for request, reason, word in (
        (wish(LONG, deployment_name=""), Reason.INVALID_FIELD, "deployment_name"),
        (wish(LONG, deployment_name="nobody"), Reason.DEPLOYMENT_NOT_FOUND, "nobody"),
        (wish([(50, 1.0), (10, 1.0)]), Reason.INVALID_FIELD, "canary_config.stages[1].percent"),
        (wish(LONG, traffic_split={NEW: 100}), Reason.INVALID_FIELD, "traffic_split"),
        (wish(LONG, shadow_disagreement_max=0.1), Reason.INVALID_FIELD, "shadow of v1.1.0"),
        (wish(LONG, etag="g9"), Reason.ETAG_MISMATCH, "digits"),
        (wish(LONG, deployment_name="old"), Reason.ROLLOUT_STATE_INVALID, OLD),
    ):
        error = await refusal(played.api.UpdateTraffic(request))
        assert error.reason is reason, request
        assert word in error.message
        assert (await refusal(played.api.PlanTraffic(request))).reason is reason
    assert played.query("SELECT count(*) FROM rollouts") == [(0,)]
    assert played.shares() == {OLD: 100}
    # Shares beside it say who takes part, whatever they are: the stages decide.
    await played.api.UpdateTraffic(wish(LONG, traffic_split={OLD: 50, NEW: 50}))
    assert played.shares() == {NEW: 10, OLD: 90}


async def test_without_the_monitor_nothing_is_judged_and_that_is_said(played: Played) -> None:
    await played.monitor.stop()
    played.monitor.seen = {OLD: (900, 0), NEW: (1000, 0)}
    await played.api.UpdateTraffic(wish(QUICK))

    async def said() -> bool:
        return "nothing is judged" in (await played.canary()).evidence_error

    await eventually(said, what="it says why nothing is judged")
    assert (await played.canary()).status == "running"
    assert played.shares() == {NEW: 10, OLD: 90}
    await played.monitor.start()
    assert (await played.ended()).status == "promoted"
    await eventually(lambda: played.monitor.kinds() == ["canary_promoted"], what="the monitor is told")


async def test_while_the_database_is_away_the_shares_stay_and_afterwards_it_is_rolled_back(played: Played) -> None:
    played.monitor.seen = {OLD: (900, 0), NEW: (100, 0)}
    await played.api.UpdateTraffic(wish(LONG))
    played.let_connect(allowed=False)
    played.monitor.seen = {OLD: (900, 0), NEW: (200, 40)}
    away = await refusal(played.api.AbortCanary(pb.AbortCanaryRequest(model_name="digits")))
    assert away.reason is Reason.DEPENDENCY_UNAVAILABLE
    asked = len(played.monitor.asked)
    # Whoever led stops before its lease ends, and asks for evidence no more.
    await eventually(lambda: played.monitor.watchers == 0, what="nobody acts")
    assert played.shares() == {NEW: 10, OLD: 90}
    played.let_connect(allowed=True)
    await eventually(lambda: played.shares() == {OLD: 100}, what="traffic is restored")
    assert (await played.ended()).status == "rolled_back"
    assert len(played.monitor.asked) > asked
    await eventually(lambda: played.monitor.kinds() == ["canary_failed"], what="the monitor is told")


@pytest.mark.logs_errors
async def test_an_event_that_is_never_taken_stands_in_nobodys_way(played: Played) -> None:
    played.monitor.refuses = {"canary_promoted"}
    for _ in range(2):
        await played.api.UpdateTraffic(wish(LONG))
        await played.api.PromoteCanary(pb.PromoteCanaryRequest(model_name="digits"))
        await played.api.RollBack(pb.RollBackRequest(model_name="digits", to_version=OLD))
    await played.api.UpdateTraffic(wish(LONG))
    await played.api.AbortCanary(pb.AbortCanaryRequest(model_name="digits"))
    await eventually(lambda: played.monitor.kinds() == ["rolled_back"], what="the monitor is told")
    # An event is forgotten once the monitor has it.
    await eventually(lambda: played.query("SELECT count(*) FROM rollout_events") == [(2,)], what="others are forgotten")
    kept = played.query("SELECT event ->> 'kind', refused FROM rollout_events ORDER BY number")
    assert [kind for kind, _ in kept] == ["canary_promoted"] * 2
    assert all("cannot be" in refused for _, refused in kept)


async def test_many_canaries_at_once(played: Played) -> None:
    names = [f"m{number}" for number in range(MANY)]
    for name in names:
        played.around.deployer.state.put(ready(name, OLD, deployments={OLD: "old"}))
    await eventually(lambda: set(names) <= set(played.router.gateways.table.models), what="all are routed to")
    for name in names:
        played.around.deployer.state.put(ready(name, OLD, NEW, deployments={OLD: "old", NEW: "new"}))

    def both() -> bool:
        models = played.router.gateways.table.models
        return all(len(models[name].versions) == 2 for name in names)

    await eventually(both, what="all have both versions")
    for start in range(0, MANY, 10):
        await asyncio.gather(
            *(played.api.UpdateTraffic(wish(QUICK, model_name=name)) for name in names[start : start + 10])
        )
    played.monitor.seen = {OLD: (900, 0), NEW: (1000, 0)}
    began_s = time.monotonic()

    def over() -> bool:
        models = played.router.gateways.table.models
        return all({share.version for share in models[name].shares} == {NEW} for name in names)

    await eventually(over, what="all are promoted", timeout_s=50.0)
    print(f"{MANY} canaries through two stages each: {time.monotonic() - began_s:.1f} s")
