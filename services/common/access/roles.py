"""Roles and scopes: what a caller may do at most, and what a key narrows it to."""

from collections.abc import Mapping
from enum import IntEnum, StrEnum
from types import MappingProxyType

from services.common.grpc.identity import PLATFORM_ADMIN, Identity


class Role(IntEnum):
    """From the weakest to the strongest: each may do all that the ones before it may."""

    ANONYMOUS = 0
    """Nobody that a credential speaks for."""
    USER = 1
    """A user without a team: may find out who they are and get a key of a team."""
    VIEWER = 2
    DEPLOYER = 3
    ADMIN = 4
    PLATFORM_ADMIN = 5

    @property
    def word(self) -> str:
        """As keys and errors write it."""
        return self.name.lower().replace("_", "-")


class Scope(StrEnum):
    """What a key may be narrowed to."""

    PREDICT = "predict"
    MODELS_READ = "models.read"
    MODELS_WRITE = "models.write"
    DEPLOYMENTS_WRITE = "deployments.write"
    TRAFFIC_WRITE = "traffic.write"
    BATCH = "batch"
    ADMIN = "admin"


_VIEWER = frozenset({Scope.PREDICT, Scope.MODELS_READ})
_DEPLOYER = _VIEWER | {Scope.MODELS_WRITE, Scope.DEPLOYMENTS_WRITE, Scope.TRAFFIC_WRITE, Scope.BATCH}
_EVERY = frozenset(Scope)

ROLE_SCOPES: Mapping[Role, frozenset[Scope]] = MappingProxyType(
    {
        Role.ANONYMOUS: frozenset(),
        Role.USER: frozenset(),
        Role.VIEWER: _VIEWER,
        Role.DEPLOYER: _DEPLOYER,
        Role.ADMIN: _EVERY,
        Role.PLATFORM_ADMIN: _EVERY,
    }
)
"""The scopes that each role has."""

_TEAM_ROLES: Mapping[str, Role] = MappingProxyType(
    {role.word: role for role in (Role.VIEWER, Role.DEPLOYER, Role.ADMIN)}
)


def role_of(identity: Identity) -> Role:
    """The role of a caller that states one. Words that are no role, and roles in no team, count for nothing."""
    if identity.role == PLATFORM_ADMIN:
        return Role.PLATFORM_ADMIN
    role = _TEAM_ROLES.get(identity.role)
    if role is not None and identity.team:
        return role
    return Role.USER if identity.user else Role.ANONYMOUS


def scopes_of(identity: Identity) -> frozenset[Scope]:
    """What a caller may do: what the role allows, narrowed to what the key names.

    Who may change something may read it: every scope but "predict" brings "models.read" along. A word that is no scope
    allows nothing, so a key with such words alone may do nothing.
    """
    allowed = ROLE_SCOPES[role_of(identity)]
    if not identity.scopes:
        return allowed
    named = {scope for scope in Scope if scope.value in identity.scopes}
    if named - {Scope.PREDICT}:
        named.add(Scope.MODELS_READ)
    return allowed & named
