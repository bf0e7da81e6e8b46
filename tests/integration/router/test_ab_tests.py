"""A/B tests over real gRPC and a real PostgreSQL, on the evidence of a monitor that tests play."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from infermesh.router.v1 import ab_test_pb2
from infermesh.router.v1 import router_service_pb2 as pb

from services.common.errors import MeshError, Reason
from tests.integration.router.driving import PlayedBatcher, Router, Surroundings
from tests.integration.router.monitoring import PlayedMonitor
from tests.integration.router.processes import RouterProcess, router_process
from tests.support.router_fakes import ready
from tests.support.waiting import eventually

OLD, NEW = "v1.0.0", "v1.1.0"
BOTH = ready("digits", OLD, NEW, deployments={OLD: "old", NEW: "new"})
BETTER = {OLD: (5000, 500), NEW: (5000, 50)}
"""The new version fails ten times as seldom."""
SHORT_DAYS = 8.0 / 86_400
LEASE_S = 3.0
pytestmark = pytest.mark.timeout(150)


@pytest.fixture
async def monitor(around: Surroundings) -> AsyncIterator[PlayedMonitor]:
    around.deployer.state.put(BOTH)
    played = PlayedMonitor(around.others_port)
    await played.start()
    yield played
    await played.stop()


@pytest.fixture
async def router(around: Surroundings, monitor: PlayedMonitor) -> AsyncIterator[Router]:
    async with around.router() as running:
        batcher = PlayedBatcher(running.channel)
        await all_for_the_old(running)
        yield running
        await batcher.leave()


async def all_for_the_old(router: Router | RouterProcess) -> None:
    async def both() -> bool:
        try:
            traffic = await router.api.GetTraffic(pb.GetTrafficRequest(model_name="digits"))
        except MeshError:
            return False
        return list(traffic.ready_versions) == [OLD, NEW]

    await eventually(both, what="both versions are ready")
    await router.api.RollBack(pb.RollBackRequest(model_name="digits", to_version=OLD))


def wish(name: str = "faults", **more: Any) -> pb.CreateAbTestRequest:
    return pb.CreateAbTestRequest(
        **{"model_name": "digits", "name": name, "versions": {OLD: 50, NEW: 50}, "metrics": ["error_rate"], **more}
    )


def shares(router: Router) -> dict[str, int]:
    """What gateways route by."""
    found: dict[str, int] = {}
    for share in router.gateways.table.models["digits"].shares:
        found[share.version] = found.get(share.version, 0) + share.percent
    return found


async def found(router: Router | RouterProcess, name: str = "faults") -> ab_test_pb2.AbTest:
    test: ab_test_pb2.AbTest = await router.api.GetAbTest(pb.GetAbTestRequest(model_name="digits", name=name))
    return test


async def ended(router: Router | RouterProcess, name: str = "faults") -> ab_test_pb2.AbTest:
    async def look() -> ab_test_pb2.AbTest | None:
        test = await found(router, name)
        return test if test.status != "running" else None

    test = await eventually(look, what="the test ends", every_s=0.05)
    assert test is not None
    return test


async def shown(router: Router | RouterProcess, name: str = "faults") -> ab_test_pb2.AbTestResults:
    """Once there is evidence."""

    async def look() -> ab_test_pb2.AbTestResults | None:
        results = (await found(router, name)).results
        return results if results.arms else None

    results = await eventually(look, what="there is evidence", every_s=0.05)
    assert results is not None
    return results


async def told(router: Router | RouterProcess) -> bool:
    """Whether it knows of the second batch of evidence."""
    return [arm.request_count for arm in (await found(router)).results.arms] == [9000, 9000]


async def refusal(call: Any) -> MeshError:
    with pytest.raises(MeshError) as raised:
        await call
    return raised.value


async def test_a_test_is_concluded_by_hand_and_its_winner_gets_all_traffic(
    router: Router, monitor: PlayedMonitor
) -> None:
    monitor.seen = BETTER
    made: ab_test_pb2.AbTest = await router.api.CreateAbTest(wish(auto_promote=True, request_id="once"))
    assert (made.status, dict(made.versions), made.duration_days) == ("running", {OLD: 50, NEW: 50}, 7.0)
    assert (made.results.control, made.results.outcome, made.sticky_key_header) == (OLD, "waiting", "x-user-id")
    assert shares(router) == {OLD: 50, NEW: 50}
    assert router.gateways.table.models["digits"].sticky_header == "x-user-id"
    traffic = await router.api.GetTraffic(pb.GetTrafficRequest(model_name="digits"))
    assert traffic.governing_rule == "faults"
    again = await router.api.CreateAbTest(wish(auto_promote=True, request_id="once"))
    assert (again.name, again.start_time) == (made.name, made.start_time)
    results = await shown(router)
    (compared,) = results.comparisons
    assert (results.basis, compared.test, compared.verdict) == ("sequential", "two_proportion_z", "better")
    assert compared.sequential_low < compared.difference_low < -0.09 < compared.difference_high
    assert compared.difference_high < compared.sequential_high < 0.0
    assert [(arm.version, arm.request_count, arm.error_rate) for arm in results.arms] == [
        (OLD, 5000, 0.1),
        (NEW, 5000, 0.01),
    ]
    call = pb.ConcludeAbTestRequest(model_name="digits", name="faults", reason="plain to see")
    done: ab_test_pb2.AbTest = await router.api.ConcludeAbTest(call)
    assert (done.status, done.results.outcome, done.results.winner) == ("completed", "winner", NEW)
    assert "plain to see" in done.status_reason
    assert shares(router) == {NEW: 100}
    assert router.gateways.table.models["digits"].sticky_header == ""
    assert list(router.gateways.table.models["digits"].versions) == [OLD, NEW], "the loser stays"
    await eventually(lambda: monitor.kinds() == ["ab_test_ended"], what="the monitor is told")
    assert (await refusal(router.api.ConcludeAbTest(call))).reason is Reason.ROLLOUT_STATE_INVALID
    assert (await found(router)).results == done.results, "they are kept"


async def test_a_test_ends_at_its_time_by_the_tests_for_one_look(router: Router, monitor: PlayedMonitor) -> None:
    monitor.seen = BETTER
    await router.api.CreateAbTest(wish(duration_days=SHORT_DAYS))
    done = await ended(router)
    assert (done.status, done.results.basis, done.results.winner) == ("completed", "fixed_horizon", NEW)
    assert done.results.comparisons[0].p_value_adjusted < 1e-6
    await eventually(
        lambda: shares(router) == {OLD: 100}, what="the shares before are back, as none was to be promoted"
    )


async def test_errors_end_a_test_at_once_and_raise_an_alarm(router: Router, monitor: PlayedMonitor) -> None:
    await router.api.CreateAbTest(wish(rollback_on_error_rate=0.05))
    monitor.seen = {OLD: (200, 0), NEW: (200, 60)}
    done = await ended(router)
    assert done.status == "rolled_back"
    assert "v1.1.0 failed 30.00% of 200 requests" in done.status_reason
    await eventually(lambda: shares(router) == {OLD: 100}, what="the control has all traffic")
    await eventually(lambda: len(monitor.events) == 1, what="the monitor is told")
    event = monitor.events[0]
    assert (event.kind, event.severity, event.version, event.subject) == ("ab_test_ended", "critical", NEW, "faults")


async def test_a_test_that_is_stopped_gives_the_shares_back(router: Router) -> None:
    before = await router.api.UpdateTraffic(
        pb.UpdateTrafficRequest(model_name="digits", traffic_split={OLD: 80, NEW: 20})
    )
    made = await router.api.CreateAbTest(wish())
    stop = pb.StopAbTestRequest(model_name="digits", name="faults", reason="changed our mind", etag="r7")
    assert (await refusal(router.api.StopAbTest(stop))).reason is Reason.ETAG_MISMATCH
    stop.etag = made.etag
    done = await router.api.StopAbTest(stop)
    assert (done.status, done.results.outcome) == ("stopped", "inconclusive")
    assert shares(router) == dict(before.effective_split) == {OLD: 80, NEW: 20}
    listed = await router.api.ListAbTests(pb.ListAbTestsRequest(model_name="digits"))
    assert [(test.name, test.HasField("results")) for test in listed.ab_tests] == [("faults", False)]


async def test_what_cannot_be_is_refused(router: Router) -> None:
    for request, reason, word in (
        (wish(versions={OLD: 60, NEW: 60}), Reason.INVALID_FIELD, "versions"),
        (wish(versions={OLD: 50, "v7.7.7": 50}), Reason.VERSION_NOT_DEPLOYED, "v7.7.7"),
        (wish(duration_days=91), Reason.INVALID_FIELD, "duration_days"),
        (wish(model_name="nobody"), Reason.MODEL_NOT_SERVED, "nobody"),
    ):
        error = await refusal(router.api.CreateAbTest(request))
        assert error.reason is reason
        assert word in error.message
    assert shares(router) == {OLD: 100}
    await router.api.CreateAbTest(wish(request_id="first"))
    for request, reason in (
        (wish("another"), Reason.ROLLOUT_IN_PROGRESS),
        (wish(), Reason.AB_TEST_EXISTS),
        (wish("another", request_id="first"), Reason.REQUEST_ID_REUSED),
    ):
        assert (await refusal(router.api.CreateAbTest(request))).reason is reason
    assert (await refusal(found(router, "nothing"))).reason is Reason.AB_TEST_NOT_FOUND
    promote = pb.ConcludeAbTestRequest(model_name="digits", name="faults", promote="v7.7.7")
    assert (await refusal(router.api.ConcludeAbTest(promote))).reason is Reason.INVALID_FIELD
    # A roll-back ends it.
    await router.api.RollBack(pb.RollBackRequest(model_name="digits", to_version=NEW))
    assert (await ended(router)).status == "stopped"
    assert shares(router) == {NEW: 100}


async def test_tests_are_listed_newest_first_page_by_page(router: Router) -> None:
    for name in ("one", "two", "three"):
        await router.api.CreateAbTest(wish(name))
        await router.api.StopAbTest(pb.StopAbTestRequest(model_name="digits", name=name))
    first = await router.api.ListAbTests(pb.ListAbTestsRequest(model_name="digits", page_size=2))
    assert [test.name for test in first.ab_tests] == ["three", "two"]
    rest = await router.api.ListAbTests(
        pb.ListAbTestsRequest(model_name="digits", page_size=2, page_token=first.next_page_token)
    )
    assert ([test.name for test in rest.ab_tests], rest.next_page_token) == (["one"], "")
    running = await router.api.ListAbTests(pb.ListAbTestsRequest(model_name="digits", status="running"))
    assert not running.ab_tests


async def test_a_router_killed_in_the_middle_goes_on_and_of_two_one_acts(
    around: Surroundings, monitor: PlayedMonitor, tmp_path: Path
) -> None:
    monitor.seen = BETTER
    async with router_process(around, tmp_path, lease_s=LEASE_S) as first:
        await all_for_the_old(first)
        made = await first.api.CreateAbTest(wish(auto_promote=True))
        await shown(first)
        async with router_process(around, tmp_path, lease_s=LEASE_S) as second:
            # What one of them makes of the evidence the other shows too.
            assert (await shown(second)).winner == NEW
            monitor.asked.clear()
            first.kill()
            # It goes on with all that was seen since the beginning.
            await eventually(lambda: bool(monitor.asked), what="the second one looks after the test")
            assert {request.start_time.seconds for request in monitor.asked} == {made.start_time.seconds + 3}
            monitor.seen = {OLD: (9000, 900), NEW: (9000, 90)}
            await eventually(lambda: told(second), what="it has heard of more", every_s=0.05)
            call = pb.ConcludeAbTestRequest(model_name="digits", name="faults")
            done: ab_test_pb2.AbTest = await second.api.ConcludeAbTest(call)
            assert (done.status, done.results.winner, done.start_time) == ("completed", NEW, made.start_time)
            traffic = await second.api.GetTraffic(pb.GetTrafficRequest(model_name="digits"))
            assert dict(traffic.traffic_split) == {NEW: 100}
            await eventually(lambda: monitor.kinds() == ["ab_test_ended"], what="the monitor is told")
    with psycopg.connect(
        around.database_url.replace("+psycopg", ""), options="-c search_path=router", autocommit=True
    ) as connection:
        # To the old version, into the test, out of it: each once.
        assert connection.execute("SELECT count(*) FROM traffic_changes").fetchall() == [(3,)]
