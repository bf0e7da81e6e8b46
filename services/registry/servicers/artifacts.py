"""ArtifactService over the engines."""

from typing import Any

import grpc
from infermesh.registry.v1 import artifact_pb2, artifact_service_pb2

from services.registry.convert.artifacts import artifact_to_proto, report_to_proto
from services.registry.engines.inspecting import Inspecting
from services.registry.servicers.later import LaterArtifactMethods

_Context = grpc.aio.ServicerContext[Any, Any]


class ArtifactServicer(LaterArtifactMethods):
    """The public calls."""

    def __init__(self, inspecting: Inspecting) -> None:
        self._inspecting = inspecting

    async def GetArtifact(
        self, request: artifact_service_pb2.GetArtifactRequest, _context: _Context
    ) -> artifact_pb2.Artifact:
        """One artifact."""
        return artifact_to_proto(await self._inspecting.get(request.digest))

    async def InspectArtifact(
        self, request: artifact_service_pb2.InspectArtifactRequest, _context: _Context
    ) -> artifact_pb2.ArtifactReport:
        """What is seen in an artifact."""
        return report_to_proto(await self._inspecting.inspect(request.artifact_uri, request.framework))
