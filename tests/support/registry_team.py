"""Calls of TeamService and RegistryService by callers of every kind, straight at a registry."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import grpc
from infermesh.registry.v1 import registry_service_pb2_grpc, team_pb2, team_service_pb2_grpc
from infermesh.registry.v1 import team_service_pb2 as pb

from services.common.grpc.identity import Identity, identity_headers

INSIDE = Identity()
OPERATOR = Identity(user="olga", role="platform-admin", key_id="operator-key")


def member(team: str, role: str = "admin", **more: Any) -> Identity:
    """A caller whom the gateway knows as one of a team."""
    return Identity(user=more.pop("user", f"{role}-of-{team}"), team=team, role=role, **more)


def stranger(user: str = "") -> Identity:
    """A caller whose token names no team, or who has none at all."""
    return Identity(user=user, role="anonymous")


@dataclass(frozen=True)
class By:
    """A stub that calls with the identity that the gateway would state."""

    stub: Any
    caller: Identity

    def __getattr__(self, method: str) -> Any:
        call = getattr(self.stub, method)
        return lambda request: call(request, metadata=identity_headers(self.caller), timeout=20)


def teams_by(channel: grpc.aio.Channel, caller: Identity) -> Any:
    """TeamService for a caller."""
    return By(team_service_pb2_grpc.TeamServiceStub(channel), caller)


def models_by(channel: grpc.aio.Channel, caller: Identity) -> Any:
    """RegistryService for a caller."""
    return By(registry_service_pb2_grpc.RegistryServiceStub(channel), caller)


async def make_team(channel: grpc.aio.Channel, name: str, **fields: Any) -> team_pb2.Team:
    """A team, made by an operator."""
    made: team_pb2.Team = await teams_by(channel, OPERATOR).CreateTeam(
        pb.CreateTeamRequest(team=team_pb2.Team(name=name, **fields))
    )
    return made


class Follower:
    """What a follower of WatchAccess knows. `known` is kept up by `run`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self.models: dict[str, tuple[str, tuple[str, ...]]] = {}
        self.last = pb.WatchAccessResponse()
        self.heard = 0
        self.resets = 0

    def take(self, message: pb.WatchAccessResponse) -> None:
        """Takes one message."""
        take_models(self.models, message)
        self.last = message
        self.heard += 1
        self.resets += message.models_reset

    async def run(self) -> None:
        """Follows until it is cancelled or the stream ends."""
        stub = team_service_pb2_grpc.TeamServiceStub(self._channel)
        async for message in stub.WatchAccess(pb.WatchAccessRequest(watcher_id="test")):
            self.take(message)


def take_models(models: dict[str, tuple[str, tuple[str, ...]]], message: pb.WatchAccessResponse) -> None:
    """What a message makes of the models that are known."""
    if message.models_reset:
        models.clear()
    for name in message.removed_models:
        models.pop(name, None)
    for one in message.models:
        models[one.model_name] = (one.team, tuple(one.shared_with))


def identity_of_claims(claims: Mapping[str, Any]) -> Identity:
    """The identity that the gateway states for a key with these claims."""
    return Identity(
        user=claims.get("sub", ""),
        team=claims.get("team", ""),
        role=claims["role"],
        key_id=claims["jti"],
        scopes=frozenset(claims.get("scope", "").split()),
        models=frozenset(claims.get("models", "").split()),
    )
