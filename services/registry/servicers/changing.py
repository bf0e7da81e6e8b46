"""The calls of RegistryService that change what may be changed: models, cards, stages, aliases."""

from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf import empty_pb2
from infermesh.registry.v1 import model_pb2, model_version_pb2, registry_service_pb2

from services.common.grpc.identity import current_identity
from services.registry.convert.changes import (
    alias_move_to_proto,
    alias_to_proto,
    card_change_from_proto,
    model_change_from_proto,
)
from services.registry.convert.versions import model_to_proto, version_to_proto
from services.registry.domain.access import viewer_of
from services.registry.domain.alias import Move
from services.registry.domain.version import Version
from services.registry.engines.aliasing import Aliasing
from services.registry.engines.changing import Changing
from services.registry.engines.sharing import Sharing
from services.registry.servicers.sharing import SharingMethods

_Context = grpc.aio.ServicerContext[Any, Any]


class ChangingMethods(SharingMethods):
    """The changing half of the servicer."""

    def __init__(
        self,
        *,
        changing: Changing,
        aliasing: Aliasing,
        sharing: Sharing,
        path_of: Callable[[str], str],
        uri_of: Callable[[str], str],
    ) -> None:
        super().__init__(sharing)
        self._changing = changing
        self._aliasing = aliasing
        self._path_of = path_of
        self._uri_of = uri_of

    async def UpdateModel(
        self, request: registry_service_pb2.UpdateModelRequest, _context: _Context
    ) -> model_pb2.Model:
        """Changes a model's description, tags or card."""
        sent, change = request.model, model_change_from_proto(request)
        await self.check_owned(sent.name)
        changed = await self._changing.model(sent.name, etag=sent.etag, change=change, team=caller_team())
        return model_to_proto(changed)

    async def UpdateModelVersion(
        self, request: registry_service_pb2.UpdateModelVersionRequest, _context: _Context
    ) -> model_version_pb2.ModelVersion:
        """Changes a version's card."""
        sent, change = request.model_version, card_change_from_proto(request)
        await self.check_owned(sent.model_name)
        changed = await self._changing.version(
            sent.model_name, sent.version, etag=sent.etag, change=change, team=caller_team()
        )
        return self.shown(changed)

    async def SetStage(
        self, request: registry_service_pb2.SetStageRequest, _context: _Context
    ) -> model_version_pb2.ModelVersion:
        """Moves a version to another stage."""
        await self.check_owned(request.model_name)
        changed = await self._changing.stage(
            request.model_name,
            request.version,
            stage=request.stage,
            reason=request.reason,
            etag=request.etag,
            team=caller_team(),
            caller=current_identity().user,
        )
        return self.shown(changed)

    async def SetAlias(self, request: registry_service_pb2.SetAliasRequest, _context: _Context) -> model_pb2.Alias:
        """Points an alias at a version."""
        await self.check_owned(request.model_name)
        move = Move(request.model_name, request.alias, request.version, request.reason, current_identity().user)
        pointed = await self._aliasing.point(
            move, expected_version=request.expected_version, etag=request.etag, team=caller_team()
        )
        return alias_to_proto(pointed)

    async def GetAlias(self, request: registry_service_pb2.GetAliasRequest, _context: _Context) -> model_pb2.Alias:
        """One alias."""
        return alias_to_proto(await self._aliasing.get(request.model_name, request.alias, team=caller_team()))

    async def ListAliases(
        self, request: registry_service_pb2.ListAliasesRequest, _context: _Context
    ) -> registry_service_pb2.ListAliasesResponse:
        """A page of a model's aliases."""
        page = await self._aliasing.page(
            request.model_name, page_size=request.page_size, page_token=request.page_token, team=caller_team()
        )
        return registry_service_pb2.ListAliasesResponse(
            aliases=[alias_to_proto(alias) for alias in page.aliases], next_page_token=page.next_page_token
        )

    async def DeleteAlias(
        self, request: registry_service_pb2.DeleteAliasRequest, _context: _Context
    ) -> empty_pb2.Empty:
        """Takes an alias away."""
        await self.check_owned(request.model_name)
        await self._aliasing.drop(
            request.model_name,
            request.alias,
            etag=request.etag,
            caller=current_identity().user,
            team=caller_team(),
        )
        return empty_pb2.Empty()

    async def ListAliasMoves(
        self, request: registry_service_pb2.ListAliasMovesRequest, _context: _Context
    ) -> registry_service_pb2.ListAliasMovesResponse:
        """A page of an alias's moves."""
        page = await self._aliasing.moves(
            request.model_name,
            request.alias,
            page_size=request.page_size,
            page_token=request.page_token,
            team=caller_team(),
        )
        return registry_service_pb2.ListAliasMovesResponse(
            moves=[alias_move_to_proto(move) for move in page.moves], next_page_token=page.next_page_token
        )

    def shown(self, version: Version) -> model_version_pb2.ModelVersion:
        """The wire form of a version."""
        return version_to_proto(version, self._path_of, self._uri_of)


def caller_team() -> str:
    """Whose eyes look, as `viewer_of` writes it: the caller's team, and the models that the key is limited to."""
    return viewer_of(current_identity())
