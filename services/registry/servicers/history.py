"""The audit log over the wire."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
from infermesh.registry.v1 import registry_service_pb2, registry_service_pb2_grpc

from services.registry.convert.history import change_to_proto, list_from_proto, step_to_proto, watch_from_proto
from services.registry.engines.following import Following
from services.registry.servicers.changing import caller_team

_Context = grpc.aio.ServicerContext[Any, Any]


class HistoryMethods(registry_service_pb2_grpc.RegistryServiceServicer):
    """The calls that read the log."""

    following: Following

    async def ListChanges(
        self, request: registry_service_pb2.ListChangesRequest, _context: _Context
    ) -> registry_service_pb2.ListChangesResponse:
        """A page of the log, newest first."""
        page = await self.following.page(
            list_from_proto(request), page_size=request.page_size, page_token=request.page_token, team=caller_team()
        )
        return registry_service_pb2.ListChangesResponse(
            changes=[change_to_proto(change) for change in page.changes], next_page_token=page.next_page_token
        )

    async def WatchChanges(
        self, request: registry_service_pb2.WatchChangesRequest, _context: _Context
    ) -> AsyncIterator[registry_service_pb2.WatchChangesResponse]:
        """The changes from a cursor on, then as they happen."""
        steps = self.following.follow(watch_from_proto(request), cursor=request.cursor, team=caller_team())
        async for step in steps:
            yield step_to_proto(step)
