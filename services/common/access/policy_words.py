"""Short words for the rules of the table."""

from collections.abc import Mapping
from dataclasses import replace

from services.common.access.roles import Role, Scope
from services.common.access.rule import Access, Rule

MODEL = "model_name"
TEAM = "team_name"
_HOUR_S = 3600.0


def rules(service: str, methods: Mapping[str, Rule]) -> dict[str, Rule]:
    """The rules of a service's methods, by their full names."""
    return {f"/{service}/{method}": rule for method, rule in methods.items()}


def reads(model: str = MODEL, *, optional: bool = False) -> Rule:
    """Reads about a model; with `optional`, about all that the caller sees where none is named."""
    return Rule(
        role=Role.VIEWER, scopes=frozenset({Scope.MODELS_READ}), model=model, optional=optional, by_service=optional
    )


def looks(*scopes: Scope, team: str = "", optional: bool = False) -> Rule:
    """Reads what the service itself filters, or what every caller of the mesh may know."""
    needed = frozenset(scopes or (Scope.MODELS_READ,))
    return Rule(role=Role.VIEWER, scopes=needed, team=team, optional=optional, by_service=not team or optional)


def calls(model: str = MODEL, *scopes: Scope) -> Rule:
    """Asks a model for predictions."""
    return Rule(role=Role.VIEWER, scopes=frozenset(scopes or (Scope.PREDICT,)), access=Access.CALL, model=model)


def writes(scope: Scope, model: str = MODEL, *, role: Role = Role.DEPLOYER, optional: bool = False) -> Rule:
    """Changes a model or what belongs to it."""
    return Rule(role=role, scopes=frozenset({scope}), access=Access.WRITE, model=model, optional=optional)


def changes(scope: Scope, *, role: Role = Role.DEPLOYER) -> Rule:
    """Changes what the service itself knows the owner of: a job, an upload."""
    return Rule(role=role, scopes=frozenset({scope}), access=Access.WRITE, by_service=True)


def administers(team: str = TEAM) -> Rule:
    """Changes a team, its members or keys."""
    return Rule(role=Role.ADMIN, scopes=frozenset({Scope.ADMIN}), access=Access.WRITE, team=team)


def operates(*, access: Access = Access.WRITE, team: str = "") -> Rule:
    """Concerns the mesh as a whole."""
    return Rule(role=Role.PLATFORM_ADMIN, scopes=frozenset({Scope.ADMIN}), access=access, team=team)


def patient(rule: Rule) -> Rule:
    """The same of a call that reads or moves whole artifacts: it may take an hour."""
    return replace(rule, patience_s=_HOUR_S)


def internal() -> Rule:
    """Between services only."""
    return Rule(role=Role.PLATFORM_ADMIN, access=Access.WRITE, internal_only=True)
