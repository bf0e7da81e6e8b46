"""What happened, where versions come from, and how they go: the calls over the wire."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf import empty_pb2
from infermesh.registry.v1 import registry_service_pb2, registry_service_pb2_grpc

from services.common.grpc.identity import current_identity
from services.registry.convert.history import (
    change_to_proto,
    graph_to_proto,
    list_from_proto,
    step_to_proto,
    watch_from_proto,
)
from services.registry.domain.access import viewer_of
from services.registry.engines.following import Following
from services.registry.engines.lineage import Tracing
from services.registry.engines.removing import Removing
from services.registry.engines.sharing import Sharing

_Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True)
class History:
    """The engines behind these calls."""

    following: Following
    tracing: Tracing
    removing: Removing
    sharing: Sharing

    async def close(self) -> None:
        """Ends the streams of followers, which would otherwise hold up the end of the server."""
        self.following.close()


class HistoryMethods(registry_service_pb2_grpc.RegistryServiceServicer):
    """This part of the servicer. Whoever composes it sets `history`."""

    history: History

    async def ListChanges(
        self, request: registry_service_pb2.ListChangesRequest, _context: _Context
    ) -> registry_service_pb2.ListChangesResponse:
        """A page of the log, newest first."""
        page = await self.history.following.page(
            list_from_proto(request),
            change_to_proto,
            page_size=request.page_size,
            page_token=request.page_token,
            team=_viewer(),
        )
        return registry_service_pb2.ListChangesResponse(changes=page.items, next_page_token=page.next_page_token)

    async def WatchChanges(
        self, request: registry_service_pb2.WatchChangesRequest, _context: _Context
    ) -> AsyncIterator[registry_service_pb2.WatchChangesResponse]:
        """The changes from a cursor on, then as they happen."""
        steps = self.history.following.follow(watch_from_proto(request), cursor=request.cursor, team=_viewer())
        async for step in steps:
            yield step_to_proto(step)

    async def GetLineage(
        self, request: registry_service_pb2.GetLineageRequest, _context: _Context
    ) -> registry_service_pb2.GetLineageResponse:
        """What a version was made from, and what was made from it."""
        graph = await self.history.tracing.around(
            model_name=request.model_name,
            version=request.version,
            node_id=request.node_id,
            direction=request.direction,
            depth_max=request.depth_max,
            team=_viewer(),
        )
        return graph_to_proto(graph)

    async def DeleteModel(
        self, request: registry_service_pb2.DeleteModelRequest, _context: _Context
    ) -> empty_pb2.Empty:
        """Removes a model with all it has."""
        await self.history.sharing.check_owned(request.model_name, caller=current_identity())
        await self.history.removing.model(request.model_name, etag=request.etag, team=_viewer())
        return empty_pb2.Empty()

    async def DeleteModelVersion(
        self, request: registry_service_pb2.DeleteModelVersionRequest, _context: _Context
    ) -> empty_pb2.Empty:
        """Removes a version."""
        await self.history.sharing.check_owned(request.model_name, caller=current_identity())
        await self.history.removing.version(request.model_name, request.version, etag=request.etag, team=_viewer())
        return empty_pb2.Empty()


def _viewer() -> str:
    return viewer_of(current_identity())
