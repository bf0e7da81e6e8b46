"""Teams: who owns models, who belongs to a team, what a team may use; and models shared between teams."""

from collections.abc import Iterator, Sequence

from google.protobuf import field_mask_pb2
from infermesh.client.transport import Transport, all_pages, new_request_id
from infermesh.registry.v1 import (
    model_pb2,
    registry_service_pb2,
    registry_service_pb2_grpc,
    team_pb2,
    team_service_pb2_grpc,
)
from infermesh.registry.v1 import team_service_pb2 as pb

_PAGE_SIZE = 200


class Teams:
    """The teams that the caller may see."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._stub = team_service_pb2_grpc.TeamServiceStub(transport.channel)
        self._models = registry_service_pb2_grpc.RegistryServiceStub(transport.channel)

    def caller(self) -> pb.Caller:
        """Who the caller is to the mesh; all empty where authentication is off."""
        return self._transport.call(self._stub.GetCaller, pb.GetCallerRequest())

    def create(self, team: team_pb2.Team, *, request_id: str = "") -> team_pb2.Team:
        """Makes a team; `name` is required. The same `request_id` again is the same team. Raises TEAM_EXISTS."""
        request = pb.CreateTeamRequest(team=team, request_id=request_id or new_request_id())
        return self._transport.call(self._stub.CreateTeam, request)

    def get(self, name: str) -> team_pb2.Team:
        """One team. Raises TEAM_NOT_FOUND."""
        return self._transport.call(self._stub.GetTeam, pb.GetTeamRequest(team_name=name))

    def list(self, *, limit: int | None = None) -> Iterator[team_pb2.Team]:
        """The teams, in alphabetical order."""
        return all_pages(
            lambda token: self._transport.call(
                self._stub.ListTeams, pb.ListTeamsRequest(page_size=_size(limit), page_token=token)
            ),
            lambda page: page.teams,
            limit=limit,
        )

    def update(self, team: team_pb2.Team, *, fields: Sequence[str] = ()) -> team_pb2.Team:
        """Changes `fields` of a team, or each that is not empty. Raises ETAG_MISMATCH where `team.etag` is old."""
        mask = field_mask_pb2.FieldMask(paths=fields) if fields else None
        return self._transport.call(self._stub.UpdateTeam, pb.UpdateTeamRequest(team=team, update_mask=mask))

    def delete(self, name: str, *, etag: str = "") -> None:
        """Removes a team. Raises RESOURCE_IN_USE while it owns models."""
        self._transport.call(self._stub.DeleteTeam, pb.DeleteTeamRequest(team_name=name, etag=etag))

    def set_member(self, team: str, user: str, role: str) -> team_pb2.Member:
        """Gives a user the role "viewer", "deployer" or "admin" in a team."""
        request = pb.SetMemberRequest(team_name=team, user=user, role=role)
        return self._transport.call(self._stub.SetMember, request)

    def members(self, team: str, *, limit: int | None = None) -> Iterator[team_pb2.Member]:
        """The members of a team, in alphabetical order."""
        return all_pages(
            lambda token: self._transport.call(
                self._stub.ListMembers,
                pb.ListMembersRequest(team_name=team, page_size=_size(limit), page_token=token),
            ),
            lambda page: page.members,
            limit=limit,
        )

    def remove_member(self, team: str, user: str) -> None:
        """Takes a user out of a team. Raises MEMBER_NOT_FOUND."""
        self._transport.call(self._stub.DeleteMember, pb.DeleteMemberRequest(team_name=team, user=user))

    def share(self, model: str, team: str) -> model_pb2.Model:
        """Lets another team read and call a model."""
        request = registry_service_pb2.ShareModelRequest(model_name=model, team=team)
        return self._transport.call(self._models.ShareModel, request)

    def unshare(self, model: str, team: str) -> model_pb2.Model:
        """Takes that back."""
        request = registry_service_pb2.UnshareModelRequest(model_name=model, team=team)
        return self._transport.call(self._models.UnshareModel, request)

    def transfer(self, model: str, team: str) -> model_pb2.Model:
        """Gives a model to another team."""
        request = registry_service_pb2.TransferModelRequest(model_name=model, team=team)
        return self._transport.call(self._models.TransferModel, request)


def _size(limit: int | None) -> int:
    return _PAGE_SIZE if limit is None else max(1, min(limit, _PAGE_SIZE))
