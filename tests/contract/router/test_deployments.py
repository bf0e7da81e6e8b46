"""What every `Deployments` and `SpecStore` promises, shown for the real ones and for those that other tests use."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import grpc
import pytest
from infermesh.deployer.v1 import deployer_service_pb2 as pb
from infermesh.deployer.v1 import deployment_pb2

from services.common.database import create_engine, migrate
from services.common.errors import MeshError, Reason
from services.common.grpc.channel import open_channel
from services.router.adapters.deployer import GrpcDeployments
from services.router.adapters.postgres import SCHEMA
from services.router.adapters.spec_store import PostgresSpecStore
from services.router.domain.deployments import Deployed, Spec
from services.router.ports import Deployments
from tests.support.parts import free_port
from tests.support.router_deployments import FakeDeployments, add_deployments, errors_as_services_send_them

OLD = "v1.0.0"
SPEC = pb.CreateDeploymentRequest(
    environment="prod",
    cluster="local",
    namespace="default",
    resources=deployment_pb2.Resources(replicas=2, cpu="500m"),
    batching=deployment_pb2.Batching(max_batch_size=8, batch_timeout_ms=5),
    serving=deployment_pb2.ServingOptions(instances=2),
).SerializeToString(deterministic=True)
THERE = Deployed("digits", "main", OLD, "active", "", SPEC)


@pytest.fixture
def memory() -> FakeDeployments:
    return FakeDeployments()


@pytest.fixture(params=["memory", "grpc"])
async def deployments(request: pytest.FixtureRequest, memory: FakeDeployments) -> AsyncIterator[Deployments]:
    if request.param == "memory":
        yield memory
        return
    server = grpc.aio.server(interceptors=(errors_as_services_send_them(),))
    add_deployments(memory, server)
    port = free_port()
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    async with open_channel(f"127.0.0.1:{port}") as channel:
        yield GrpcDeployments(channel)
    await server.stop(grace=None)


async def test_all_deployments_are_listed_with_how_they_are_deployed(
    deployments: Deployments, memory: FakeDeployments
) -> None:
    others = [replace(THERE, deployment_name=f"d-{number}") for number in range(3)]
    for one in (THERE, *others, replace(THERE, model_name="other")):
        memory.put(one)
    assert await deployments.every("digits") == [*others, THERE]
    assert len(await deployments.every("")) == 5
    assert await deployments.every("nothing") == []


async def test_a_version_is_deployed_as_it_was_and_once(deployments: Deployments, memory: FakeDeployments) -> None:
    spec = Spec("digits", OLD, "again", SPEC)
    await deployments.deploy(spec, request_id="r1")
    await deployments.deploy(spec, request_id="r1")
    await deployments.deploy(Spec("digits", "v2.0.0", "plain", b""), request_id="")
    assert memory.asked == [spec, Spec("digits", "v2.0.0", "plain", b"")]
    with pytest.raises(MeshError) as raised:
        await deployments.deploy(spec, request_id="r2")
    assert raised.value.reason is Reason.DEPLOYMENT_EXISTS


async def test_a_wait_ends_when_it_is_settled_or_over(deployments: Deployments, memory: FakeDeployments) -> None:
    memory.put(replace(THERE, status="deploying"))
    assert (await deployments.wait("digits", "main", timeout_s=0.05)).status == "deploying"
    waiting = asyncio.create_task(deployments.wait("digits", "main", timeout_s=30))
    await asyncio.sleep(0)
    memory.settle("digits", "main", "failed", "no memory")
    settled = await waiting
    assert (settled.status, settled.error_message) == ("failed", "no memory")
    await deployments.restart("digits", "main")
    assert memory.restarted == ["main"]
    for call in (deployments.restart("digits", "x"), deployments.wait("digits", "x", timeout_s=1)):
        with pytest.raises(MeshError) as raised:
            await call
        assert raised.value.reason is Reason.DEPLOYMENT_NOT_FOUND


async def test_what_was_put_to_rest_is_deployed_to_answer(memory: FakeDeployments) -> None:
    server = grpc.aio.server()
    add_deployments(memory, server)
    port = free_port()
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    asleep = pb.CreateDeploymentRequest(resources=deployment_pb2.Resources(replicas=0)).SerializeToString()
    async with open_channel(f"127.0.0.1:{port}") as channel:
        await GrpcDeployments(channel).deploy(Spec("digits", OLD, "again", asleep), request_id="")
    await server.stop(grace=None)
    assert pb.CreateDeploymentRequest.FromString(memory.asked[0].spec).resources.replicas == 1


async def test_how_versions_were_deployed_is_kept(database_url: str) -> None:
    await migrate(database_url, service=SCHEMA)
    engine = create_engine(database_url, schema=SCHEMA)
    store = PostgresSpecStore(engine)
    assert await store.find("digits", OLD) is None
    first, other = Spec("digits", OLD, "main", SPEC), Spec("digits", "v2.0.0", "next", b"")
    await store.keep([])
    await store.keep([first, other])
    assert await store.find("digits", OLD) == first
    assert await store.find("digits", "v2.0.0") == other
    later = Spec("digits", OLD, "main-2", b"\x00\xff")
    await store.keep([later])
    assert await store.find("digits", OLD) == later
    await engine.dispose()
