"""What is stored, asked of the registry."""

from collections.abc import Sequence

import grpc
from infermesh.registry.v1 import team_service_pb2, team_service_pb2_grpc

from services.monitor.ports_usage import Stored

_DEADLINE_S = 30.0
"""Ten thousand models are added up for it."""
_BYTES_MAX = 2**63 - 1


class RegistryStorageSource:
    """A `StorageSource` over TeamService.ListStorage."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._teams = team_service_pb2_grpc.TeamServiceStub(channel)

    async def stored(self) -> Sequence[Stored]:
        """All of it. Raises what the channel makes of failures: DEPENDENCY_UNAVAILABLE where the registry is away."""
        answer = await self._teams.ListStorage(team_service_pb2.ListStorageRequest(), timeout=_DEADLINE_S)
        sizes: dict[tuple[str, str], int] = {}
        for use in answer.uses:
            owner = (use.team, use.model_name)
            sizes[owner] = sizes.get(owner, 0) + _whole(use.stored_bytes)
        return [Stored(team, model, size) for (team, model), size in sorted(sizes.items())]


def _whole(size: float) -> int:
    return min(_BYTES_MAX, round(size)) if 0 <= size < float("inf") else 0
