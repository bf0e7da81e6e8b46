"""What a team may use, as the registry says it and deployer and batch hold it; and jobs whose model is taken away."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from infermesh.batch.v1 import batch_service_pb2, batch_service_pb2_grpc
from infermesh.deployer.v1 import deployer_service_pb2, deployer_service_pb2_grpc, deployment_pb2
from infermesh.registry.v1 import registry_service_pb2, team_pb2, team_service_pb2

from services.common.errors import MeshError, Reason
from services.common.grpc.channel import open_channel
from services.common.grpc.identity import Identity, identity_headers
from tests.integration.access.mesh import HIDDEN, LENT, OWN, Mesh, make_job
from tests.support.parts import free_port
from tests.support.registry_driving import digits
from tests.support.registry_team import OPERATOR, member, models_by, teams_by
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(120)
RED, BLUE = member("red", "deployer"), member("blue", "deployer")


async def limit(mesh: Mesh, folder: Path, service: str, **quota: Any) -> None:
    """Gives red a quota, and waits until a service knows."""
    given = team_pb2.ResourceQuota(**quota)
    request = team_service_pb2.UpdateTeamRequest(team=team_pb2.Team(name="red", resource_quota=given))
    await teams_by(mesh.registry, OPERATOR).UpdateTeam(request)
    await eventually(lambda: heard(folder, service, given), what=f"{service} has heard of the quota")


@asynccontextmanager
async def deployer(mesh: Mesh) -> AsyncIterator[Any]:
    async with open_channel(mesh.addresses["deployer"]) as channel:
        yield deployer_service_pb2_grpc.DeployerServiceStub(channel)


def deployment(model: str, *, cpu: str, replicas: int = 1) -> deployer_service_pb2.CreateDeploymentRequest:
    return deployer_service_pb2.CreateDeploymentRequest(
        model_name=model,
        version="v1.0.0",
        deployment_name="main",
        resources=deployment_pb2.Resources(cpu=cpu, replicas=replicas),
    )


def heard(folder: Path, service: str, quota: team_pb2.ResourceQuota) -> bool:
    """Whether a service has kept, and so taken, what the registry says of red."""
    try:
        said = team_service_pb2.WatchAccessResponse.FromString((folder / service / "access.pb").read_bytes())
    except FileNotFoundError:
        return False
    return any(team.name == "red" and team.resource_quota == quota for team in said.teams)


async def job(mesh: Mesh, job_id: str) -> Any:
    """A job as operators see it."""
    stub: Any = batch_service_pb2_grpc.BatchServiceStub(mesh.channels["batch"])
    request = batch_service_pb2.GetBatchJobRequest(job_id=job_id)
    return await stub.GetBatchJob(request, metadata=identity_headers(OPERATOR), timeout=5)


async def test_a_team_deploys_within_its_quota(mesh: Mesh, tmp_path: Path) -> None:
    await models_by(mesh.registry, RED).CreateModel(digits(name="red-own2"))
    await limit(mesh, tmp_path, "deployer", cpu="3")

    async def refusal(model: str, caller: Identity, **resources: Any) -> MeshError:
        with pytest.raises(MeshError) as caught:
            await stub.CreateDeployment(deployment(model, **resources), metadata=identity_headers(caller), timeout=10)
        return caught.value

    async with deployer(mesh) as stub:
        refused = await refusal(OWN, RED, cpu="2", replicas=2)
        assert refused.metadata == {"limit": "cpu", "team": "red", "asked": "4", "used": "0", "allowed": "3"}
        assert (await refusal(OWN, RED, cpu="")).violations[0].field == "resources.cpu"
        await stub.CreateDeployment(deployment(OWN, cpu="2"), metadata=identity_headers(RED), timeout=10)
        assert (await refusal("red-own2", RED, cpu="2")).metadata["used"] == "2"
        scale = deployer_service_pb2.ScaleDeploymentRequest(model_name=OWN, deployment_name="main", replicas=2)
        with pytest.raises(MeshError, match="may use 3 cpu"):
            await stub.ScaleDeployment(scale, metadata=identity_headers(RED), timeout=10)
        # Another team's is another quota.
        await stub.CreateDeployment(deployment(HIDDEN, cpu="64"), metadata=identity_headers(BLUE), timeout=10)


async def test_where_external_servers_are_is_for_operators_to_say(mesh: Mesh) -> None:
    nobody = f"127.0.0.1:{free_port()}"

    def external(model: str, version: str, address: str = nobody) -> deployer_service_pb2.CreateDeploymentRequest:
        backend = deployment_pb2.ExternalBackend(protocol="oip-rest", addresses=[address])
        return deployer_service_pb2.CreateDeploymentRequest(
            model_name=model, version=version, deployment_name="outside", external_backend=backend
        )

    async with deployer(mesh) as stub:

        async def refusal(call: Any, request: Any, caller: Identity) -> Reason:
            with pytest.raises(MeshError) as caught:
                await call(request, metadata=identity_headers(caller), timeout=10)
            return caught.value.reason

        create, update = stub.CreateDeployment, stub.UpdateDeployment
        assert await refusal(create, external(OWN, "v1.0.0"), RED) is Reason.PERMISSION_DENIED
        check = deployer_service_pb2.ValidateDeploymentRequest(deployment=external(OWN, "v1.0.0"))
        answer = await stub.ValidateDeployment(check, metadata=identity_headers(RED), timeout=10)
        assert [one.reason for one in answer.checks if one.status == "False"] == ["PERMISSION_DENIED"]
        # Whose a deployment is, is its model's affair; a model that is nobody's is not to be had by a name.
        assert await refusal(create, external("not-registered", "v1.0.0"), OPERATOR) is Reason.MODEL_NOT_FOUND
        assert await refusal(create, external(OWN, "v7.0.0"), OPERATOR) is Reason.DEPENDENCY_UNAVAILABLE
        made = await create(external(OWN, "v1.0.0"), metadata=identity_headers(OPERATOR), timeout=10)
        assert (made.team, list(made.external_backend.addresses)) == ("red", [nobody])
        moved = deployer_service_pb2.UpdateDeploymentRequest(deployment=made)
        moved.deployment.external_backend.addresses[0] = "127.0.0.1:1"
        moved.deployment.etag = ""
        moved.update_mask.paths.append("external_backend")
        assert await refusal(update, moved, RED) is Reason.PERMISSION_DENIED
        changed = await update(moved, metadata=identity_headers(OPERATOR), timeout=10)
        assert list(changed.external_backend.addresses) == ["127.0.0.1:1"]
        scale = deployer_service_pb2.ScaleDeploymentRequest(model_name=OWN, deployment_name="outside", replicas=2)
        assert await refusal(stub.ScaleDeployment, scale, RED) is Reason.INVALID_FIELD


async def test_of_a_teams_jobs_only_so_many_run_and_nobody_waits_for_them(mesh: Mesh, tmp_path: Path) -> None:
    await limit(mesh, tmp_path, "batch", batch_concurrency=0)
    await models_by(mesh.registry, RED).CreateModel(digits(name="red-own2"))
    first = await make_job(mesh, OWN, RED, tmp_path)
    second = await make_job(mesh, "red-own2", RED, tmp_path)
    other = await make_job(mesh, HIDDEN, BLUE, tmp_path)

    async def status(job_id: str, *wanted: str) -> bool:
        return str((await job(mesh, job_id)).status) in wanted

    await eventually(lambda: status(other, "running"), what="the other team's job runs")
    await limit(mesh, tmp_path, "batch", batch_concurrency=1)
    await eventually(lambda: status(first, "running"), what="the first job runs")
    assert await status(second, "pending")
    stub: Any = batch_service_pb2_grpc.BatchServiceStub(mesh.channels["batch"])
    for done in (first, other):
        cancel = batch_service_pb2.CancelBatchJobRequest(job_id=done)
        await stub.CancelBatchJob(cancel, metadata=identity_headers(OPERATOR), timeout=5)
    await eventually(lambda: status(second, "running"), what="the second has its turn")


async def test_a_job_fails_once_its_team_does_not_see_the_model(mesh: Mesh, tmp_path: Path) -> None:
    made = await make_job(mesh, LENT, RED, tmp_path)
    unshare = registry_service_pb2.UnshareModelRequest(model_name=LENT, team="red")
    await models_by(mesh.registry, member("blue")).UnshareModel(unshare)

    async def failed() -> bool:
        return str((await job(mesh, made)).status) == "failed"

    await eventually(failed, what="the job fails")
    assert "no model 'blue-own'" in (await job(mesh, made)).error_message
