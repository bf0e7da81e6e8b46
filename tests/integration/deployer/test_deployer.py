"""The deployer over the real PostgreSQL and the real Triton, asked by gRPC."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from infermesh.deployer.v1 import backend_service_pb2, backend_service_pb2_grpc, deployer_service_pb2, deployment_pb2
from pydantic import SecretStr

from services.common.errors import MeshError, Reason
from services.common.names import backend_model_name
from services.deployer.settings import DeployerSettings
from tests.integration.deployer.driving import DIGITS, Mesh, Triton, expected
from tests.support.deployer_fakes import FakeVersions, recipe
from tests.support.waiting import eventually

OLD, NEW = "v1.0.0", "v1.1.0"


@pytest.fixture
async def mesh(database_url: str, triton: Triton, tmp_path: Path) -> AsyncIterator[Mesh]:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a model")
    files = {OLD: DIGITS / f"digits-{OLD}.onnx", NEW: DIGITS / f"digits-{NEW}.onnx", "v6.6.6": broken}
    settings = DeployerSettings(
        port=0,
        metrics_port=0,
        database_url=SecretStr(database_url),
        model_repository=tmp_path / "repository",
        triton_http_address=f"127.0.0.1:{triton.part.ports['triton_http']}",
        triton_grpc_address=f"127.0.0.1:{triton.part.ports['triton_grpc']}",
        drain_s=0.2,
        period_s=0.1,
    )
    versions = FakeVersions(
        {
            ("digits", version): recipe(path=str(path), digest=hashlib.sha256(path.read_bytes()).hexdigest())
            for version, path in files.items()
        }
        | {("digits", "v7.0.0"): recipe(framework="caffe"), ("digits", "v8.0.0"): recipe(stage="archived")}
    )
    deployer = Mesh(settings, versions)
    await deployer.start()
    yield deployer
    await deployer.stop()


async def test_a_deployed_version_answers_is_published_and_gets_its_traffic(mesh: Mesh, triton: Triton) -> None:
    deployed = await mesh.deploy("1.0.0", "first", traffic_split={OLD: 100})
    assert (deployed.status, deployed.health_status, deployed.version) == ("active", "healthy", OLD)
    assert (deployed.replicas, deployed.ready_replicas) == (1, 1)
    assert [(one.type, one.status) for one in deployed.conditions][:4] == [
        ("Validated", "True"),
        ("Packaged", "True"),
        ("Loaded", "True"),
        ("WarmedUp", "True"),
    ]
    assert await triton.predict(OLD) == expected(OLD)
    answer = await mesh.backends()
    (version,) = answer.models[0].versions
    assert (answer.full, answer.models[0].model_name, version.version) == (True, "digits", OLD)
    assert (version.batching.enabled, version.batching.max_batch_size) == (True, 32)
    assert version.backends[0].server_model_name == "digits--v1.0.0"
    assert deployed.endpoint_url.endswith("/v2/models/digits--v1.0.0")
    await eventually(lambda: mesh.traffic.splits == [("digits", "first", {OLD: 100})])


async def test_what_is_loaded_comes_back_after_triton_was_killed(mesh: Mesh, triton: Triton) -> None:
    await mesh.deploy(OLD, "old")
    await mesh.deploy(NEW, "new")
    await triton.kill()
    await eventually(lambda: _health(mesh, "old", "unhealthy"))
    assert await mesh.published() == {"digits": [OLD, NEW]}
    await triton.start()
    await eventually(lambda: _health(mesh, "old", "healthy"), timeout_s=20)
    await eventually(lambda: _health(mesh, "new", "healthy"), timeout_s=20)
    assert await triton.predict(OLD) == expected(OLD)
    assert await triton.predict(NEW) == expected(NEW)


async def test_a_restarted_deployment_is_loaded_anew_and_answers_meanwhile(mesh: Mesh, triton: Triton) -> None:
    await mesh.deploy(OLD, "old")
    over = asyncio.Event()

    async def ask() -> None:
        while not over.is_set():
            assert await triton.predict(OLD) == expected(OLD)

    async with asyncio.TaskGroup() as callers:
        callers.create_task(ask(), name="a caller")
        for _ in range(2):
            before = triton.model_processes()
            await mesh.restart("old")
            assert (await mesh.wait("old")).health_status == "healthy"
            assert triton.model_processes() - before

            def gone(old: frozenset[int] = frozenset(before)) -> bool:
                return not old & triton.model_processes()

            await eventually(gone, what="the one before goes")
        over.set()


async def test_a_restarted_deployer_loses_and_unloads_nothing(mesh: Mesh, triton: Triton) -> None:
    await mesh.deploy(OLD, "old")
    before = await mesh.backends()
    await mesh.stop()
    proven = (await _statistics(triton, OLD))["inference_count"]
    assert await triton.predict(OLD) == expected(OLD)

    async def counted() -> bool:
        return (await _statistics(triton, OLD))["inference_count"] == proven + 1

    await eventually(counted, what="Triton has counted it, which it does after it has answered")
    await mesh.start()
    after = await mesh.backends()
    assert after.models == before.models
    assert after.revision > before.revision
    assert (await mesh.get("old")).status == "active"
    # No trial prediction either: what was proven is not touched.
    assert (await _statistics(triton, OLD))["inference_count"] == proven + 1


async def test_a_restarted_deployer_knows_what_it_published_while_triton_is_down(mesh: Mesh, triton: Triton) -> None:
    await mesh.deploy(OLD, "old")
    await mesh.stop()
    await triton.kill()
    await mesh.start()
    assert await mesh.published() == {"digits": [OLD]}


async def test_a_broken_artifact_fails_with_the_words_of_its_framework(mesh: Mesh) -> None:
    failed = await mesh.deploy("v6.6.6", "broken")
    assert (failed.status, failed.health_status, failed.error_reason) == ("failed", "unhealthy", "LOAD_FAILED")
    assert "INVALID_PROTOBUF" in failed.error_message
    assert next(one for one in failed.conditions if one.type == "Loaded").status == "False"
    assert await mesh.published() == {}


async def test_what_cannot_be_run_or_is_not_registered_is_refused_at_once(mesh: Mesh) -> None:
    with pytest.raises(MeshError) as unsupported:
        await mesh.deploy("v7.0.0", "caffe")
    assert unsupported.value.reason is Reason.FRAMEWORK_UNSUPPORTED
    with pytest.raises(MeshError) as archived:
        await mesh.deploy("v8.0.0", "eight")
    assert archived.value.reason is Reason.VERSION_ARCHIVED
    with pytest.raises(MeshError) as unknown:
        await mesh.deploy("v9.9.9", "nine")
    assert unknown.value.reason is Reason.VERSION_NOT_FOUND


async def test_a_deleted_deployment_is_withdrawn_unloaded_and_may_come_back(
    mesh: Mesh, triton: Triton, tmp_path: Path
) -> None:
    await mesh.deploy(OLD, "old")
    gone = await mesh.calls.DeleteDeployment(
        deployer_service_pb2.DeleteDeploymentRequest(model_name="digits", deployment_name="old")
    )
    assert gone.status == "terminating"
    # Made again at once: the call waits for the removal to end.
    again = await mesh.deploy(OLD, "old")
    assert again.status == "active"
    assert again.deployment_id != gone.deployment_id
    await mesh.calls.DeleteDeployment(
        deployer_service_pb2.DeleteDeploymentRequest(model_name="digits", deployment_name="old")
    )

    async def is_gone() -> bool:
        listed = await mesh.calls.ListDeployments(deployer_service_pb2.ListDeploymentsRequest(model_name="digits"))
        return not listed.deployments

    await eventually(is_gone)
    assert await mesh.published() == {}
    assert not await triton.is_loaded(OLD)
    assert not (tmp_path / "repository" / "digits--v1.0.0").exists()


async def test_more_replicas_and_other_batches_are_taken_up_without_an_interruption(mesh: Mesh, triton: Triton) -> None:
    await mesh.deploy(OLD, "old")
    await mesh.calls.UpdateDeployment(
        deployer_service_pb2.UpdateDeploymentRequest(
            deployment=deployment_pb2.Deployment(
                model_name="digits",
                deployment_name="old",
                resources=deployment_pb2.Resources(replicas=2),
                batching=deployment_pb2.Batching(max_batch_size=8),
            )
        )
    )
    changed = await mesh.wait("old")
    assert (changed.status, changed.replicas, changed.ready_replicas) == ("active", 2, 2)
    assert (changed.generation, changed.observed_generation) == (2, 2)
    assert await triton.predict(OLD) == expected(OLD)
    (model,) = (await mesh.backends()).models
    assert model.versions[0].batching.max_batch_size == 8
    servers = await mesh.calls.ListModelServers(deployer_service_pb2.ListModelServersRequest())
    assert [(one.server_id, one.ready, one.loaded_versions) for one in servers.model_servers] == [("triton-0", True, 1)]


async def test_a_watcher_is_told_of_changes_alone_after_the_first_answer(mesh: Mesh) -> None:
    assert mesh.channel is not None
    stub = backend_service_pb2_grpc.BackendServiceStub(mesh.channel)
    stream = stub.WatchBackends(backend_service_pb2.WatchBackendsRequest(watcher_id="test"), timeout=60)
    answers = aiter(stream)
    first = await anext(answers)
    assert (first.full, list(first.models)) == (True, [])
    await mesh.deploy(OLD, "old")
    second = await anext(answers)
    assert (second.full, [model.model_name for model in second.models]) == (False, ["digits"])
    assert second.revision > first.revision
    await mesh.calls.DeleteDeployment(
        deployer_service_pb2.DeleteDeploymentRequest(model_name="digits", deployment_name="old")
    )
    third = await anext(answers)
    assert (third.full, list(third.removed_models)) == (False, ["digits"])


async def _health(mesh: Mesh, name: str, health: str) -> bool:
    return (await mesh.get(name)).health_status == health


async def _statistics(triton: Triton, version: str) -> dict[str, int]:
    name = backend_model_name("digits", version)
    url = f"http://127.0.0.1:{triton.part.ports['triton_http']}/v2/models/{name}/stats"
    async with httpx.AsyncClient() as client:
        (statistics,) = (await client.get(url)).json()["model_stats"]
    found: dict[str, int] = statistics
    return found
