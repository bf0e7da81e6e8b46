"""The call of RegistryService that brings in what other registries hold."""

from typing import Any

import grpc
from infermesh.registry.v1 import registry_service_pb2, registry_service_pb2_grpc

from services.common.grpc.identity import current_identity
from services.registry.domain.access import viewer_of
from services.registry.engines.importing import Importing
from services.registry.engines.sharing import check_registers

_Context = grpc.aio.ServicerContext[Any, Any]


class ImportMethods(registry_service_pb2_grpc.RegistryServiceServicer):
    """The importing part of the servicer."""

    importing: Importing

    async def ImportModels(
        self, request: registry_service_pb2.ImportModelsRequest, _context: _Context
    ) -> registry_service_pb2.ImportModelsResponse:
        """Registers what another registry holds."""
        identity = current_identity()
        check_registers(identity)
        outcomes = await self.importing.run(
            source=request.source,
            uri=request.uri,
            prefix=request.name_prefix,
            dry_run=request.dry_run,
            caller=identity,
            viewer=viewer_of(identity),
        )
        return registry_service_pb2.ImportModelsResponse(
            versions=[
                registry_service_pb2.ImportedVersion(
                    source_name=one.source_name,
                    model_name=one.model_name,
                    version=one.version,
                    outcome=one.outcome,
                    message=one.message,
                )
                for one in outcomes
            ]
        )
