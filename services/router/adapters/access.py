"""The registry's word on who may call and whose models are, over gRPC."""

from collections.abc import AsyncIterator

import grpc
from infermesh.registry.v1 import team_service_pb2, team_service_pb2_grpc

from services.router.domain.access import AccessUpdate, Callers, Owner, Owners


class RegistryAccessSource:
    """An `AccessSource`."""

    def __init__(self, channel: grpc.aio.Channel, *, watcher_id: str) -> None:
        self._teams = team_service_pb2_grpc.TeamServiceStub(channel)
        self._watcher_id = watcher_id

    async def watch(self) -> AsyncIterator[AccessUpdate]:
        """All there is, then every change."""
        request = team_service_pb2.WatchAccessRequest(watcher_id=self._watcher_id)
        async for message in self._teams.WatchAccess(request):
            yield update_from_proto(message)


def update_from_proto(message: team_service_pb2.WatchAccessResponse) -> AccessUpdate:
    """What the registry says."""
    return AccessUpdate(
        callers=callers_from_proto(message),
        full=message.models_reset,
        models=owners_from_proto(message),
        removed=tuple(message.removed_models),
    )


def callers_from_proto(message: team_service_pb2.WatchAccessResponse) -> Callers:
    """What it says of keys and teams."""
    stated = team_service_pb2.WatchAccessResponse()
    stated.CopyFrom(message)
    for field in ("models", "removed_models", "models_reset"):
        stated.ClearField(field)
    return Callers(
        revision=message.revision,
        key_set=message.key_set,
        revoked=tuple(message.revoked_key_ids),
        stated=stated.SerializeToString(deterministic=True),
    )


def owners_from_proto(message: team_service_pb2.WatchAccessResponse) -> Owners:
    """What it says of models."""
    return {one.model_name: Owner(one.team, tuple(one.shared_with)) for one in message.models}


def owners_to_proto(owners: Owners) -> team_service_pb2.WatchAccessResponse:
    """Owners as they travel."""
    return team_service_pb2.WatchAccessResponse(
        models=[
            team_service_pb2.ModelAccess(model_name=name, team=owner.team, shared_with=owner.shared_with)
            for name, owner in sorted(owners.items())
        ]
    )
