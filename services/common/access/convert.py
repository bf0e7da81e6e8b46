"""Between protobuf and what is known of access."""

from infermesh.registry.v1 import team_pb2, team_service_pb2

from services.common.access.book import AccessUpdate, TeamTerms
from services.common.access.decide import Standing


def update_from_proto(message: team_service_pb2.WatchAccessResponse) -> AccessUpdate:
    """The change that a message of the registry states."""
    return AccessUpdate(
        revision=message.revision,
        revoked_keys=frozenset(message.revoked_key_ids),
        teams={team.name: _terms(team) for team in message.teams},
        models={model.model_name: Standing(model.team, frozenset(model.shared_with)) for model in message.models},
        models_reset=message.models_reset,
        removed_models=tuple(message.removed_models),
    )


def update_to_proto(update: AccessUpdate) -> team_service_pb2.WatchAccessResponse:
    """The message that says the same, for the disk."""
    return team_service_pb2.WatchAccessResponse(
        revision=update.revision,
        revoked_key_ids=sorted(update.revoked_keys),
        teams=[_team(terms) for _, terms in sorted(update.teams.items())],
        models_reset=update.models_reset,
        models=[
            team_service_pb2.ModelAccess(model_name=name, team=one.team, shared_with=sorted(one.shared_with))
            for name, one in sorted(update.models.items())
        ],
        removed_models=update.removed_models,
    )


def _terms(team: team_pb2.Team) -> TeamTerms:
    quota = team.resource_quota
    return TeamTerms(
        name=team.name,
        cpu=quota.cpu,
        memory=quota.memory,
        gpu=quota.gpu if quota.HasField("gpu") else None,
        batch_concurrency=quota.batch_concurrency if quota.HasField("batch_concurrency") else None,
        require_signature=team.require_signature,
    )


def _team(terms: TeamTerms) -> team_pb2.Team:
    team = team_pb2.Team(name=terms.name, require_signature=terms.require_signature)
    quota = team.resource_quota
    quota.cpu, quota.memory = terms.cpu, terms.memory
    if terms.gpu is not None:
        quota.gpu = terms.gpu
    if terms.batch_concurrency is not None:
        quota.batch_concurrency = terms.batch_concurrency
    return team
