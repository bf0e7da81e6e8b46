"""Roll-backs over real gRPC and a real PostgreSQL, also to versions whose deployment is gone."""

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest
from infermesh.deployer.v1 import deployer_service_pb2, deployment_pb2
from infermesh.router.v1 import router_service_pb2 as pb

from services.common.errors import MeshError, Reason
from services.router.domain.deployments import Deployed, Spec
from tests.integration.router.driving import Router, Surroundings, move, refusal, served
from tests.support.router_fakes import ready, without
from tests.support.waiting import eventually

OLD, NEW = "v1.0.0", "v1.1.0"
BOTH = ready("digits", OLD, NEW, deployments={OLD: "old", NEW: "new"})
AS_IT_WAS = deployer_service_pb2.CreateDeploymentRequest(
    environment="staging",
    resources=deployment_pb2.Resources(replicas=2, cpu="500m"),
    batching=deployment_pb2.Batching(max_batch_size=8),
).SerializeToString(deterministic=True)


@pytest.fixture
async def router(around: Surroundings) -> AsyncIterator[Router]:
    """A router; the new version has all of the traffic, and the old one was deployed and is gone."""
    fake = around.deployer.deployments
    fake.put(Deployed("digits", "old", OLD, "active", "", AS_IT_WAS))
    fake.put(Deployed("digits", "new", NEW, "active", "", b""))
    around.deployer.state.put(BOTH)
    async with around.router() as running:
        await served(running, [OLD, NEW])
        await running.api.UpdateTraffic(move({OLD: 100}))
        await running.api.UpdateTraffic(move({NEW: 100}))
        await eventually(lambda: noted(around) == 2, what="how both are deployed is noted")
        del fake.deployments["digits", "old"]
        around.deployer.state.put(without(BOTH, OLD))
        await served(running, [NEW])
        yield running


def noted(around: Surroundings) -> int:
    """Of how many versions it is noted how they were deployed."""
    with psycopg.connect(around.database_url.replace("+psycopg", "")) as connection:
        row = connection.execute("SELECT count(*) FROM router.deployed_versions").fetchone()
    return int(row[0]) if row is not None else 0


def back(**more: str) -> pb.RollBackRequest:
    return pb.RollBackRequest(model_name="digits", **more)


def split(router: Router) -> dict[str, int]:
    return {share.version: share.percent for share in router.gateways.table.models["digits"].shares}


async def test_a_version_that_is_gone_is_deployed_as_it_was_and_gets_the_traffic(
    router: Router, around: Surroundings
) -> None:
    fake = around.deployer.deployments
    waiting = asyncio.ensure_future(router.api.RollBack(back(request_id="once"), timeout=60))
    await eventually(lambda: len(fake.asked) == 1, what="it is deployed")
    assert fake.asked == [Spec("digits", OLD, "old", AS_IT_WAS)]
    assert split(router) == {NEW: 100}
    fake.settle("digits", "old", "active")
    around.deployer.state.put(BOTH)
    shown = await waiting
    assert dict(shown.traffic_split) == {OLD: 100} == split(router)
    # Repeated it changes nothing, whatever became of the deployment.
    del fake.deployments["digits", "old"]
    again = await router.api.RollBack(back(request_id="once"), timeout=60)
    assert again.etag == shown.etag
    assert len(fake.asked) == 1


async def test_a_caller_without_the_time_may_repeat_the_call_and_goes_on(router: Router, around: Surroundings) -> None:
    fake = around.deployer.deployments
    error = await refusal(router.api.RollBack(back(to_version=OLD, request_id="short"), timeout=1.3))
    assert error.reason is Reason.VERSION_NOT_DEPLOYED
    assert "repeat" in error.message
    assert split(router) == {NEW: 100}
    waiting = asyncio.ensure_future(router.api.RollBack(back(to_version=OLD, request_id="short"), timeout=60))
    await asyncio.sleep(0)
    around.deployer.state.put(BOTH)
    fake.settle("digits", "old", "active")
    assert dict((await waiting).traffic_split) == {OLD: 100}
    assert len(fake.asked) == 1


async def test_a_deployment_that_failed_is_tried_again_and_says_why(router: Router, around: Surroundings) -> None:
    fake = around.deployer.deployments
    fake.put(Deployed("digits", "old-2", OLD, "failed", "no memory", b""))
    waiting = asyncio.ensure_future(router.api.RollBack(back(to_version=OLD), timeout=60))
    await eventually(lambda: fake.restarted == ["old-2"], what="it is tried again")
    fake.settle("digits", "old-2", "failed", "still no memory")
    error = await refusal(waiting)
    assert error.reason is Reason.VERSION_NOT_DEPLOYED
    assert "still no memory" in error.message
    assert fake.asked == []
    assert split(router) == {NEW: 100}


async def test_what_the_deployer_refuses_is_said(router: Router, around: Surroundings) -> None:
    around.deployer.deployments.refusal = MeshError(Reason.VERSION_NOT_FOUND, "model 'digits' has no version v9.0.0")
    error = await refusal(router.api.RollBack(back(to_version="9.0.0"), timeout=60))
    assert error.reason is Reason.VERSION_NOT_DEPLOYED
    assert "no version v9.0.0" in error.message
    await around.deployer.stop()
    error = await refusal(router.api.RollBack(back(to_version=OLD), timeout=60))
    assert error.reason is Reason.DEPENDENCY_UNAVAILABLE


async def test_a_version_gets_everything_back_when_nothing_else_is_left(router: Router, around: Surroundings) -> None:
    """The new version is broken so badly that nothing of it is left."""
    fake = around.deployer.deployments
    del fake.deployments["digits", "new"]
    around.deployer.state.put(without(without(BOTH, OLD), NEW))
    await eventually(lambda: "digits" not in router.gateways.table.models)
    waiting = asyncio.ensure_future(router.api.RollBack(back(), timeout=60))
    await eventually(lambda: len(fake.asked) == 1, what="it is deployed")
    around.deployer.state.put(without(BOTH, NEW))
    assert dict((await waiting).traffic_split) == {OLD: 100} == split(router)
