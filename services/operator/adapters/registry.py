"""The registry over gRPC: versions, which never change and are kept, and teams."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import datetime

import grpc
from infermesh.registry.v1 import registry_service_pb2, registry_service_pb2_grpc, team_pb2, team_service_pb2
from infermesh.registry.v1 import team_service_pb2_grpc as team_grpc

from services.common.access.roles import Role, Scope
from services.operator.domain.fetch_key import FetchKey
from services.operator.domain.manifests.team import Team
from services.operator.domain.options import VersionFacts

_DEADLINE_S = 5.0
_KEPT_MAX = 20_000
_PAGE = 1000
_KEY_NAME = "replicas in Kubernetes"


class RegistryVersions:
    """A `Versions`. Bounded: the least recently asked for are asked for again."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._registry = registry_service_pb2_grpc.RegistryServiceStub(channel)
        self._kept: OrderedDict[tuple[str, str], VersionFacts] = OrderedDict()

    async def facts(self, model_name: str, version: str) -> VersionFacts:
        """What the registry says of a version."""
        key = (model_name, version)
        kept = self._kept.get(key)
        if kept is not None:
            self._kept.move_to_end(key)
            return kept
        request = registry_service_pb2.GetModelVersionRequest(model_name=model_name, version=version)
        found = await self._registry.GetModelVersion(request, timeout=_DEADLINE_S)
        facts = VersionFacts(
            framework=found.framework,
            artifact_digest=found.artifact_digest,
            artifact_bytes=int(found.model_size_bytes),
            team=found.team,
            stage=found.stage,
            reference_digest=found.reference_digest,
        )
        if facts.stage != "archived":
            # The one thing that changes back: whoever waits for that must be told.
            self._kept[key] = facts
            if len(self._kept) > _KEPT_MAX:
                self._kept.popitem(last=False)
        return facts


class RegistryFetchKeys:
    """A `FetchKeys`. The operator is a part of the mesh, so it may make keys of any team."""

    def __init__(self, channel: grpc.aio.Channel, *, revoked: Callable[[str], bool]) -> None:
        self._teams = team_grpc.TeamServiceStub(channel)
        self.revoked = revoked

    async def make(self, team: str, *, ends_at: datetime) -> FetchKey:
        """A key of the weakest role, and of that the one scope that fetching needs."""
        request = team_service_pb2.CreateApiKeyRequest(
            team_name=team, name=_KEY_NAME, role=Role.VIEWER.word, scopes=[Scope.MODELS_READ]
        )
        request.expires_at.FromDatetime(ends_at)
        made = await self._teams.CreateApiKey(request, timeout=_DEADLINE_S)
        return FetchKey(made.api_key.key_id, made.secret, ends_at)

    async def revoke(self, team: str, key_id: str, *, reason: str) -> None:
        """Ends it."""
        request = team_service_pb2.RevokeApiKeyRequest(team_name=team, key_id=key_id, reason=reason)
        await self._teams.RevokeApiKey(request, timeout=_DEADLINE_S)


class RegistryTeams:
    """A `Teams`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._teams = team_grpc.TeamServiceStub(channel)

    async def every(self) -> Sequence[Team]:
        """All teams, page by page."""
        found: list[Team] = []
        token = ""
        while True:
            request = team_service_pb2.ListTeamsRequest(page_size=_PAGE, page_token=token)
            page = await self._teams.ListTeams(request, timeout=_DEADLINE_S)
            found.extend(map(_team, page.teams))
            token = page.next_page_token
            if not token:
                return found


def _team(said: team_pb2.Team) -> Team:
    quota = said.resource_quota
    return Team(
        name=said.name,
        namespace=said.namespace.replace("_", "-"),
        cpu=quota.cpu,
        memory=quota.memory,
        gpu=quota.gpu if quota.HasField("gpu") else None,
    )
