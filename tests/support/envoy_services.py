"""The control plane's doubles for tests of the gateway: real gRPC servers with the mesh's own error mapping."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from infermesh.deployer.v1 import (
    backend_service_pb2,
    backend_service_pb2_grpc,
    deployer_service_pb2,
    deployer_service_pb2_grpc,
    deployment_pb2,
)
from infermesh.registry.v1 import (
    artifact_pb2,
    artifact_service_pb2,
    artifact_service_pb2_grpc,
    change_pb2,
    model_pb2,
    model_version_pb2,
    registry_service_pb2_grpc,
)
from infermesh.registry.v1 import registry_service_pb2 as registry

from services.common.errors import FieldViolation, MeshError, Reason
from services.common.grpc.server import Service


class Registry(registry_service_pb2_grpc.RegistryServiceServicer):
    """Fails by the reason that is the model's name; else says in the description what headers came."""

    async def GetModel(self, request: registry.GetModelRequest, context: Any) -> model_pb2.Model:
        reason = request.model_name.upper().replace("-", "_")
        if reason in Reason.__members__:
            raise MeshError(
                Reason[reason],
                f"{request.model_name}: no",
                metadata={"model": request.model_name},
                violations=[FieldViolation("model_name", "is a reason")],
                retry_after_s=7 if Reason[reason] is Reason.QUOTA_EXCEEDED else None,
            )
        if request.model_name == "slow":
            await asyncio.sleep(30)
        headers = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
        return model_pb2.Model(name=request.model_name, description=json.dumps(headers))

    async def CreateModel(self, request: registry.CreateModelRequest, context: Any) -> model_version_pb2.ModelVersion:
        return model_version_pb2.ModelVersion(model_name=request.name, version=request.version)

    async def ListModels(self, request: registry.ListModelsRequest, context: Any) -> registry.ListModelsResponse:
        return registry.ListModelsResponse(models=[model_pb2.Model(name=f"page-{request.page_size}")])

    async def WatchChanges(
        self, request: registry.WatchChangesRequest, context: Any
    ) -> AsyncIterator[registry.WatchChangesResponse]:
        for cursor in ("1", "2"):
            yield registry.WatchChangesResponse(change=change_pb2.Change(cursor=cursor))
        await asyncio.Event().wait()


class Artifacts(artifact_service_pb2_grpc.ArtifactServiceServicer):
    """Counts the bytes."""

    async def UploadArtifact(
        self, request_iterator: AsyncIterator[artifact_service_pb2.UploadArtifactRequest], context: Any
    ) -> artifact_pb2.Artifact:
        size, name = 0, ""
        async for piece in request_iterator:
            name = name or piece.filename
            size += len(piece.body.data)
        return artifact_pb2.Artifact(digest=name, size_bytes=size)


class Deployer(deployer_service_pb2_grpc.DeployerServiceServicer):
    """Echoes."""

    async def DeleteDeployment(
        self, request: deployer_service_pb2.DeleteDeploymentRequest, context: Any
    ) -> deployment_pb2.Deployment:
        return deployment_pb2.Deployment(model_name=request.model_name, deployment_name=request.deployment_name)

    async def UpdateDeployment(
        self, request: deployer_service_pb2.UpdateDeploymentRequest, context: Any
    ) -> deployment_pb2.Deployment:
        return request.deployment


class Backends(backend_service_pb2_grpc.BackendServiceServicer):
    """Internal: callers of the gateway must not get here."""

    async def WatchBackends(
        self, request: backend_service_pb2.WatchBackendsRequest, context: Any
    ) -> AsyncIterator[backend_service_pb2.WatchBackendsResponse]:
        yield backend_service_pb2.WatchBackendsResponse(revision=1)


def services() -> list[Service]:
    """All of them, for one server."""
    # Doubles implement what tests call; the rest stays as the generated class has it.
    registry_double = Registry()  # type: ignore[abstract]
    artifacts = Artifacts()  # type: ignore[abstract]
    deployer = Deployer()  # type: ignore[abstract]
    backends = Backends()
    return [
        (
            lambda server: registry_service_pb2_grpc.add_RegistryServiceServicer_to_server(registry_double, server),
            "infermesh.registry.v1.RegistryService",
        ),
        (
            lambda server: artifact_service_pb2_grpc.add_ArtifactServiceServicer_to_server(artifacts, server),
            "infermesh.registry.v1.ArtifactService",
        ),
        (
            lambda server: deployer_service_pb2_grpc.add_DeployerServiceServicer_to_server(deployer, server),
            "infermesh.deployer.v1.DeployerService",
        ),
        (
            lambda server: backend_service_pb2_grpc.add_BackendServiceServicer_to_server(backends, server),
            "infermesh.deployer.v1.BackendService",
        ),
    ]
