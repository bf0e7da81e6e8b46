"""Teams as values: what they may be called, and who may change what of them."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import cast

from services.common.errors import MeshError, Reason
from services.common.grpc.identity import PLATFORM_ADMIN, Identity
from services.registry.domain.access import check_team_admin
from services.registry.domain.quotas import RateLimit, ResourceQuota, check_quota, check_rate_limit
from services.registry.domain.version import JsonObject, etag_of
from services.registry.domain.violations import Violations

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?")
_NAME_ALLOWED = "1 to 63 of a-z, 0-9, '-' and '_', beginning and ending with a letter or digit"
_NAMESPACE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_NAMESPACE_ALLOWED = "1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit, as clusters ask for"
_DESCRIPTION_LENGTH_MAX = 4096
_SIGNERS_MAX = 32
_SIGNER_LENGTH_MAX = 8192
_LIMITS = ("resource_quota", "rate_limit")


@dataclass(frozen=True, slots=True)
class TeamTerms:
    """What of a team may be changed."""

    description: str = ""
    resource_quota: ResourceQuota = field(default_factory=ResourceQuota)
    rate_limit: RateLimit = field(default_factory=RateLimit)
    allow_unsafe_artifacts: bool = False
    require_signature: bool = False
    trusted_signers: tuple[str, ...] = ()


TERMS = tuple(TeamTerms.__dataclass_fields__)
"""The names of what may be changed."""


@dataclass(frozen=True, slots=True)
class NewTeam:
    """A team about to be made."""

    name: str
    namespace: str
    terms: TeamTerms = field(default_factory=TeamTerms)
    request_id: str = ""

    @property
    def digest(self) -> str:
        """The same for the same wish."""
        text = json.dumps([self.name, self.namespace, asdict(self.terms)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Team:
    """A team."""

    team_id: str
    name: str
    namespace: str
    terms: TeamTerms
    created_at: datetime
    updated_at: datetime
    revision: int = 1
    """Counts changes of the terms."""

    @property
    def etag(self) -> str:
        """Changes with the terms."""
        return etag_of(self.team_id, self.revision)


def is_team_name(name: str) -> bool:
    """Whether a team may be called so."""
    return _NAME.fullmatch(name) is not None


def check_team_name(name: str, field_name: str = "team_name") -> str:
    """`name` itself. Raises INVALID_FIELD where no team may be called so."""
    found = Violations()
    found.unless(is_team_name(name), field_name, name, _NAME_ALLOWED)
    found.raise_if_any()
    return name


def check_new_team(new: NewTeam) -> None:
    """Raises INVALID_FIELD naming all that is wrong."""
    found = Violations()
    named = is_team_name(new.name)
    found.unless(named, "team.name", new.name, _NAME_ALLOWED)
    if named or new.namespace != new.name:
        fits = _NAMESPACE.fullmatch(new.namespace) is not None
        found.unless(fits, "team.namespace", new.namespace, f"{_NAMESPACE_ALLOWED}; without one it is the name")
    check_terms(new.terms, found)
    found.at_most("request_id", new.request_id, 128)
    found.raise_if_any()


def check_terms(terms: TeamTerms, found: Violations) -> None:
    """Adds all that is wrong with what may be changed."""
    found.at_most("team.description", terms.description, _DESCRIPTION_LENGTH_MAX)
    check_quota(terms.resource_quota, found, "team.resource_quota")
    check_rate_limit(terms.rate_limit, found, "team.rate_limit")
    signers = terms.trusted_signers
    found.unless(len(signers) <= _SIGNERS_MAX, "team.trusted_signers", len(signers), f"at most {_SIGNERS_MAX}")
    found.unless(len(set(signers)) == len(signers), "team.trusted_signers", signers, "each signer once")
    for number, signer in enumerate(signers):
        name = f"team.trusted_signers[{number}]"
        found.unless(bool(signer.strip()), name, signer, "a public key in PEM, or an identity")
        found.at_most(name, signer, _SIGNER_LENGTH_MAX)


def check_may_change(caller: Identity, current: Team, wanted: TeamTerms) -> None:
    """Raises PERMISSION_DENIED where the caller may not change so much. What stays as it is needs no right."""
    check_team_admin(caller, current.name)
    if not caller.role or caller.role == PLATFORM_ADMIN:
        return
    changed = [name for name in _LIMITS if getattr(current.terms, name) != getattr(wanted, name)]
    if changed:
        raise MeshError(
            Reason.PERMISSION_DENIED,
            f"{' and '.join(changed)} of team {current.name!r} are for operators of the mesh to change; ask one",
            metadata={"role": PLATFORM_ADMIN, "fields": ",".join(changed)},
        )


def changed_terms(current: TeamTerms, sent: TeamTerms, paths: Sequence[str]) -> TeamTerms:
    """`current` with what `paths` name taken from `sent`. A path may name a part, for instance "rate_limit.burst"."""
    terms = current
    for path in paths:
        whole, _, part = path.partition(".")
        value = getattr(sent, whole)
        if part:
            value = replace(getattr(terms, whole), **{part: getattr(value, part)})
        terms = replace(terms, **{whole: value})
    return terms


def team_json(team: Team) -> JsonObject:
    """A team as the audit shows it."""
    return {"name": team.name, "namespace": team.namespace, **cast("JsonObject", asdict(team.terms))}


def team_exists(new: NewTeam, what: str) -> MeshError:
    """TEAM_EXISTS where the name or the namespace is taken."""
    taken = getattr(new, what)
    return MeshError(
        Reason.TEAM_EXISTS, f"the {what} {taken!r} is another team's; choose another one", metadata={what: taken}
    )


def request_reused(request_id: str) -> MeshError:
    """REQUEST_ID_REUSED for an id that stands for another wish."""
    return MeshError(
        Reason.REQUEST_ID_REUSED,
        f"request_id {request_id!r} stands for another wish, or its key was shown; send a new one with a new wish",
    )


def team_in_use(name: str, models: int) -> MeshError:
    """RESOURCE_IN_USE for a team that owns models."""
    return MeshError(
        Reason.RESOURCE_IN_USE,
        f"team {name!r} owns {models} models; transfer or delete them first",
        metadata={"team": name, "models": str(models)},
    )
