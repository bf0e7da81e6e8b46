"""The calls of RegistryService about whose models are."""

from typing import Any

import grpc
from infermesh.registry.v1 import model_pb2, registry_service_pb2, registry_service_pb2_grpc

from services.common.grpc.identity import current_identity
from services.registry.convert.versions import model_to_proto
from services.registry.engines.sharing import Sharing

_Context = grpc.aio.ServicerContext[Any, Any]


class SharingMethods(registry_service_pb2_grpc.RegistryServiceServicer):
    """The part of the servicer that knows owners."""

    def __init__(self, sharing: Sharing) -> None:
        self._sharing = sharing

    async def ShareModel(self, request: registry_service_pb2.ShareModelRequest, _context: _Context) -> model_pb2.Model:
        """Lets a team read and call a model."""
        shared = await self._sharing.share(request.model_name, request.team, caller=current_identity())
        return model_to_proto(shared)

    async def UnshareModel(
        self, request: registry_service_pb2.UnshareModelRequest, _context: _Context
    ) -> model_pb2.Model:
        """Takes that back."""
        unshared = await self._sharing.unshare(request.model_name, request.team, caller=current_identity())
        return model_to_proto(unshared)

    async def TransferModel(
        self, request: registry_service_pb2.TransferModelRequest, _context: _Context
    ) -> model_pb2.Model:
        """Gives a model to another team."""
        given = await self._sharing.transfer(request.model_name, request.team, caller=current_identity())
        return model_to_proto(given)

    async def check_owned(self, model_name: str) -> None:
        """Raises MODEL_NOT_FOUND or PERMISSION_DENIED where the caller may not change a model."""
        await self._sharing.check_owned(model_name, caller=current_identity())
