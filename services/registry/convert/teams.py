"""Teams, members, keys and access between their protobuf and domain forms."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from infermesh.registry.v1 import team_pb2, team_service_pb2

from services.common.errors import invalid
from services.registry.convert.values import timestamp
from services.registry.domain.access_history import AccessUpdate, Head
from services.registry.domain.keys import ApiKey, KeyWish
from services.registry.domain.members import Member
from services.registry.domain.quotas import RateLimit, ResourceQuota
from services.registry.domain.service_tokens import ServiceWish
from services.registry.domain.storage import StorageUse
from services.registry.domain.teams import TERMS, NewTeam, Team, TeamTerms, changed_terms
from services.registry.engines.keys import MadeKey

_QUOTA_PARTS = tuple(f"resource_quota.{name}" for name in ResourceQuota.__dataclass_fields__)
_LIMIT_PARTS = tuple(f"rate_limit.{name}" for name in RateLimit.__dataclass_fields__)
_PATHS = (*TERMS, *_QUOTA_PARTS, *_LIMIT_PARTS)


def new_team_from_proto(message: team_service_pb2.CreateTeamRequest) -> NewTeam:
    """The team that is asked for."""
    team = message.team
    return NewTeam(team.name, team.namespace or team.name, _terms_from_proto(team), message.request_id)


def team_change_from_proto(message: team_service_pb2.UpdateTeamRequest) -> Callable[[TeamTerms], TeamTerms]:
    """What an update makes of the current terms. Raises INVALID_FIELD for paths that cannot be changed."""
    sent = message.team
    for path in message.update_mask.paths:
        if path not in _PATHS:
            raise invalid("update_mask", path, "paths of " + ", ".join(TERMS) + ", or one part of a quota or limit")
    paths = list(message.update_mask.paths) or [field.name for field, _ in sent.ListFields() if field.name in TERMS]
    return lambda current: changed_terms(current, _terms_from_proto(sent), paths)


def team_to_proto(team: Team) -> team_pb2.Team:
    """The wire form of a team. A quota or limit that says nothing is absent."""
    terms = team.terms
    return team_pb2.Team(
        team_id=team.team_id,
        name=team.name,
        namespace=team.namespace,
        description=terms.description,
        resource_quota=_quota_to_proto(terms.resource_quota),
        rate_limit=_limit_to_proto(terms.rate_limit) if terms.rate_limit != RateLimit() else None,
        allow_unsafe_artifacts=terms.allow_unsafe_artifacts,
        require_signature=terms.require_signature,
        trusted_signers=terms.trusted_signers,
        created_at=timestamp(team.created_at),
        updated_at=timestamp(team.updated_at),
        etag=team.etag,
    )


def member_to_proto(member: Member) -> team_pb2.Member:
    """The wire form of a member."""
    return team_pb2.Member(
        team=member.team, user=member.user, role=member.role, created_at=timestamp(member.created_at)
    )


def wish_from_proto(message: team_service_pb2.CreateApiKeyRequest) -> KeyWish:
    """The key that is asked for. Raises INVALID_FIELD for an end that is no moment."""
    return KeyWish(
        team=message.team_name,
        name=message.name,
        role=message.role,
        scopes=tuple(message.scopes),
        models=tuple(message.models),
        rate_limit=_limit_from_proto(message.rate_limit) if message.HasField("rate_limit") else None,
        expires_at=moment(message.expires_at, "expires_at") if message.HasField("expires_at") else None,
        request_id=message.request_id,
    )


def service_wish_from_proto(message: team_service_pb2.CreateServiceTokenRequest) -> ServiceWish:
    """In whose name a service wants to act."""
    return ServiceWish(
        purpose=message.purpose,
        team=message.team,
        user=message.user,
        role=message.role,
        scopes=tuple(message.scopes),
        models=tuple(message.models),
    )


def moment(stamp: Timestamp, field: str) -> datetime:
    """The moment of a stamp. Raises INVALID_FIELD for one that no calendar has."""
    try:
        return stamp.ToDatetime(UTC)
    except (ValueError, OverflowError):
        raise invalid(field, f"{stamp.seconds} s, {stamp.nanos} ns", "a moment of the years 1 to 9999") from None


def key_to_proto(key: ApiKey) -> team_pb2.ApiKey:
    """The wire form of a key."""
    return team_pb2.ApiKey(
        key_id=key.key_id,
        team=key.team,
        name=key.name,
        role=key.role,
        scopes=key.scopes,
        models=key.models,
        rate_limit=_limit_to_proto(key.rate_limit) if key.rate_limit is not None else None,
        expires_at=_optional(key.expires_at),
        last_used_at=_optional(key.last_used_at),
        revoked_at=_optional(key.revoked_at),
        created_by=key.created_by,
        created_at=timestamp(key.created_at),
    )


def made_to_proto(made: MadeKey) -> team_service_pb2.CreateApiKeyResponse:
    """The wire form of a key that is shown for the only time."""
    return team_service_pb2.CreateApiKeyResponse(api_key=key_to_proto(made.key), secret=made.secret)


def head_to_proto(head: Head) -> team_service_pb2.WatchAccessResponse:
    """The wire form of what every message tells whole."""
    return team_service_pb2.WatchAccessResponse(
        revoked_key_ids=head.revoked,
        teams=[_followed(team) for team in head.teams],
        key_limits=[
            team_service_pb2.KeyLimit(key_id=one.key_id, rate_limit=_limit_to_proto(one.rate_limit))
            for one in head.limits
        ],
        key_set=head.key_set,
    )


def update_to_proto(
    update: AccessUpdate, head: team_service_pb2.WatchAccessResponse
) -> team_service_pb2.WatchAccessResponse:
    """The wire form of an update, `head` being that of its head."""
    message = team_service_pb2.WatchAccessResponse(
        revision=str(update.revision),
        models_reset=update.reset,
        models=[
            team_service_pb2.ModelAccess(model_name=name, team=one.team, shared_with=one.shared_with)
            for name, one in sorted(update.models.items())
        ],
        removed_models=update.removed,
    )
    message.MergeFrom(head)
    return message


def storage_to_proto(uses: Sequence[StorageUse]) -> team_service_pb2.ListStorageResponse:
    """The wire form of what is stored."""
    return team_service_pb2.ListStorageResponse(
        uses=[
            team_service_pb2.StorageUse(team=one.team, model_name=one.model_name, stored_bytes=one.stored_bytes)
            for one in uses
        ]
    )


def _followed(team: Team) -> team_pb2.Team:
    # With every change all teams go to all followers: what is long and decides nothing there stays here.
    return team_to_proto(replace(team, terms=replace(team.terms, description="", trusted_signers=())))


def _terms_from_proto(team: team_pb2.Team) -> TeamTerms:
    return TeamTerms(
        description=team.description,
        resource_quota=_quota_from_proto(team.resource_quota),
        rate_limit=_limit_from_proto(team.rate_limit),
        allow_unsafe_artifacts=team.allow_unsafe_artifacts,
        require_signature=team.require_signature,
        trusted_signers=tuple(team.trusted_signers),
    )


def _quota_from_proto(quota: team_pb2.ResourceQuota) -> ResourceQuota:
    return ResourceQuota(
        cpu=quota.cpu,
        memory=quota.memory,
        gpu=quota.gpu if quota.HasField("gpu") else None,
        models=quota.models if quota.HasField("models") else None,
        batch_concurrency=quota.batch_concurrency if quota.HasField("batch_concurrency") else None,
        artifact_bytes=quota.artifact_bytes if quota.HasField("artifact_bytes") else None,
    )


def _quota_to_proto(quota: ResourceQuota) -> team_pb2.ResourceQuota | None:
    if quota == ResourceQuota():
        return None
    return team_pb2.ResourceQuota(
        cpu=quota.cpu,
        memory=quota.memory,
        gpu=quota.gpu,
        models=quota.models,
        batch_concurrency=quota.batch_concurrency,
        artifact_bytes=quota.artifact_bytes,
    )


def _limit_from_proto(limit: team_pb2.RateLimit) -> RateLimit:
    return RateLimit(limit.requests_per_sec, limit.burst)


def _limit_to_proto(limit: RateLimit) -> team_pb2.RateLimit:
    return team_pb2.RateLimit(requests_per_sec=limit.requests_per_sec, burst=limit.burst)


def _optional(value: datetime | None) -> Timestamp | None:
    return timestamp(value) if value is not None else None
