"""Whether a caller may: pure decisions over a rule, an identity and what is known of the model."""

from dataclasses import dataclass

from services.common.access.roles import Role, role_of, scopes_of
from services.common.access.rule import Access, Rule
from services.common.errors import MeshError, Reason
from services.common.grpc.identity import PLATFORM_ADMIN, Identity


@dataclass(frozen=True, slots=True)
class Standing:
    """Whose a model is, and who else sees it."""

    team: str = ""
    """Empty: nobody's; everybody sees it and operators alone change it."""
    shared_with: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Facts:
    """What a request is about."""

    model: str = ""
    """The model that it names. Empty: none."""
    standing: Standing | None = None
    """Of that model; None: there is none."""
    team: str = ""
    """The team that it names. Empty: none."""


def decide(rule: Rule, identity: Identity, facts: Facts) -> MeshError | None:
    """Why the caller may not; None where they may."""
    return decide_caller(rule, identity, facts) or decide_model(rule, identity, facts)


def decide_caller(rule: Rule, identity: Identity, facts: Facts) -> MeshError | None:
    """The part of `decide` that needs no knowledge of models: role, scope, team, and what a key is limited to."""
    if not identity.role:
        return None
    return (
        _refused_role(rule, identity)
        or _refused_scope(rule, identity)
        or _refused_team(identity, facts)
        or _refused_limit(rule, identity, facts)
    )


def decide_model(rule: Rule, identity: Identity, facts: Facts) -> MeshError | None:
    """The part of `decide` that needs the model's owner and shares."""
    if not identity.role or not facts.model or rule.access is Access.CREATE:
        return None
    standing = facts.standing
    if standing is None or not identity.sees(facts.model, standing.team, standing.shared_with):
        return model_not_found(facts.model)
    if rule.access is Access.WRITE and not identity.owns(facts.model, standing.team):
        return MeshError(
            Reason.PERMISSION_DENIED,
            f"model {facts.model!r} is not your team's: you may read and call it; ask its owner for the change",
            metadata={"model_name": facts.model},
        )
    return None


def model_not_found(name: str) -> MeshError:
    """The one answer to a name that the caller does not see: nobody can tell from it whether there is such a model."""
    return MeshError(
        Reason.MODEL_NOT_FOUND,
        f"no model {name!r} is registered; list the models to see their names",
        metadata={"model_name": name},
    )


def team_not_found(name: str) -> MeshError:
    """The one answer to a team that the caller does not belong to."""
    return MeshError(
        Reason.TEAM_NOT_FOUND,
        f"there is no team {name!r}; list the teams to see their names",
        metadata={"team_name": name},
    )


def unauthenticated() -> MeshError:
    """The one answer to who has no credential that counts."""
    return MeshError(
        Reason.UNAUTHENTICATED, "no valid API key or token came with the call; send it as authorization: Bearer KEY"
    )


def internal_method() -> MeshError:
    """The one answer to who calls what is between services only."""
    return MeshError(Reason.PERMISSION_DENIED, "this method is between services only")


def _refused_role(rule: Rule, identity: Identity) -> MeshError | None:
    if rule.internal_only:
        return internal_method()
    role = role_of(identity)
    if role >= rule.role:
        return None
    if role is Role.ANONYMOUS:
        return unauthenticated()
    if role is Role.USER:
        return MeshError(
            Reason.PERMISSION_DENIED,
            "your token names no team; exchange it for a key of one of your teams (POST /v1/teams/{team_name}/tokens)",
            metadata={"role_needed": rule.role.word},
        )
    return MeshError(
        Reason.PERMISSION_DENIED,
        f"your role is {role.word}; this takes {rule.role.word} or more",
        metadata={"role": role.word, "role_needed": rule.role.word},
    )


def _refused_scope(rule: Rule, identity: Identity) -> MeshError | None:
    if not rule.scopes or rule.scopes & scopes_of(identity):
        return None
    needed = " or ".join(sorted(rule.scopes))
    return MeshError(
        Reason.PERMISSION_DENIED, f"this key's scopes do not include {needed}", metadata={"scope_needed": needed}
    )


def _refused_team(identity: Identity, facts: Facts) -> MeshError | None:
    if not facts.team or identity.role == PLATFORM_ADMIN or facts.team == identity.team:
        return None
    return team_not_found(facts.team)


def _refused_limit(rule: Rule, identity: Identity, facts: Facts) -> MeshError | None:
    """Keys that are limited to models change nothing but these; others of everybody, only operators do."""
    if not rule.writes:
        return None
    if identity.models and not rule.by_service and facts.model not in identity.models:
        if facts.model and rule.access is Access.WRITE:
            return None  # what the key does not touch is as absent, which the look at the model says
        return MeshError(
            Reason.PERMISSION_DENIED,
            "this key is limited to some models, and this touches more than these",
            metadata={"models": " ".join(sorted(identity.models))[:256]},
        )
    if rule.model and rule.optional and not (facts.model or rule.by_service or identity.unbounded):
        return MeshError(
            Reason.PERMISSION_DENIED, f"what holds for all models is for platform admins; name one in {rule.model}"
        )
    return None
