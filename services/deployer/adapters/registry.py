"""The registry over gRPC."""

import grpc
from infermesh.registry.v1 import registry_service_pb2, registry_service_pb2_grpc

from services.common.feature_view_proto import views_from_proto
from services.common.schema_proto import mapping_from_proto, schema_from_proto
from services.deployer.domain.deployment import Recipe

_DEADLINE_S = 5.0


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
        )
