"""The registry over gRPC."""

from collections.abc import AsyncGenerator

import grpc
from google.protobuf.struct_pb2 import Struct
from infermesh.registry.v1 import (
    artifact_service_pb2,
    artifact_service_pb2_grpc,
    registry_service_pb2,
    registry_service_pb2_grpc,
)

from services.common.feature_view_proto import views_from_proto
from services.common.schema_proto import mapping_from_proto, schema_from_proto
from services.deployer.domain.deployment import Recipe

_DEADLINE_S = 5.0
_DOWNLOAD_DEADLINE_S = 3600.0
"""An artifact may be of many gigabytes; one that stalls is given up sooner."""


class RegistryVersionSource:
    """A `VersionSource`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._registry = registry_service_pb2_grpc.RegistryServiceStub(channel)

    async def recipe(self, model_name: str, version: str) -> Recipe:
        """What the registry says of a version."""
        request = registry_service_pb2.GetModelVersionRequest(model_name=model_name, version=version)
        found = await self._registry.GetModelVersion(request, timeout=_DEADLINE_S)
        return Recipe(
            framework=found.framework,
            artifact_path=found.artifact_path,
            artifact_digest=found.artifact_digest,
            schema=schema_from_proto(found.schema),
            mapping=mapping_from_proto(found.mapping),
            team=found.team,
            artifact_kind=found.artifact_kind or "file",
            stage=found.stage,
            feature_views=views_from_proto(found.feature_views),
            reference_digest=found.reference_digest,
            signature_verified=found.signature.verified,
            framework_version=found.framework_version,
            requirements=_requirements(found.metadata),
            artifact_bytes=int(found.model_size_bytes),
        )

    async def reference(self, model_name: str, version: str) -> bytes:
        """What the registry gives out."""
        request = registry_service_pb2.GetReferenceSampleRequest(model_name=model_name, version=version)
        return bytes((await self._registry.GetReferenceSample(request, timeout=_DEADLINE_S)).data)


def _requirements(metadata: Struct) -> tuple[str, ...]:
    """The texts of the list `requirements`; what is none of that is the version's own affair."""
    listed = metadata.fields["requirements"].list_value.values if "requirements" in metadata.fields else ()
    return tuple(one.string_value for one in listed if one.HasField("string_value"))


class RegistryArtifacts:
    """An `ArtifactSource`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._artifacts = artifact_service_pb2_grpc.ArtifactServiceStub(channel)

    async def size(self, digest: str) -> int:
        """What the registry says of the artifact."""
        request = artifact_service_pb2.GetArtifactRequest(digest=digest)
        return int((await self._artifacts.GetArtifact(request, timeout=_DEADLINE_S)).size_bytes)

    async def pieces(self, digest: str, *, offset_bytes: int) -> AsyncGenerator[bytes, None]:
        """What the registry sends."""
        request = artifact_service_pb2.DownloadArtifactRequest(digest=digest, offset_bytes=offset_bytes)
        async for piece in self._artifacts.DownloadArtifact(request, timeout=_DOWNLOAD_DEADLINE_S):
            yield piece.data
