"""Asks the registry whose a model is, in the caller's name."""

import grpc
from infermesh.registry.v1 import registry_service_pb2, registry_service_pb2_grpc

from services.common.access.book import not_known
from services.common.access.decide import Standing
from services.common.errors import MeshError, Reason
from services.common.grpc.identity import Identity, identity_headers

_DEADLINE_S = 2.0
"""Longer than a channel waits before it looks again for a registry that was away: see `open_channel`."""


class RegistryOwners:
    """An `OwnerSource` over gRPC."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._registry = registry_service_pb2_grpc.RegistryServiceStub(channel)

    async def standing(self, model_name: str, identity: Identity) -> Standing | None:
        """What the registry shows that caller of the model."""
        request = registry_service_pb2.GetModelRequest(model_name=model_name)
        call = self._registry.GetModel
        try:
            # A registry that just started again may be known to callers before this channel has found it.
            model = await call(request, timeout=_DEADLINE_S, metadata=identity_headers(identity), wait_for_ready=True)
        except MeshError as error:
            if error.reason is Reason.MODEL_NOT_FOUND:
                return None
            # Whatever the registry's trouble is, it tells nothing of the name.
            raise not_known() from error
        return Standing(model.team, frozenset(model.shared_with))
