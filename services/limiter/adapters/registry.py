"""The limits, as the registry says them."""

from collections.abc import AsyncIterator

import grpc
from infermesh.registry.v1 import team_pb2, team_service_pb2, team_service_pb2_grpc

from services.limiter.domain.buckets import Limit, limit_of
from services.limiter.engines.limits import Limits


class RegistryLimits:
    """Follows the registry over a channel, whose failed calls raise MeshError."""

    def __init__(self, channel: grpc.aio.Channel, *, watcher_id: str) -> None:
        self._stub = team_service_pb2_grpc.TeamServiceStub(channel)
        self._watcher_id = watcher_id

    async def watch(self) -> AsyncIterator[Limits]:
        """All limits, then again whenever anything changed. Raises MeshError where the registry is away."""
        request = team_service_pb2.WatchAccessRequest(watcher_id=self._watcher_id)
        async for message in self._stub.WatchAccess(request):
            yield limits_of(message)


def limits_of(message: team_service_pb2.WatchAccessResponse) -> Limits:
    """Those who have a limit."""
    teams = {team.name: _limit(team.rate_limit) for team in message.teams}
    keys = {key.key_id: _limit(key.rate_limit) for key in message.key_limits}
    return Limits(_given(teams), _given(keys))


def _limit(message: team_pb2.RateLimit) -> Limit | None:
    return limit_of(message.requests_per_sec, message.burst)


def _given(limits: dict[str, Limit | None]) -> dict[str, Limit]:
    return {name: limit for name, limit in limits.items() if limit is not None}
