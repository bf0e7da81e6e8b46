"""Deployments in a cluster, by the mesh's API and by kubectl: one object, one row, and pods that are published."""

from collections.abc import Mapping

import pytest
from infermesh.deployer.v1 import backend_service_pb2, backend_service_pb2_grpc, deployer_service_pb2, deployment_pb2

from services.common.body import Body, at, items, text
from services.common.errors import MeshError, Reason
from services.common.kubernetes.conditions import find
from tests.integration.clusters.conftest import CLUSTER, NEW, OLD
from tests.integration.deployer.driving import Mesh
from tests.integration.operator.conftest import Ground
from tests.support.operator_kube import wish
from tests.support.operator_site import operator_site
from tests.support.waiting import eventually


async def published(mesh: Mesh) -> Mapping[str, list[str]]:
    """The addresses of each version that is published now."""
    assert mesh.channel is not None
    stub = backend_service_pb2_grpc.BackendServiceStub(mesh.channel)
    call = stub.WatchBackends(backend_service_pb2.WatchBackendsRequest(watcher_id="test"))
    update = await call.read()
    assert isinstance(update, backend_service_pb2.WatchBackendsResponse)
    call.cancel()
    return {
        one.version: [server.http_address for server in one.backends]
        for model in update.models
        for one in model.versions
    }


async def only_object(ground: Ground) -> Body:
    """The one ModelDeployment of the namespace."""
    found = await ground.kube.list("ModelDeployment", ground.namespace)
    assert len(found) == 1, found
    return found[0]


async def status(mesh: Mesh, name: str, wanted: str) -> deployment_pb2.Deployment:
    """The deployment once it is so."""

    async def looks() -> deployment_pb2.Deployment:
        found = await mesh.get(name)
        assert found.status == wanted, found
        return found

    return await eventually(looks, timeout_s=40, every_s=0.1, what=f"{name} is {wanted}")


async def gone(mesh: Mesh, name: str) -> None:
    """Returns once there is no such deployment."""

    async def looks() -> bool:
        try:
            await mesh.get(name)
        except MeshError as error:
            return error.reason is Reason.DEPLOYMENT_NOT_FOUND
        return False

    await eventually(looks, timeout_s=40, every_s=0.1, what=f"{name} goes")


async def test_by_the_api_it_becomes_an_object_replicas_and_an_address_and_goes(
    mesh: Mesh, ground: Ground, pods: str
) -> None:
    async with operator_site(ground.kubeconfig, options={"namespaces": ground.namespace, "drain_s": 1}):
        made = await mesh.deploy(
            OLD, "main", cluster=CLUSTER, resources={"replicas": 2, "cpu": "500m"}, traffic_split={OLD: 100}
        )
        assert (made.status, made.health_status, made.ready_replicas) == ("active", "healthy", 2), made
        body = await only_object(ground)
        assert at(body, "spec", "resources") == {"replicas": 2, "cpu": "500m", "gpu": 0, "gpuSharing": ""}
        assert (text(body, "spec", "deploymentName"), made.cluster) == ("main", CLUSTER)
        assert await published(mesh) == {OLD: [f"{pods}:8000"] * 2}
        types = {one.type: one.status for one in made.conditions}
        assert (types["WarmedUp"], types["RolledOut"], types["Ready"]) == ("True", "True", "True")

        async def routed() -> bool:
            found = await only_object(ground)
            return text(find(found, "Routed"), "status") == text(find(found, "Mirrored"), "status") == "True"

        await eventually(routed)
        await mesh.calls.ScaleDeployment(
            deployer_service_pb2.ScaleDeploymentRequest(model_name="digits", deployment_name="main", replicas=1)
        )
        assert at(await only_object(ground), "spec", "resources", "replicas") == 1

        async def one_left() -> bool:
            return await published(mesh) == {OLD: [f"{pods}:8000"]}

        await eventually(one_left, timeout_s=20)
        await mesh.calls.DeleteDeployment(
            deployer_service_pb2.DeleteDeploymentRequest(model_name="digits", deployment_name="main")
        )
        await gone(mesh, "main")
        assert await ground.kube.list("ModelDeployment", ground.namespace) == []
        assert await published(mesh) == {}


async def test_by_kubectl_it_becomes_a_deployment_that_rolls_over_and_goes(
    mesh: Mesh, ground: Ground, pods: str
) -> None:
    async with operator_site(ground.kubeconfig, options={"namespaces": ground.namespace, "drain_s": 1}):
        await ground.kube.apply(wish(ground.namespace, version=OLD))
        await eventually(lambda: _there(mesh, "digits"), timeout_s=20)
        found = await status(mesh, "digits", "active")
        assert (found.created_by, found.namespace, found.version) == ("kubectl", ground.namespace, OLD)
        assert await published(mesh) == {OLD: [f"{pods}:8000"]}
        # A change of version by kubectl: the new one is proven, takes the traffic, and then the old one's pods go.
        await ground.kube.apply(wish(ground.namespace, version=NEW, batching={"maxBatchSize": 8}))

        async def rolled() -> bool:
            return list(await published(mesh)) == [NEW]

        await eventually(rolled, timeout_s=40, every_s=0.2)
        found = await status(mesh, "digits", "active")
        assert (found.version, found.batching.max_batch_size) == (NEW, 8)
        assert mesh.traffic.taken_over == [(NEW, (OLD,))]
        # The API changes what kubectl made.
        await mesh.calls.ScaleDeployment(
            deployer_service_pb2.ScaleDeploymentRequest(model_name="digits", deployment_name="digits", replicas=2)
        )
        body = await only_object(ground)
        assert (at(body, "spec", "resources", "replicas"), at(body, "spec", "batching", "maxBatchSize")) == (2, 8)
        await ground.kube.delete("ModelDeployment", ground.namespace, "digits")
        await gone(mesh, "digits")
        assert await published(mesh) == {}
        await ground.gone("ModelDeployment", "digits")


