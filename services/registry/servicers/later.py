"""The calls whose contract is final and whose behaviour is not built yet. Each says what to use instead."""

from collections.abc import Callable
from typing import Never, cast

from infermesh.registry.v1 import artifact_service_pb2_grpc, registry_service_pb2_grpc, team_service_pb2_grpc

from services.common.errors import MeshError, Reason


def later(sentence: str) -> Callable[..., Never]:
    """A method, unary or streaming, that answers UNIMPLEMENTED with `sentence`."""

    async def refuse(_servicer: object, _request: object, _context: object) -> Never:
        raise MeshError(Reason.NOT_IMPLEMENTED, sentence)

    return cast("Callable[..., Never]", refuse)


_DELETE = "nothing can be removed yet; SetStage with the stage archived keeps a version from being deployed"
_TEAMS = "teams are not administered yet; every model is open to every caller who reaches the gateway"
_LINEAGE = "lineage is not followed yet; GetModelVersion has what each version was made from"
_IMPORT = "other registries cannot be imported yet; CreateModel registers one ONNX file at a time"
_CHANGES = "changes are not kept yet; updated_at of GetModel and GetModelVersion says when something last changed"
_UPLOAD = "uploads cannot be continued after a break yet; send the whole artifact by UploadArtifact"


class LaterRegistryMethods(registry_service_pb2_grpc.RegistryServiceServicer):
    """All that RegistryService does not do yet."""

    DeleteModel = later(_DELETE)
    ShareModel = later(_TEAMS)
    UnshareModel = later(_TEAMS)
    TransferModel = later(_TEAMS)
    DeleteModelVersion = later(_DELETE)
    GetLineage = later(_LINEAGE)
    ImportModels = later(_IMPORT)
    WatchChanges = later(_CHANGES)
    ListChanges = later(_CHANGES)


class LaterArtifactMethods(artifact_service_pb2_grpc.ArtifactServiceServicer):
    """All that ArtifactService does not do yet."""

    CreateUpload = later(_UPLOAD)
    GetUpload = later(_UPLOAD)
    AppendUpload = later(_UPLOAD)
    CompleteUpload = later(_UPLOAD)
    DeleteUpload = later(_UPLOAD)


class LaterTeamMethods(team_service_pb2_grpc.TeamServiceServicer):
    """All that TeamService does not do yet."""

    GetCaller = later(_TEAMS)
    CreateTeam = later(_TEAMS)
    GetTeam = later(_TEAMS)
    ListTeams = later(_TEAMS)
    UpdateTeam = later(_TEAMS)
    DeleteTeam = later(_TEAMS)
    SetMember = later(_TEAMS)
    ListMembers = later(_TEAMS)
    DeleteMember = later(_TEAMS)
    CreateApiKey = later(_TEAMS)
    GetApiKey = later(_TEAMS)
    ListApiKeys = later(_TEAMS)
    RevokeApiKey = later(_TEAMS)
    GetKeySet = later(_TEAMS)
    ExchangeToken = later(_TEAMS)
    CreateOperatorKey = later(_TEAMS)
    WatchAccess = later(_TEAMS)
    ReportKeyUse = later(_TEAMS)
    ListStorage = later(_TEAMS)
