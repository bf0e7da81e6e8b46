"""RegistryService over the engines."""

from typing import Any

import grpc
from google.api import httpbody_pb2
from infermesh.registry.v1 import model_pb2, model_version_pb2, registry_service_pb2

from services.common.grpc.identity import current_identity
from services.registry.convert.changes import comparison_to_proto, search_from_proto
from services.registry.convert.versions import model_to_proto, registration_from_proto
from services.registry.domain.registration import check_registration
from services.registry.engines.aliasing import Aliasing
from services.registry.engines.changing import Changing
from services.registry.engines.importing import Importing
from services.registry.engines.reading import Reading
from services.registry.engines.registering import Registering
from services.registry.engines.searching import Searching
from services.registry.engines.sharing import Sharing, check_registers
from services.registry.engines.verifying import Verifying
from services.registry.ports import ArtifactStore
from services.registry.servicers.changing import ChangingMethods, caller_team
from services.registry.servicers.history import History, HistoryMethods
from services.registry.servicers.importing import ImportMethods

_Context = grpc.aio.ServicerContext[Any, Any]


class RegistryServicer(HistoryMethods, ImportMethods, ChangingMethods):
    """The public calls: registering and finding here, changing in its base."""

    def __init__(
        self,
        *,
        registering: Registering,
        reading: Reading,
        verifying: Verifying,
        searching: Searching,
        changing: Changing,
        aliasing: Aliasing,
        sharing: Sharing,
        history: History,
        importing: Importing,
        store: ArtifactStore,
    ) -> None:
        super().__init__(
            changing=changing, aliasing=aliasing, sharing=sharing, path_of=store.path_of, uri_of=store.uri_of
        )
        self.history = history
        self.importing = importing
        self._registering = registering
        self._reading = reading
        self._verifying = verifying
        self._searching = searching

    async def CreateModel(
        self, request: registry_service_pb2.CreateModelRequest, _context: _Context
    ) -> model_version_pb2.ModelVersion:
        """Registers a version."""
        check_registers(current_identity())
        asked, violations = registration_from_proto(request, current_identity())
        check_registration(asked, violations)
        return self.shown(await self._registering.register(asked))

    async def GetModel(self, request: registry_service_pb2.GetModelRequest, _context: _Context) -> model_pb2.Model:
        """One model."""
        return model_to_proto(await self._reading.model(request.model_name, team=caller_team()))

    async def ListModels(
        self, request: registry_service_pb2.ListModelsRequest, _context: _Context
    ) -> registry_service_pb2.ListModelsResponse:
        """A page of models."""
        page = await self._reading.models(
            model_to_proto,
            prefix=request.name_prefix,
            framework=request.framework,
            tags=list(request.tags),
            of_team=request.team,
            page_size=request.page_size,
            page_token=request.page_token,
            team=caller_team(),
        )
        return registry_service_pb2.ListModelsResponse(models=page.items, next_page_token=page.next_page_token)

    async def GetModelVersion(
        self, request: registry_service_pb2.GetModelVersionRequest, _context: _Context
    ) -> model_version_pb2.ModelVersion:
        """One version."""
        version = await self._reading.version(request.model_name, request.version, team=caller_team())
        return self.shown(await self._verifying.current(version))

    async def ListModelVersions(
        self, request: registry_service_pb2.ListModelVersionsRequest, _context: _Context
    ) -> registry_service_pb2.ListModelVersionsResponse:
        """A page of a model's versions."""
        page = await self._reading.versions(
            request.model_name,
            self.shown,
            stage=request.stage,
            page_size=request.page_size,
            page_token=request.page_token,
            team=caller_team(),
        )
        return registry_service_pb2.ListModelVersionsResponse(versions=page.items, next_page_token=page.next_page_token)

    async def GetReferenceSample(
        self, request: registry_service_pb2.GetReferenceSampleRequest, _context: _Context
    ) -> httpbody_pb2.HttpBody:
        """What explanations of a version are made against."""
        content = await self._reading.reference(request.model_name, request.version, team=caller_team())
        return httpbody_pb2.HttpBody(content_type="application/json", data=content)

    async def CompareSchemas(
        self, request: registry_service_pb2.CompareSchemasRequest, _context: _Context
    ) -> registry_service_pb2.CompareSchemasResponse:
        """What breaks callers of an older version."""
        return comparison_to_proto(
            await self._reading.compare(request.model_name, request.version, request.base_version, team=caller_team())
        )

    async def SearchModels(
        self, request: registry_service_pb2.SearchModelsRequest, _context: _Context
    ) -> registry_service_pb2.SearchModelsResponse:
        """A page of versions that are like what is asked for."""
        page = await self._searching.page(
            search_from_proto(request),
            self.shown,
            page_size=request.page_size,
            page_token=request.page_token,
            team=caller_team(),
        )
        return registry_service_pb2.SearchModelsResponse(versions=page.items, next_page_token=page.next_page_token)
