"""The calls of TeamService about keys, and those between services."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.api import httpbody_pb2
from infermesh.registry.v1 import team_pb2, team_service_pb2, team_service_pb2_grpc

from services.common.grpc.identity import current_identity
from services.common.telemetry.logging import get_logger
from services.registry.convert.teams import (
    head_to_proto,
    key_to_proto,
    made_to_proto,
    moment,
    service_wish_from_proto,
    storage_to_proto,
    update_to_proto,
    wish_from_proto,
)
from services.registry.convert.values import timestamp
from services.registry.domain.access import check_inside
from services.registry.domain.access_history import Head
from services.registry.engines.access_feed import AccessFeed
from services.registry.engines.keys import Keys
from services.registry.ports_teams import StorageMeter

log = get_logger(__name__)

_Context = grpc.aio.ServicerContext[Any, Any]


class KeyMethods(team_service_pb2_grpc.TeamServiceServicer):
    """The half of the servicer that knows keys."""

    def __init__(self, *, keys: Keys, feed: AccessFeed, meter: StorageMeter) -> None:
        self._keys = keys
        self._feed = feed
        self._meter = meter
        self._head: tuple[Head | None, team_service_pb2.WatchAccessResponse] = (None, head_to_proto(Head()))

    async def CreateApiKey(
        self, request: team_service_pb2.CreateApiKeyRequest, _context: _Context
    ) -> team_service_pb2.CreateApiKeyResponse:
        """Makes a key."""
        return made_to_proto(await self._keys.create(wish_from_proto(request), caller=current_identity()))

    async def GetApiKey(self, request: team_service_pb2.GetApiKeyRequest, _context: _Context) -> team_pb2.ApiKey:
        """One key."""
        return key_to_proto(await self._keys.get(request.team_name, request.key_id, caller=current_identity()))

    async def ListApiKeys(
        self, request: team_service_pb2.ListApiKeysRequest, _context: _Context
    ) -> team_service_pb2.ListApiKeysResponse:
        """A page of a team's keys."""
        page = await self._keys.page(
            request.team_name,
            page_size=request.page_size,
            page_token=request.page_token,
            caller=current_identity(),
        )
        return team_service_pb2.ListApiKeysResponse(
            api_keys=[key_to_proto(key) for key in page.keys], next_page_token=page.next_page_token
        )

    async def RevokeApiKey(self, request: team_service_pb2.RevokeApiKeyRequest, _context: _Context) -> team_pb2.ApiKey:
        """Ends a key."""
        ended = await self._keys.revoke(
            request.team_name, request.key_id, reason=request.reason, caller=current_identity()
        )
        return key_to_proto(ended)

    async def GetKeySet(self, _request: team_service_pb2.GetKeySetRequest, _context: _Context) -> httpbody_pb2.HttpBody:
        """The public keys, for everybody."""
        key_set = await self._feed.current_key_set()
        return httpbody_pb2.HttpBody(content_type="application/jwk-set+json", data=key_set.encode())

    async def ExchangeToken(
        self, request: team_service_pb2.ExchangeTokenRequest, _context: _Context
    ) -> team_service_pb2.CreateApiKeyResponse:
        """Makes a token of one of the caller's teams."""
        made = await self._keys.exchange(request.team_name, scopes=tuple(request.scopes), caller=current_identity())
        return made_to_proto(made)

    async def CreateOperatorKey(
        self, request: team_service_pb2.CreateOperatorKeyRequest, _context: _Context
    ) -> team_service_pb2.CreateApiKeyResponse:
        """Makes a key of an operator of the mesh."""
        made = await self._keys.create_operator(
            request.name,
            expires_at=moment(request.expires_at, "expires_at") if request.HasField("expires_at") else None,
            first_only=request.first_only,
            caller=current_identity(),
        )
        return made_to_proto(made)

    async def CreateServiceToken(
        self, request: team_service_pb2.CreateServiceTokenRequest, _context: _Context
    ) -> team_service_pb2.CreateServiceTokenResponse:
        """Makes a token by which a service acts."""
        token, expires_at = await self._keys.create_service_token(
            service_wish_from_proto(request), caller=current_identity()
        )
        return team_service_pb2.CreateServiceTokenResponse(token=token, expires_at=timestamp(expires_at))

    async def WatchAccess(
        self, request: team_service_pb2.WatchAccessRequest, _context: _Context
    ) -> AsyncIterator[team_service_pb2.WatchAccessResponse]:
        """Streams what tells callers apart."""
        check_inside(current_identity())
        log.info("access is watched", watcher=request.watcher_id[:128])
        async for update in self._feed.follow():
            yield update_to_proto(update, self._shown(update.head))

    async def ReportKeyUse(
        self, request: team_service_pb2.ReportKeyUseRequest, _context: _Context
    ) -> team_service_pb2.ReportKeyUseResponse:
        """Takes word of keys that were used."""
        used = [(use.key_id, moment(use.used_at, "uses.used_at")) for use in request.uses if use.HasField("used_at")]
        # Of a key that is named twice the last use counts.
        await self._keys.note_use(dict(sorted(used, key=lambda use: use[1])), caller=current_identity())
        return team_service_pb2.ReportKeyUseResponse()

    async def ListStorage(
        self, _request: team_service_pb2.ListStorageRequest, _context: _Context
    ) -> team_service_pb2.ListStorageResponse:
        """What is stored, by team and model."""
        check_inside(current_identity())
        return storage_to_proto(await self._meter.storage())

    def _shown(self, head: Head) -> team_service_pb2.WatchAccessResponse:
        # Followers share it: with hundreds of teams it is most of the work of a message.
        if self._head[0] is not head:
            self._head = (head, head_to_proto(head))
        return self._head[1]