async def test_a_restart_by_the_api_makes_the_pods_anew_and_other_shares_reach_the_router(
    mesh: Mesh, ground: Ground, pods: str
) -> None:
    async with operator_site(ground.kubeconfig, options={"namespaces": ground.namespace, "drain_s": 1}):
        await mesh.deploy(OLD, "main", cluster=CLUSTER, traffic_split={OLD: 100})
        before = {text(one, "metadata", "name") for one in await ground.kube.list("Pod", ground.namespace)}
        restarted = await mesh.calls.RestartDeployment(
            deployer_service_pb2.RestartDeploymentRequest(model_name="digits", deployment_name="main")
        )
        body = await only_object(ground)
        assert text(body, "spec", "restartedAt")
        assert restarted.generation == 2

        async def all_new() -> bool:
            there = {text(one, "metadata", "name") for one in await ground.kube.list("Pod", ground.namespace)}
            found = await mesh.get("main")
            assert await published(mesh) == {OLD: [f"{pods}:8000"]}, "it answers all the while"
            return len(there) == 1 and not there & before and found.status == "active" and found.ready_replicas == 1

        await eventually(all_new, timeout_s=40, every_s=0.1)
        events = await mesh.calls.ListDeploymentEvents(
            deployer_service_pb2.ListDeploymentEventsRequest(model_name="digits", deployment_name="main")
        )
        assert [one.type for one in events.events].count("Restarted") == 1
        # kubectl states other shares.
        name = text(body, "metadata", "name")
        await ground.kube.patch(
            "ModelDeployment", ground.namespace, name, {"spec": {"trafficSplit": {OLD: 60, NEW: 40}}}
        )
        handed = [("digits", "main", {OLD: 100}), ("digits", "main", {OLD: 60, NEW: 40})]
        await eventually(lambda: mesh.traffic.splits == handed, timeout_s=20)
        assert at(await only_object(ground), "spec", "restartedAt") == at(body, "spec", "restartedAt")


async def test_what_cannot_be_mirrored_is_said_in_the_object(mesh: Mesh, ground: Ground) -> None:
    await ground.kube.apply(wish(ground.namespace, version="v9.0.0"))

    async def said() -> bool:
        found = find(await only_object(ground), "Mirrored")
        return (text(found, "status"), text(found, "reason")) == ("False", "VersionNotFound")

    await eventually(said)
    assert text(find(await only_object(ground), "Routed"), "status") == "False"
    # The version is mended by hand, and the deployment is there.
    await ground.kube.apply(wish(ground.namespace, version=OLD))
    await eventually(lambda: _there(mesh, "digits"), timeout_s=20)
    # A second object of the same name in the mesh is told of the first.
    await ground.kube.apply(wish(ground.namespace, "other", version=OLD, deploymentName="digits"))

    async def second_is_told() -> bool:
        body = await ground.kube.get("ModelDeployment", ground.namespace, "other")
        return text(find(body or {}, "Mirrored"), "reason") == "DeploymentExists"

    await eventually(second_is_told)


async def test_what_the_api_server_refuses_is_refused_with_the_field(mesh: Mesh, ground: Ground) -> None:
    asked = {"cluster": CLUSTER, "serving": {"pinned": True}, "autoscaling": {"enabled": True, "min_replicas": 0}}
    with pytest.raises(MeshError) as refused:
        await mesh.deploy(OLD, "main", **asked)
    assert refused.value.reason is Reason.INVALID_FIELD
    assert "a pinned version never sleeps" in refused.value.message
    with pytest.raises(MeshError) as refused:
        await mesh.deploy(OLD, "main", cluster="moon")
    assert refused.value.reason is Reason.INVALID_FIELD
    assert "local, test" in refused.value.message
    with pytest.raises(MeshError) as refused:
        await mesh.deploy(OLD, "main", cluster=CLUSTER, namespace="elsewhere")
    assert refused.value.reason is Reason.INVALID_FIELD
    assert ground.namespace in refused.value.message
    assert await ground.kube.list("ModelDeployment", ground.namespace) == []
    with pytest.raises(MeshError) as refused:
        await mesh.get("main")
    assert refused.value.reason is Reason.DEPLOYMENT_NOT_FOUND


async def test_a_restart_of_the_deployer_publishes_from_its_rows_and_mends_what_happened_meanwhile(
    mesh: Mesh, ground: Ground, pods: str
) -> None:
    async with operator_site(ground.kubeconfig, options={"namespaces": ground.namespace, "drain_s": 1}):
        made = await mesh.deploy(OLD, "main", cluster=CLUSTER)
        assert made.status == "active"
        await mesh.stop()
        body = await only_object(ground)
        name = text(body, "metadata", "name")
        await ground.kube.patch("ModelDeployment", ground.namespace, name, {"spec": {"resources": {"replicas": 2}}})
        await mesh.start()
        assert OLD in await published(mesh)

        async def mended() -> bool:
            found = await mesh.get("main")
            return found.replicas == found.ready_replicas == 2 and len((await published(mesh))[OLD]) == 2

        await eventually(mended, timeout_s=30)
        assert items(await only_object(ground), "metadata", "managedFields")


async def _there(mesh: Mesh, name: str) -> bool:
    request = deployer_service_pb2.ListDeploymentsRequest(model_name="digits")
    return any(one.deployment_name == name for one in (await mesh.calls.ListDeployments(request)).deployments)
