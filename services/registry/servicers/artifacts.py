"""ArtifactService over the engines."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.api import httpbody_pb2
from infermesh.registry.v1 import artifact_pb2, artifact_service_pb2

from services.common.errors import invalid
from services.registry.convert.artifacts import artifact_to_proto, report_to_proto
from services.registry.engines.inspecting import Inspecting
from services.registry.engines.keeping import Keeping, Sent
from services.registry.engines.uploads import Uploading
from services.registry.servicers.uploads import UploadMethods, caller

_Context = grpc.aio.ServicerContext[Any, Any]


class ArtifactServicer(UploadMethods):
    """The public calls."""

    def __init__(self, *, inspecting: Inspecting, keeping: Keeping, uploading: Uploading) -> None:
        super().__init__(uploading)
        self._inspecting = inspecting
        self._keeping = keeping

    async def UploadArtifact(
        self, requests: AsyncIterator[artifact_service_pb2.UploadArtifactRequest], _context: _Context
    ) -> artifact_pb2.Artifact:
        """Keeps what is sent."""
        first = await anext(requests, None)
        if first is None:
            raise invalid("body", b"", "at least one byte")
        sent = Sent(first.filename, first.digest, first.size_bytes)
        return artifact_to_proto(await self._keeping.receive(sent, _pieces(first, requests), caller()))

    async def GetArtifact(
        self, request: artifact_service_pb2.GetArtifactRequest, _context: _Context
    ) -> artifact_pb2.Artifact:
        """One artifact."""
        return artifact_to_proto(await self._inspecting.get(request.digest, viewer=caller().viewer))

    async def DownloadArtifact(
        self, request: artifact_service_pb2.DownloadArtifactRequest, _context: _Context
    ) -> AsyncIterator[httpbody_pb2.HttpBody]:
        """The bytes of an artifact."""
        async for piece in self._keeping.read(request.digest, request.offset_bytes, viewer=caller().viewer):
            yield httpbody_pb2.HttpBody(content_type="application/octet-stream", data=piece)

    async def InspectArtifact(
        self, request: artifact_service_pb2.InspectArtifactRequest, _context: _Context
    ) -> artifact_pb2.ArtifactReport:
        """What is seen in an artifact."""
        return report_to_proto(await self._inspecting.inspect(request.artifact_uri, request.framework, sender=caller()))

    async def CollectGarbage(
        self, request: artifact_service_pb2.CollectGarbageRequest, _context: _Context
    ) -> artifact_service_pb2.CollectGarbageResponse:
        """Removes what nobody uses."""
        cleared = await self._keeping.collect_garbage(dry_run=request.dry_run)
        return artifact_service_pb2.CollectGarbageResponse(
            digests=cleared.digests, artifact_count=cleared.artifact_count, freed_bytes=cleared.freed_bytes
        )


async def _pieces(
    first: artifact_service_pb2.UploadArtifactRequest,
    rest: AsyncIterator[artifact_service_pb2.UploadArtifactRequest],
) -> AsyncIterator[bytes]:
    if first.body.data:
        yield first.body.data
    async for request in rest:
        yield request.body.data
