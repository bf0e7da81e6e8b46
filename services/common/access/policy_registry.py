"""What the registry's methods ask of their callers."""

from services.common.access.policy_words import (
    administers,
    changes,
    internal,
    looks,
    operates,
    patient,
    reads,
    rules,
    writes,
)
from services.common.access.roles import Role, Scope
from services.common.access.rule import Access, Rule

_WRITE = Scope.MODELS_WRITE
_VERSION = "model_version.model_name"

REGISTRY_RULES = {
    **rules(
        "infermesh.registry.v1.RegistryService",
        {
            "CreateModel": patient(
                Rule(role=Role.DEPLOYER, scopes=frozenset({_WRITE}), access=Access.CREATE, model="name")
            ),
            "GetModel": reads(),
            "ListModels": looks(),
            "SearchModels": looks(),
            "UpdateModel": writes(_WRITE, "model.name"),
            "DeleteModel": writes(_WRITE, role=Role.ADMIN),
            "ShareModel": writes(Scope.ADMIN, role=Role.ADMIN),
            "UnshareModel": writes(Scope.ADMIN, role=Role.ADMIN),
            "TransferModel": writes(Scope.ADMIN, role=Role.ADMIN),
            "GetModelVersion": reads(),
            "ListModelVersions": reads(),
            "UpdateModelVersion": writes(_WRITE, _VERSION),
            "DeleteModelVersion": writes(_WRITE, role=Role.ADMIN),
            "SetStage": writes(_WRITE),
            "GetReferenceSample": reads(),
            "CompareSchemas": reads(),
            "SetAlias": writes(_WRITE),
            "GetAlias": reads(),
            "ListAliases": reads(),
            "DeleteAlias": writes(_WRITE),
            "ListAliasMoves": reads(),
            # By a node's id, or by a version: nodes of models that the caller does not see are left out.
            "GetLineage": reads(optional=True),
            # Names come out of what is imported; a key that is limited to models may not.
            "ImportModels": patient(Rule(role=Role.DEPLOYER, scopes=frozenset({_WRITE}), access=Access.CREATE)),
            "WatchChanges": reads(optional=True),
            "ListChanges": looks(),
        },
    ),
    **rules(
        "infermesh.registry.v1.ArtifactService",
        {
            "UploadArtifact": changes(_WRITE),
            "CreateUpload": changes(_WRITE),
            "GetUpload": changes(_WRITE),
            "AppendUpload": changes(_WRITE),
            "CompleteUpload": patient(changes(_WRITE)),
            "DeleteUpload": changes(_WRITE),
            "GetArtifact": looks(),
            "DownloadArtifact": looks(),
            # It fetches what the address names, as a registration would.
            "InspectArtifact": patient(changes(_WRITE)),
            "CollectGarbage": patient(operates()),
        },
    ),
    **rules(
        "infermesh.registry.v1.TeamService",
        {
            "GetCaller": Rule(role=Role.USER, by_service=True),
            "CreateTeam": operates(),
            "GetTeam": looks(team="team_name"),
            "ListTeams": Rule(role=Role.USER, by_service=True),
            "UpdateTeam": administers("team.name"),
            "DeleteTeam": operates(team="team_name"),
            "SetMember": administers(),
            "ListMembers": looks(team="team_name"),
            "DeleteMember": administers(),
            "CreateApiKey": administers(),
            "GetApiKey": Rule(role=Role.ADMIN, scopes=frozenset({Scope.ADMIN}), team="team_name"),
            "ListApiKeys": Rule(role=Role.ADMIN, scopes=frozenset({Scope.ADMIN}), team="team_name"),
            "RevokeApiKey": administers(),
            "GetKeySet": Rule(role=Role.ANONYMOUS),
            # For a team that the caller's credential does not name yet: the service looks whether they are a member.
            "ExchangeToken": Rule(role=Role.USER, by_service=True),
            "CreateOperatorKey": internal(),
            "CreateServiceToken": internal(),
            "WatchAccess": internal(),
            "ReportKeyUse": internal(),
            "ListStorage": internal(),
        },
    ),
}
