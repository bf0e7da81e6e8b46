"""The standard health service for all public services: the router's own, and on behalf of the others."""

import asyncio
from typing import Any

import grpc
from grpc_health.v1 import health_pb2
from grpc_health.v1._async import HealthServicer

from services.router.domain.health import Health
from services.router.engines.neighbours import Neighbours

_Context = grpc.aio.ServicerContext[Any, Any]
_WATCH_PERIOD_S = 1.0
_STATUS = {
    Health.SERVING: health_pb2.HealthCheckResponse.SERVING,
    Health.NOT_SERVING: health_pb2.HealthCheckResponse.NOT_SERVING,
    Health.UNKNOWN_SERVICE: health_pb2.HealthCheckResponse.SERVICE_UNKNOWN,
}


class MeshHealthServicer(HealthServicer):
    """Answers for this process as usual, and for another service with what that one says of itself."""

    def __init__(self, neighbours: Neighbours) -> None:
        super().__init__()
        self._neighbours = neighbours

    async def Check(self, request: health_pb2.HealthCheckRequest, context: _Context) -> health_pb2.HealthCheckResponse:
        """How a service is now."""
        if not self._neighbours.knows(request.service):
            return await super().Check(request, context)
        health = await self._neighbours.health(request.service)
        if health is Health.UNKNOWN_SERVICE:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"{request.service} is not known where it should be")
        return health_pb2.HealthCheckResponse(status=_STATUS[health])

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: _Context) -> None:
        """How a service is now, and whenever that changes."""
        if not self._neighbours.knows(request.service):
            await super().Watch(request, context)
            return
        shown: Health | None = None
        while True:
            health = await self._neighbours.health(request.service)
            if health is not shown:
                shown = health
                await context.write(health_pb2.HealthCheckResponse(status=_STATUS[health]))
            await asyncio.sleep(_WATCH_PERIOD_S)
