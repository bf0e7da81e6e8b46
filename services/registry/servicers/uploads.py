"""The calls of ArtifactService that send an artifact in several goes."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.protobuf import empty_pb2
from infermesh.registry.v1 import artifact_pb2, artifact_service_pb2, artifact_service_pb2_grpc

from services.common.errors import invalid
from services.common.grpc.identity import current_identity
from services.registry.convert.artifacts import artifact_to_proto, upload_to_proto
from services.registry.domain.access import viewer_of
from services.registry.domain.artifacts import Sender
from services.registry.domain.uploads import NewUpload
from services.registry.engines.uploads import Uploading

_Context = grpc.aio.ServicerContext[Any, Any]


def caller() -> Sender:
    """Who sends or asks."""
    identity = current_identity()
    return Sender(identity.team, identity.actor, viewer_of(identity))


class UploadMethods(artifact_service_pb2_grpc.ArtifactServiceServicer):
    """The uploading part of the servicer."""

    def __init__(self, uploading: Uploading) -> None:
        self._uploading = uploading

    async def CreateUpload(
        self, request: artifact_service_pb2.CreateUploadRequest, _context: _Context
    ) -> artifact_pb2.Upload:
        """Begins an upload."""
        new = NewUpload(request.filename, request.digest, request.size_bytes, request.request_id)
        return upload_to_proto(await self._uploading.create(new, caller()))

    async def GetUpload(
        self, request: artifact_service_pb2.GetUploadRequest, _context: _Context
    ) -> artifact_pb2.Upload:
        """How far an upload is."""
        return upload_to_proto(await self._uploading.get(request.upload_id, caller()))

    async def AppendUpload(
        self, requests: AsyncIterator[artifact_service_pb2.AppendUploadRequest], _context: _Context
    ) -> artifact_pb2.Upload:
        """Adds bytes."""
        first = await anext(requests, None)
        if first is None:
            raise invalid("upload_id", "", "the id of an upload")
        pieces = _pieces(first, requests)
        return upload_to_proto(await self._uploading.append(first.upload_id, first.offset_bytes, pieces, caller()))

    async def CompleteUpload(
        self, request: artifact_service_pb2.CompleteUploadRequest, _context: _Context
    ) -> artifact_pb2.Artifact:
        """Makes an artifact of what has come."""
        return artifact_to_proto(await self._uploading.complete(request.upload_id, request.digest, caller()))

    async def DeleteUpload(
        self, request: artifact_service_pb2.DeleteUploadRequest, _context: _Context
    ) -> empty_pb2.Empty:
        """Gives an upload up."""
        await self._uploading.delete(request.upload_id, caller())
        return empty_pb2.Empty()


async def _pieces(
    first: artifact_service_pb2.AppendUploadRequest, rest: AsyncIterator[artifact_service_pb2.AppendUploadRequest]
) -> AsyncIterator[bytes]:
    if first.body.data:
        yield first.body.data
    async for request in rest:
        yield request.body.data
