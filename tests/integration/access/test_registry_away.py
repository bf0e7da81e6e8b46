"""What services do with callers while the registry is dead, and with streams whose reason has gone."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from infermesh.deployer.v1 import deployer_service_pb2, deployer_service_pb2_grpc
from infermesh.registry.v1 import registry_service_pb2, team_service_pb2

from services.common.errors import Reason
from services.common.grpc.identity import identity_headers
from tests.integration.access.mesh import ABSENT, HIDDEN, LENT, OWN, Mesh, make_key
from tests.support.every_call import Call, Names, every_call
from tests.support.registry_team import OPERATOR, member, models_by, teams_by
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(120)

CALLS = {call.descriptor.name: call for call in every_call()}
READS = ("GetTraffic", "GetDeployment", "ListDeployments", "GetModelMetrics", "ListBatchJobs", "ListAlerts")
WRITES = ("UpdateTraffic", "ScaleDeployment", "PauseCanary", "CreateBatchJob")
RED = member("red", "admin")
GONE = frozenset({"DEADLINE_EXCEEDED", "UNAVAILABLE", "UNKNOWN", "INTERNAL"})


async def test_own_names_work_and_hidden_ones_are_as_absent_ones_while_the_registry_is_dead(mesh: Mesh) -> None:
    await mesh.lifecycles["registry"].stop()
    for name in READS:
        own = await mesh.ask(CALLS[name], Names(model=OWN, team=""), RED)
        assert own.reason not in {Reason.DEPENDENCY_UNAVAILABLE, Reason.MODEL_NOT_FOUND, Reason.PERMISSION_DENIED}, name
        assert own.code not in GONE, (name, own)
    # Side by side: each waits a while for a registry that may just be starting again.
    both = [(name, Names(model=model, team="")) for name in (*READS, *WRITES) for model in (HIDDEN, ABSENT)]
    answers = await asyncio.gather(*(mesh.ask(CALLS[name], names, RED) for name, names in both))
    for (name, _), hidden, absent in zip(both[::2], answers[::2], answers[1::2], strict=True):
        assert hidden == absent, name
        assert hidden.reason == Reason.DEPENDENCY_UNAVAILABLE, name
        assert "127.0.0.1" not in hidden.message, name
    # Who may not do it at all is told so all the same.
    viewer = await mesh.ask(CALLS["UpdateTraffic"], Names(model=OWN, team=""), member("red", "viewer"))
    assert viewer.reason == Reason.PERMISSION_DENIED


async def test_a_model_that_was_shared_a_moment_ago_is_found_at_once(mesh: Mesh) -> None:
    blue = models_by(mesh.registry, member("blue"))
    for name in ("GetDeployment", "GetTraffic", "GetModelMetrics", "ListBatchJobs"):
        await blue.ShareModel(registry_service_pb2.ShareModelRequest(model_name=HIDDEN, team="red"))
        seen = await mesh.ask(CALLS[name], Names(model=HIDDEN, team=""), RED)
        assert seen.reason != Reason.MODEL_NOT_FOUND, name
        assert seen.code not in GONE, (name, seen)
        # The next service has heard of the share by then, unless it is taken back in between.
        await blue.UnshareModel(registry_service_pb2.UnshareModelRequest(model_name=HIDDEN, team="red"))

        async def hidden(call: Call = CALLS[name]) -> bool:
            return (await mesh.ask(call, Names(model=HIDDEN, team=""), RED)).reason == Reason.MODEL_NOT_FOUND

        await eventually(hidden, what=f"{name} has heard that it is shared no more")


async def test_a_stream_of_a_model_ends_once_it_is_shared_no_more(mesh: Mesh) -> None:
    channel = mesh.channels["deployer"]
    stub: Any = deployer_service_pb2_grpc.DeployerServiceStub(channel)
    create = deployer_service_pb2.CreateDeploymentRequest(model_name=LENT, version="v1.0.0", deployment_name="main")
    await stub.CreateDeployment(create, metadata=identity_headers(OPERATOR), timeout=10)
    watch = stub.WatchDeployments(
        deployer_service_pb2.WatchDeploymentsRequest(model_name=LENT), metadata=identity_headers(RED), timeout=60
    )
    answers = aiter(watch)
    first = await asyncio.wait_for(anext(answers), 20)
    assert first.deployment.model_name == LENT
    unshare = registry_service_pb2.UnshareModelRequest(model_name=LENT, team="red")
    await models_by(mesh.registry, member("blue")).UnshareModel(unshare)

    async def hidden() -> bool:
        return (await mesh.ask(CALLS["GetDeployment"], Names(model=LENT, team=""), RED)).code == "NOT_FOUND"

    await eventually(hidden, what="the deployer has heard of it")
    restart = deployer_service_pb2.RestartDeploymentRequest(model_name=LENT, deployment_name="main")
    await stub.RestartDeployment(restart, metadata=identity_headers(OPERATOR), timeout=10)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await asyncio.wait_for(_to_its_end(answers), 20)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def _to_its_end(answers: AsyncIterator[object]) -> None:
    async for _ in answers:
        continue


async def test_a_key_that_is_revoked_is_refused_by_every_service_also_past_the_gateway(mesh: Mesh) -> None:
    key = await make_key(mesh, "red")
    caller = member("red", "viewer", key_id=key)
    names = Names(model=OWN, team="")
    for name in READS:
        assert (await mesh.ask(CALLS[name], names, caller)).code != "UNAUTHENTICATED", name
    revoke = team_service_pb2.RevokeApiKeyRequest(team_name="red", key_id=key)
    await teams_by(mesh.registry, RED).RevokeApiKey(revoke)

    async def refused() -> bool:
        answers = [await mesh.ask(CALLS[name], names, caller) for name in READS]
        return all(answer.reason == Reason.UNAUTHENTICATED for answer in answers)

    await eventually(refused, timeout_s=10, what="every service has heard of it")
