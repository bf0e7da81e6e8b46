"""The registry over gRPC."""

from collections.abc import AsyncIterator, Mapping

import grpc
from infermesh.registry.v1 import registry_service_pb2, registry_service_pb2_grpc

from services.common.errors import MeshError, Reason

_PAGE_SIZE = 200
_KINDS = ("alias", "model")


class RegistryAliasSource:
    """An `AliasSource`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._registry = registry_service_pb2_grpc.RegistryServiceStub(channel)

    async def every(self) -> Mapping[str, Mapping[str, str]]:
        """All pages of models that have aliases."""
        found: dict[str, Mapping[str, str]] = {}
        token = ""
        while True:
            page = await self._registry.ListModels(
                registry_service_pb2.ListModelsRequest(page_size=_PAGE_SIZE, page_token=token)
            )
            found.update({model.name: dict(model.aliases) for model in page.models if model.aliases})
            token = page.next_page_token
            if not token:
                return found

    async def of(self, model_name: str) -> Mapping[str, str]:
        """Those that the model has now."""
        try:
            model = await self._registry.GetModel(registry_service_pb2.GetModelRequest(model_name=model_name))
        except MeshError as error:
            if error.reason is Reason.MODEL_NOT_FOUND:
                return {}
            raise
        return dict(model.aliases)

    async def changes(self) -> AsyncIterator[str]:
        """Changes of aliases and of models, which may be removed with theirs."""
        request = registry_service_pb2.WatchChangesRequest(resource_types=_KINDS)
        async for message in self._registry.WatchChanges(request):
            yield message.change.resource_name.partition("/")[0] if message.HasField("change") else ""
