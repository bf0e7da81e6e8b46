"""Where teams are in clusters, as the registry says."""

import grpc
from infermesh.registry.v1 import team_service_pb2, team_service_pb2_grpc

from services.common.errors import MeshError, Reason

_DEADLINE_S = 5.0
_PAGE = 1000


class RegistryNamespaces:
    """A `Namespaces`. Bounded by the number of teams, whose namespaces are fixed once made."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._teams = team_service_pb2_grpc.TeamServiceStub(channel)
        self._known: dict[str, str] = {}

    async def of(self, team: str) -> str:
        """A team's namespace, in the letters that Kubernetes allows."""
        if team not in self._known:
            await self._read()
        if team not in self._known:
            raise MeshError(
                Reason.TEAM_NOT_FOUND, f"there is no team {team!r}; give its models to a team that there is"
            )
        return self._known[team]

    async def _read(self) -> None:
        token = ""
        while True:
            request = team_service_pb2.ListTeamsRequest(page_size=_PAGE, page_token=token)
            page = await self._teams.ListTeams(request, timeout=_DEADLINE_S)
            self._known |= {str(one.name): str(one.namespace).replace("_", "-") for one in page.teams}
            token = page.next_page_token
            if not token:
                return
