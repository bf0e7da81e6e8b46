"""API keys: for programs, and for people whose own token names no team."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from infermesh.client.metrics import timestamp
from infermesh.client.transport import Transport, all_pages, new_request_id
from infermesh.registry.v1 import team_pb2, team_service_pb2_grpc
from infermesh.registry.v1 import team_service_pb2 as pb

_PAGE_SIZE = 200


class Keys:
    """The keys of teams."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._stub = team_service_pb2_grpc.TeamServiceStub(transport.channel)

    def create(
        self,
        team: str,
        name: str,
        *,
        role: str,
        scopes: Sequence[str] = (),
        models: Sequence[str] = (),
        rate_limit: team_pb2.RateLimit | None = None,
        expires_at: datetime | None = None,
    ) -> pb.CreateApiKeyResponse:
        """Makes a key. Its `secret` is in the answer and nowhere else; `expires_at` (with a time zone) None: never."""
        request = pb.CreateApiKeyRequest(
            team_name=team,
            name=name,
            role=role,
            scopes=scopes,
            models=models,
            rate_limit=rate_limit,
            expires_at=timestamp(expires_at),
            request_id=new_request_id(),
        )
        return self._transport.call(self._stub.CreateApiKey, request)

    def get(self, team: str, key_id: str) -> team_pb2.ApiKey:
        """One key, without its secret. Raises KEY_NOT_FOUND."""
        return self._transport.call(self._stub.GetApiKey, pb.GetApiKeyRequest(team_name=team, key_id=key_id))

    def list(self, team: str, *, limit: int | None = None) -> Iterator[team_pb2.ApiKey]:
        """The keys of a team, newest first, revoked ones included."""
        size = _PAGE_SIZE if limit is None else max(1, min(limit, _PAGE_SIZE))
        return all_pages(
            lambda token: self._transport.call(
                self._stub.ListApiKeys, pb.ListApiKeysRequest(team_name=team, page_size=size, page_token=token)
            ),
            lambda page: page.api_keys,
            limit=limit,
        )

    def revoke(self, team: str, key_id: str, *, reason: str = "") -> team_pb2.ApiKey:
        """Ends a key; within a second no gateway takes it any more."""
        request = pb.RevokeApiKeyRequest(team_name=team, key_id=key_id, reason=reason)
        return self._transport.call(self._stub.RevokeApiKey, request)

    def exchange(self, team: str, *, scopes: Sequence[str] = ()) -> pb.CreateApiKeyResponse:
        """A key of a team for the user whose token the client shows, for an hour, with the user's role there."""
        request = pb.ExchangeTokenRequest(team_name=team, scopes=scopes)
        return self._transport.call(self._stub.ExchangeToken, request)
