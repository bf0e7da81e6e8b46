"""Removing models and versions while a deployer says what is deployed, over gRPC and the real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
import psycopg
import pytest
from infermesh.deployer.v1 import deployer_service_pb2, deployment_pb2
from infermesh.registry.v1 import registry_service_pb2

from services.common.clock import SystemClock
from services.common.database import create_engine
from services.common.errors import MeshError, Reason
from services.common.grpc.channel import open_channel
from services.common.grpc.identity import HEADER_ROLE, HEADER_TEAM
from services.registry.adapters.database import SCHEMA
from services.registry.adapters.deployer import GrpcDeploymentBook
from services.registry.adapters.postgres import PostgresCatalogue
from services.registry.adapters.postgres_changes import PostgresChangeLog
from services.registry.adapters.postgres_removed import PostgresRemovals
from services.registry.domain.changes import Wanted
from services.registry.domain.deletion import Target
from services.registry.engines.reading import Reading
from services.registry.engines.removing import Removing
from services.registry.settings import RegistrySettings
from tests.support.parts import free_port
from tests.support.registry_driving import NEW, OLD, Registry, digits

Delete = registry_service_pb2.DeleteModelVersionRequest
DeleteModel = registry_service_pb2.DeleteModelRequest
Get = registry_service_pb2.GetModelVersionRequest
SetAlias = registry_service_pb2.SetAliasRequest

_SIGN = """
    INSERT INTO registry.version_signatures
        (version_id, content, kind, verified, signer, problem, fits, trust, checked_at)
    VALUES (%s, '\\x00ff', 'public-key', true, 'ann', '', true, '', now())
