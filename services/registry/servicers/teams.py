"""TeamService over the engines: teams and members here, keys and access in its base."""

from typing import Any

import grpc
from google.protobuf import empty_pb2
from infermesh.registry.v1 import team_pb2, team_service_pb2

from services.common.grpc.identity import ANONYMOUS, current_identity
from services.registry.convert.teams import (
    member_to_proto,
    new_team_from_proto,
    team_change_from_proto,
    team_to_proto,
)
from services.registry.engines.access_feed import AccessFeed
from services.registry.engines.keys import Keys
from services.registry.engines.teams import Teams, not_known
from services.registry.ports_teams import StorageMeter
from services.registry.servicers.keys import KeyMethods

_Context = grpc.aio.ServicerContext[Any, Any]


class TeamServicer(KeyMethods):
    """Who may touch what."""

    def __init__(self, *, teams: Teams, keys: Keys, feed: AccessFeed, meter: StorageMeter) -> None:
        super().__init__(keys=keys, feed=feed, meter=meter)
        self._teams = teams

    async def GetCaller(
        self, _request: team_service_pb2.GetCallerRequest, _context: _Context
    ) -> team_service_pb2.Caller:
        """Who the caller is."""
        caller = current_identity()
        if caller.role == ANONYMOUS and not caller.user:
            raise not_known()
        return team_service_pb2.Caller(
            user=caller.user,
            team=caller.team,
            role=caller.role,
            key_id=caller.key_id,
            scopes=sorted(caller.scopes),
        )

    async def CreateTeam(self, request: team_service_pb2.CreateTeamRequest, _context: _Context) -> team_pb2.Team:
        """Makes a team."""
        return team_to_proto(await self._teams.create(new_team_from_proto(request), caller=current_identity()))

    async def GetTeam(self, request: team_service_pb2.GetTeamRequest, _context: _Context) -> team_pb2.Team:
        """One team."""
        return team_to_proto(await self._teams.get(request.team_name, caller=current_identity()))

    async def ListTeams(
        self, request: team_service_pb2.ListTeamsRequest, _context: _Context
    ) -> team_service_pb2.ListTeamsResponse:
        """A page of the caller's teams."""
        page = await self._teams.page(
            page_size=request.page_size, page_token=request.page_token, caller=current_identity()
        )
        return team_service_pb2.ListTeamsResponse(
            teams=[team_to_proto(team) for team in page.teams], next_page_token=page.next_page_token
        )

    async def UpdateTeam(self, request: team_service_pb2.UpdateTeamRequest, _context: _Context) -> team_pb2.Team:
        """Changes a team."""
        changed = await self._teams.update(
            request.team.name,
            etag=request.team.etag,
            change=team_change_from_proto(request),
            caller=current_identity(),
        )
        return team_to_proto(changed)

    async def DeleteTeam(self, request: team_service_pb2.DeleteTeamRequest, _context: _Context) -> empty_pb2.Empty:
        """Removes a team."""
        await self._teams.delete(request.team_name, etag=request.etag, caller=current_identity())
        return empty_pb2.Empty()

    async def SetMember(self, request: team_service_pb2.SetMemberRequest, _context: _Context) -> team_pb2.Member:
        """Gives a user a role."""
        member = await self._teams.set_member(request.team_name, request.user, request.role, caller=current_identity())
        return member_to_proto(member)

    async def ListMembers(
        self, request: team_service_pb2.ListMembersRequest, _context: _Context
    ) -> team_service_pb2.ListMembersResponse:
        """A page of a team's members."""
        page = await self._teams.members(
            request.team_name,
            page_size=request.page_size,
            page_token=request.page_token,
            caller=current_identity(),
        )
        return team_service_pb2.ListMembersResponse(
            members=[member_to_proto(member) for member in page.members], next_page_token=page.next_page_token
        )

    async def DeleteMember(self, request: team_service_pb2.DeleteMemberRequest, _context: _Context) -> empty_pb2.Empty:
        """Takes a user out of a team."""
        await self._teams.delete_member(request.team_name, request.user, caller=current_identity())
        return empty_pb2.Empty()
