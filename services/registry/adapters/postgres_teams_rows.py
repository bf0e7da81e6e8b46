"""Teams, members, quotas and limits between their domain form and rows."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sqlalchemy import RowMapping

from services.registry.adapters.rows import Parameters
from services.registry.domain.members import Member
from services.registry.domain.quotas import RateLimit, ResourceQuota
from services.registry.domain.teams import Team, TeamTerms

TEAM = """t.id, t.name, t.namespace, t.description, t.resource_quota, t.rate_limit, t.allow_unsafe_artifacts,
    t.require_signature, t.trusted_signers, t.created_at, t.updated_at, t.revision"""
"""The columns that `team_of` reads."""


def team_of(row: RowMapping) -> Team:
    """The team that a row holds."""
    values: dict[str, Any] = dict(row)
    return Team(
        team_id=str(values["id"]),
        name=values["name"],
        namespace=values["namespace"],
        terms=TeamTerms(
            description=values["description"],
            resource_quota=quota_of(values["resource_quota"]),
            rate_limit=RateLimit(**values["rate_limit"]),
            allow_unsafe_artifacts=values["allow_unsafe_artifacts"],
            require_signature=values["require_signature"],
            trusted_signers=tuple(values["trusted_signers"]),
        ),
        created_at=values["created_at"],
        updated_at=values["updated_at"],
        revision=values["revision"],
    )


def quota_of(value: Mapping[str, Any]) -> ResourceQuota:
    """The quota that a column holds. Operators may have written there: what is no limit of ours is left out."""
    known = {name: value[name] for name in ResourceQuota.__dataclass_fields__ if value.get(name) is not None}
    return ResourceQuota(**known)


def terms_parameters(terms: TeamTerms) -> Parameters:
    """The columns of what may be changed. Limits that are none are left out of the JSON."""
    quota = {name: value for name, value in asdict(terms.resource_quota).items() if value not in ("", None)}
    limit = asdict(terms.rate_limit) if terms.rate_limit != RateLimit() else {}
    return {
        "description": terms.description,
        "resource_quota": json.dumps(quota),
        "rate_limit": json.dumps(limit),
        "allow_unsafe_artifacts": terms.allow_unsafe_artifacts,
        "require_signature": terms.require_signature,
        "trusted_signers": list(terms.trusted_signers),
    }


def member_of(row: RowMapping) -> Member:
    """The member that a row holds."""
    return Member(row["team"], row["user_name"], row["role"], row["created_at"])
