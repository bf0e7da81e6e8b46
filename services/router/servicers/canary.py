"""The calls on canaries; one is started by a change of traffic."""

from typing import Any

import grpc
from infermesh.router.v1 import canary_pb2, router_service_pb2, router_service_pb2_grpc

from services.common.grpc.identity import current_identity
from services.router.convert_canary import canary_call_from_proto, canary_to_proto
from services.router.engines.canaries import Canaries

_Context = grpc.aio.ServicerContext[Any, Any]


class CanaryCalls(router_service_pb2_grpc.RouterServiceServicer):
    """Part of RouterService."""

    def __init__(self, canaries: Canaries) -> None:
        self._canaries = canaries

    async def GetCanary(self, request: router_service_pb2.GetCanaryRequest, _context: _Context) -> canary_pb2.Canary:
        """The canary of a model that runs, or the last one."""
        return canary_to_proto(await self._canaries.get(request.model_name))

    async def ListCanaries(
        self, request: router_service_pb2.ListCanariesRequest, _context: _Context
    ) -> router_service_pb2.ListCanariesResponse:
        """A page of a model's canaries."""
        views, token = await self._canaries.page(
            request.model_name, page_size=request.page_size, page_token=request.page_token
        )
        return router_service_pb2.ListCanariesResponse(
            canaries=[canary_to_proto(view) for view in views], next_page_token=token
        )

    async def PauseCanary(
        self, request: router_service_pb2.PauseCanaryRequest, _context: _Context
    ) -> canary_pb2.Canary:
        """Keeps a canary at its stage."""
        call = canary_call_from_proto(request, actor=current_identity().actor)
        return canary_to_proto(await self._canaries.pause(call))

    async def ResumeCanary(
        self, request: router_service_pb2.ResumeCanaryRequest, _context: _Context
    ) -> canary_pb2.Canary:
        """Lets a canary go on."""
        call = canary_call_from_proto(request, actor=current_identity().actor)
        return canary_to_proto(await self._canaries.resume(call))

    async def AbortCanary(
        self, request: router_service_pb2.AbortCanaryRequest, _context: _Context
    ) -> canary_pb2.Canary:
        """Ends a canary."""
        call = canary_call_from_proto(request, actor=current_identity().actor)
        return canary_to_proto(await self._canaries.abort(call))

    async def PromoteCanary(
        self, request: router_service_pb2.PromoteCanaryRequest, _context: _Context
    ) -> canary_pb2.Canary:
        """Gives a canary all traffic."""
        call = canary_call_from_proto(request, actor=current_identity().actor)
        return canary_to_proto(await self._canaries.promote(call))
