"""The registry over gRPC."""

from collections.abc import Mapping

import grpc
from infermesh.registry.v1 import registry_service_pb2, registry_service_pb2_grpc

_PAGE_SIZE = 200


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