"""


@dataclass
class PlayedDeployer:
    """Says that these versions are deployed. `answering` is called when it is asked, with how often it was."""

    deployed: list[str] = field(default_factory=list)
    answering: Callable[[int], None] = lambda _: None
    asked: int = 0
    roles: list[str] = field(default_factory=list)

    async def ListDeployments(
        self,
        request: deployer_service_pb2.ListDeploymentsRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> deployer_service_pb2.ListDeploymentsResponse:
        self.asked += 1
        metadata = dict(context.invocation_metadata() or ())
        self.roles.append(str(metadata.get(HEADER_ROLE, "")))
        self.answering(self.asked)
        deployments = [
            deployment_pb2.Deployment(model_name=request.model_name, deployment_name=f"d-{version}", version=version)
            for version in self.deployed
        ]
        return deployer_service_pb2.ListDeploymentsResponse(deployments=deployments)


@pytest.fixture
async def deployer() -> AsyncIterator[tuple[PlayedDeployer, int]]:
    played, server, port = PlayedDeployer(), grpc.aio.server(), free_port()
    method: Any = grpc.unary_unary_rpc_method_handler(
        played.ListDeployments,
        request_deserializer=deployer_service_pb2.ListDeploymentsRequest.FromString,
        response_serializer=lambda answer: answer.SerializeToString(),
    )
    service = deployer_service_pb2.DESCRIPTOR.services_by_name["DeployerService"].full_name
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"ListDeployments": method}),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    yield played, port
    await server.stop(grace=None)


@pytest.fixture
async def registry(settings: RegistrySettings, deployer: tuple[PlayedDeployer, int]) -> AsyncIterator[Registry]:
    running = Registry(settings.model_copy(update={"deployer_address": f"127.0.0.1:{deployer[1]}"}))
    await running.start()
    for version in (OLD, NEW):
        await running.calls.CreateModel(digits(version))
    yield running
    await running.stop()


@pytest.fixture
async def removing(
    settings: RegistrySettings, deployer: tuple[PlayedDeployer, int], registry: Registry
) -> AsyncIterator[Removing]:
    """The same over the same database, whose steps a test can take by itself."""
    engine = create_engine(settings.database_url.get_secret_value(), schema=SCHEMA, pool_size=4)
    async with open_channel(f"127.0.0.1:{deployer[1]}") as channel:
        yield Removing(
            removals=PostgresRemovals(engine),
            deployments=GrpcDeploymentBook(channel),
            reading=Reading(PostgresCatalogue(engine)),
            clock=SystemClock(),
        )
    await engine.dispose()


async def refused(call: Any) -> MeshError:
    """Why a call was refused."""
    with pytest.raises(MeshError) as caught:
        await call
    return caught.value


async def noted(registry: Registry) -> list[str]:
    """What the audit log says was removed and came back, in order."""
    page = await registry.calls.ListChanges(registry_service_pb2.ListChangesRequest())
    kinds = ("model", "version", "alias")
    every = [f"{one.action} {one.resource_name}" for one in page.changes if one.resource_type in kinds]
    return every[::-1][3:]


async def test_a_removed_version_is_gone_and_its_number_with_it(
    registry: Registry, deployer: tuple[PlayedDeployer, int]
) -> None:
    made = await registry.calls.GetModelVersion(Get(model_name="digits", version=NEW))
    by_admin = ((HEADER_ROLE, "platform-admin"), (HEADER_TEAM, ""))
    await registry.calls.DeleteModelVersion(Delete(model_name="digits", version=NEW), metadata=by_admin)
    assert set(deployer[0].roles) == {""}
    gone = await refused(registry.calls.GetModelVersion(Get(model_name="digits", version=NEW)))
    assert gone.reason is Reason.VERSION_NOT_FOUND
    model = await registry.calls.GetModel(registry_service_pb2.GetModelRequest(model_name="digits"))
    assert (model.latest_version, model.version_count) == (OLD, 1)
    again = await refused(registry.calls.CreateModel(digits(NEW)))
    assert again.reason is Reason.VERSION_EXISTS
    assert "was removed" in again.message
    page = await registry.calls.ListChanges(
        registry_service_pb2.ListChangesRequest(resource_name=f"digits@{NEW}", page_size=1)
    )
    change = page.changes[0]
    assert (change.action, change.HasField("after")) == ("deleted", False)
    assert change.before["artifact_digest"] == made.artifact_digest
    # Its artifact stays until garbage is collected, and can be registered under another number.
    await registry.calls.CreateModel(
        digits(NEW, version="v1.2.0", artifact_uri=f"artifact://sha256/{made.artifact_digest}")
    )


async def test_what_is_deployed_or_pointed_to_stays(registry: Registry, deployer: tuple[PlayedDeployer, int]) -> None:
    deployer[0].deployed = [OLD]
    error = await refused(registry.calls.DeleteModelVersion(Delete(model_name="digits", version=OLD)))
    assert (error.reason, error.metadata["deployments"]) == (Reason.RESOURCE_IN_USE, f"d-{OLD}")
    error = await refused(registry.calls.DeleteModel(DeleteModel(model_name="digits")))
    assert error.reason is Reason.RESOURCE_IN_USE
    await registry.calls.SetAlias(SetAlias(model_name="digits", alias="champion", version=NEW))
    error = await refused(registry.calls.DeleteModelVersion(Delete(model_name="digits", version=NEW)))
    assert (error.reason, error.metadata["aliases"]) == (Reason.RESOURCE_IN_USE, "champion")
    listed = await registry.calls.ListModelVersions(registry_service_pb2.ListModelVersionsRequest(model_name="digits"))
    assert [one.version for one in listed.versions] == [NEW, OLD]
    assert await noted(registry) == ["created digits/champion"]


async def test_without_the_deployers_word_nothing_is_removed(settings: RegistrySettings) -> None:
    running = Registry(settings.model_copy(update={"deployer_address": f"127.0.0.1:{free_port()}"}))
    await running.start()
    await running.calls.CreateModel(digits(OLD))
    error = await refused(running.calls.DeleteModelVersion(Delete(model_name="digits", version=OLD)))
    assert error.reason is Reason.DEPENDENCY_UNAVAILABLE
    assert (await running.calls.GetModelVersion(Get(model_name="digits", version=OLD))).version == OLD
    await running.stop()


async def test_an_etag_that_is_old_removes_nothing(registry: Registry) -> None:
    error = await refused(registry.calls.DeleteModelVersion(Delete(model_name="digits", version=OLD, etag="old")))
    assert error.reason is Reason.ETAG_MISMATCH
    error = await refused(registry.calls.DeleteModel(DeleteModel(model_name="digits", etag="old")))
    assert error.reason is Reason.ETAG_MISMATCH
    current = await registry.calls.GetModelVersion(Get(model_name="digits", version=OLD))
    await registry.calls.DeleteModelVersion(Delete(model_name="digits", version=OLD, etag=current.etag))


async def test_a_model_goes_with_all_it_has_and_its_name_stays_with_its_numbers(registry: Registry) -> None:
    await registry.calls.SetAlias(SetAlias(model_name="digits", alias="champion", version=NEW))
    await registry.calls.DeleteModel(DeleteModel(model_name="digits"))
    error = await refused(registry.calls.GetModel(registry_service_pb2.GetModelRequest(model_name="digits")))
    assert error.reason is Reason.MODEL_NOT_FOUND
    assert await noted(registry) == [
        "created digits/champion",
        "deleted digits/champion",
        f"deleted digits@{OLD}",
        f"deleted digits@{NEW}",
        "deleted digits",
    ]
    error = await refused(registry.calls.CreateModel(digits(OLD)))
    assert error.reason is Reason.VERSION_EXISTS
    made = await registry.calls.CreateModel(digits(OLD, version="v3.0.0"))
    assert (made.model_name, made.version) == ("digits", "v3.0.0")


async def test_a_deployment_that_began_before_keeps_its_version(
    registry: Registry, deployer: tuple[PlayedDeployer, int]
) -> None:
    def begins(asked: int) -> None:
        # The deployer read the version before it was hidden, and stored the deployment after it was first asked.
        if asked == 2:
            deployer[0].deployed = [NEW]

    await registry.calls.SetAlias(SetAlias(model_name="digits", alias="champion", version=NEW))
    before = await registry.calls.GetModelVersion(Get(model_name="digits", version=NEW))
    model = await registry.calls.GetModel(registry_service_pb2.GetModelRequest(model_name="digits"))
    deployer[0].answering = begins
    error = await refused(registry.calls.DeleteModel(DeleteModel(model_name="digits")))
    assert error.reason is Reason.RESOURCE_IN_USE
    assert await registry.calls.GetModelVersion(Get(model_name="digits", version=NEW)) == before
    assert await registry.calls.GetModel(registry_service_pb2.GetModelRequest(model_name="digits")) == model
    assert await noted(registry) == ["created digits/champion", "updated digits"]


async def test_a_deployment_that_shows_only_later_brings_its_version_back(
    registry: Registry, settings: RegistrySettings, deployer: tuple[PlayedDeployer, int], removing: Removing
) -> None:
    made = await registry.calls.GetModelVersion(Get(model_name="digits", version=NEW))
    url = settings.database_url.get_secret_value().replace("postgresql+psycopg", "postgresql")
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(_SIGN, (made.version_id,))
    before = await registry.calls.GetModelVersion(Get(model_name="digits", version=NEW))
    assert before.signature.kind == "public-key"
    await registry.calls.DeleteModelVersion(Delete(model_name="digits", version=NEW))
    deployer[0].deployed = [NEW]
    await removing.end_old(older_than_s=0)
    back = await registry.calls.GetModelVersion(Get(model_name="digits", version=NEW))
    assert back == before
    assert await noted(registry) == [f"deleted digits@{NEW}", f"created digits@{NEW}"]
    assert (await registry.calls.CreateModel(digits(NEW))).version_id == before.version_id


async def test_what_is_not_deployed_is_forgotten_and_what_nobody_ended_is_put_back(
    registry: Registry, settings: RegistrySettings, removing: Removing
) -> None:
    await registry.calls.DeleteModelVersion(Delete(model_name="digits", version=NEW))
    engine = create_engine(settings.database_url.get_secret_value(), schema=SCHEMA, pool_size=2)
    removals = PostgresRemovals(engine)
    # A registry that dies here has hidden the version and ended nothing.
    await removals.hide(Target("digits", OLD))
    error = await refused(registry.calls.GetModelVersion(Get(model_name="digits", version=OLD)))
    assert error.reason is Reason.VERSION_NOT_FOUND
    error = await refused(registry.calls.CreateModel(digits(OLD)))
    assert error.reason is Reason.DEPENDENCY_UNAVAILABLE
    await removing.end_old(older_than_s=0)
    assert await removals.open(older_than_s=0, limit=10) == []
    assert (await registry.calls.GetModelVersion(Get(model_name="digits", version=OLD))).version == OLD
    assert (await refused(registry.calls.CreateModel(digits(NEW)))).reason is Reason.VERSION_EXISTS
    assert await noted(registry) == [f"deleted digits@{NEW}"]
    await engine.dispose()


async def test_who_looked_while_a_model_was_hidden_is_told_to_look_again(
    registry: Registry, settings: RegistrySettings
) -> None:
    await registry.calls.SetAlias(SetAlias(model_name="digits", alias="champion", version=OLD))
    engine = create_engine(settings.database_url.get_secret_value(), schema=SCHEMA, pool_size=2)
    removals = PostgresRemovals(engine)
    removal = await removals.hide(Target("digits"))
    error = await refused(registry.calls.GetModel(registry_service_pb2.GetModelRequest(model_name="digits")))
    assert error.reason is Reason.MODEL_NOT_FOUND
    log = PostgresChangeLog(engine)
    before = await log.last()
    await removals.put_back(removal)
    told, _ = await log.behind(Wanted(resource_types=("alias", "model")), after=before, limit=9)
    assert [(change.resource_name, change.action) for change in told] == [("digits", "updated")]
    assert told[0].before == told[0].after
    model = await registry.calls.GetModel(registry_service_pb2.GetModelRequest(model_name="digits"))
    assert dict(model.aliases) == {"champion": OLD}
    await engine.dispose()


async def test_a_caller_who_leaves_in_the_middle_leaves_nothing_hidden(
    registry: Registry, deployer: tuple[PlayedDeployer, int], removing: Removing
) -> None:
    async def remove() -> None:
        await removing.version("digits", NEW, etag="", team="")

    task: asyncio.Task[None] = asyncio.get_running_loop().create_task(remove(), name="caller")

    def leave(asked: int) -> None:
        if asked == 2:
            task.cancel()

    deployer[0].answering = leave
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await registry.calls.GetModelVersion(Get(model_name="digits", version=NEW))).version == NEW


async def test_lineage_outlives_what_it_tells_of(registry: Registry) -> None:
    child = digits(OLD, name="child", metadata={}, lineage={"parent_version": f"digits@{NEW}"})
    await registry.calls.CreateModel(child)
    await registry.calls.DeleteModelVersion(Delete(model_name="digits", version=NEW))
    for asked in (
        registry_service_pb2.GetLineageRequest(model_name="child", version=OLD),
        registry_service_pb2.GetLineageRequest(model_name="digits", version=NEW, direction="descendants"),
    ):
        graph = await registry.calls.GetLineage(asked)
        nodes = {node.name for node in graph.nodes}
        assert {f"digits@{NEW}", f"child@{OLD}"} <= nodes
    await registry.calls.DeleteModel(DeleteModel(model_name="digits"))
    graph = await registry.calls.GetLineage(registry_service_pb2.GetLineageRequest(model_name="child", version=OLD))
    assert f"digits@{NEW}" in {node.name for node in graph.nodes}
    found = await registry.calls.SearchModels(
        registry_service_pb2.SearchModelsRequest(lineage=[f"version:digits@{NEW}"])
    )
    assert [one.model_name for one in found.versions] == ["child"]
