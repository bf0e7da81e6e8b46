"""The registry over gRPC."""

import grpc
from infermesh.registry.v1 import model_version_pb2, registry_service_pb2, registry_service_pb2_grpc

from services.batch.domain.job import Version
from services.common.errors import MeshError, Reason
from services.common.feature_view_proto import views_from_proto
from services.common.schema_proto import mapping_from_proto, schema_from_proto

_DEADLINE_S = 5.0
_PAGE_SIZE = 200
_ARCHIVED = "archived"


class RegistryCatalogue:
    """A `Catalogue`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._registry = registry_service_pb2_grpc.RegistryServiceStub(channel)

    async def version(self, model: str, version: str) -> Version:
        """A version; for an empty one the newest that is not archived."""
        if not version:
            return _pinned(await self._newest(model))
        request = registry_service_pb2.GetModelVersionRequest(model_name=model, version=version)
        return _pinned(await self._registry.GetModelVersion(request, timeout=_DEADLINE_S))

    async def _newest(self, model: str) -> model_version_pb2.ModelVersion:
        token = ""
        while True:
            request = registry_service_pb2.ListModelVersionsRequest(
                model_name=model, page_size=_PAGE_SIZE, page_token=token
            )
            page = await self._registry.ListModelVersions(request, timeout=_DEADLINE_S)
            for found in page.versions:
                if found.stage != _ARCHIVED:
                    return found
            token = page.next_page_token
            if not token:
                raise MeshError(
                    Reason.VERSION_NOT_FOUND,
                    f"model {model!r} has no version that is not archived; name one in model_version, or register one",
                    metadata={"model": model},
                )


def _pinned(found: model_version_pb2.ModelVersion) -> Version:
    return Version(
        model=found.model_name,
        version=found.version,
        artifact_digest=found.artifact_digest,
        schema=schema_from_proto(found.schema),
        mapping=mapping_from_proto(found.mapping),
        feature_views=views_from_proto(found.feature_views),
        reference_digest=found.reference_digest,
    )
