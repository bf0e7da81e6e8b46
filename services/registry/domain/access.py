"""Who may do what with teams and keys, and whose eyes look at models. Pure decisions about a caller's identity."""

from collections.abc import Iterable
from dataclasses import dataclass

from services.common.errors import MeshError, Reason
from services.common.grpc.identity import ANONYMOUS, PLATFORM_ADMIN, Identity

ROLES = ("viewer", "deployer", "admin")
"""The roles in a team, each with all rights of those before it."""
SCOPES = ("predict", "models.read", "models.write", "deployments.write", "traffic.write", "batch", "admin")
"""What a key may be narrowed to."""
EVERYBODY = ""
"""The viewer who sees all."""
NOBODY = "-"
"""The viewer who sees nothing: no team is called so."""
_ANY_TEAM = "*"


@dataclass(frozen=True, slots=True)
class Author:
    """Who changes something, for the audit."""

    actor: str = ""
    team: str = ""
    request_id: str = ""


def author_of(caller: Identity) -> Author:
    """The author of what the caller changes."""
    return Author(caller.actor, caller.team, caller.request_id)


def rank(role: str) -> int:
    """How much a role may: 0 for none, rising from "viewer" to "platform-admin"."""
    return (*ROLES, PLATFORM_ADMIN).index(role) + 1 if role in (*ROLES, PLATFORM_ADMIN) else 0


def viewer_of(caller: Identity) -> str:
    """Whose eyes look at models, as one text that queries take: EVERYBODY, NOBODY, or words.

    The first word is a team ("*" for all of them); words behind it are the models that the key is limited to.
    """
    if caller.unbounded:
        return EVERYBODY
    team = _ANY_TEAM if caller.role in ("", PLATFORM_ADMIN) else caller.team
    if caller.role == ANONYMOUS or not team:
        return NOBODY
    return " ".join((team, *sorted(caller.models)))


def is_seen(viewer: str, model_name: str, team: str, shared_with: Iterable[str]) -> bool:
    """What the queries' visibility clause decides, for a model of `team` ("" for none)."""
    if viewer == EVERYBODY:
        return True
    if viewer == NOBODY:
        return False
    own, *models = viewer.split(" ")
    if models and model_name not in models:
        return False
    return not team or own in (_ANY_TEAM, team, *shared_with)


def sees_team(caller: Identity, team: str) -> bool:
    """Whether a team is there for the caller at all."""
    return not caller.role or caller.role == PLATFORM_ADMIN or (caller.role != ANONYMOUS and caller.team == team)


def check_sees_team(caller: Identity, team: str) -> None:
    """Raises TEAM_NOT_FOUND, as if it were not there, for a team that the caller is not in."""
    if not sees_team(caller, team):
        raise no_team(team)


def check_team_admin(caller: Identity, team: str) -> None:
    """Raises TEAM_NOT_FOUND to strangers, and PERMISSION_DENIED to those who may not manage the team."""
    check_sees_team(caller, team)
    if not caller.role:
        return
    if rank(caller.role) < rank("admin"):
        raise _denied("admin", caller)
    _check_scope(caller)


def check_platform_admin(caller: Identity) -> None:
    """Raises PERMISSION_DENIED for all but the mesh's operators."""
    if not caller.role:
        return
    if caller.role != PLATFORM_ADMIN:
        raise _denied(PLATFORM_ADMIN, caller)
    _check_scope(caller)


def check_inside(caller: Identity) -> None:
    """Raises PERMISSION_DENIED for whoever came through the gateway."""
    if caller.role:
        raise MeshError(Reason.PERMISSION_DENIED, "this method is between services only")


def check_owns(caller: Identity, model_name: str, team: str) -> None:
    """Raises PERMISSION_DENIED where the caller sees a model of `team` but may not change it."""
    if not caller.owns(model_name, team):
        raise MeshError(
            Reason.PERMISSION_DENIED,
            f"model {model_name!r} is not your team's: it may be read and called, but only its owners change it",
            metadata={"model_name": model_name},
        )


def check_model_admin(caller: Identity, model_name: str, team: str) -> None:
    """Raises PERMISSION_DENIED for all but the admins of the team that owns a model, and the mesh's operators."""
    check_owns(caller, model_name, team)
    if not caller.role:
        return
    if rank(caller.role) < rank("admin"):
        raise _denied("admin", caller)
    _check_scope(caller)


def no_team(name: str) -> MeshError:
    """TEAM_NOT_FOUND for a name, the same whether there is none or it is none of the caller's business."""
    return MeshError(
        Reason.TEAM_NOT_FOUND,
        f"there is no team {name!r}; list the teams to see their names",
        metadata={"team_name": name},
    )


def _check_scope(caller: Identity) -> None:
    if caller.scopes and "admin" not in caller.scopes:
        raise MeshError(
            Reason.PERMISSION_DENIED,
            f"this key may do {', '.join(sorted(caller.scopes))}; the call needs the scope admin",
            metadata={"scope": "admin"},
        )


def _denied(role: str, caller: Identity) -> MeshError:
    return MeshError(
        Reason.PERMISSION_DENIED,
        f"the call needs the role {role}, yours is {caller.role}; ask an admin of your team or an operator of the mesh",
        metadata={"role": role},
    )


@dataclass(frozen=True, slots=True)
class ModelAccess:
    """Whose a model is ("": nobody's), and which teams may read and call it beside, in alphabetical order."""

    team: str = ""
    shared_with: tuple[str, ...] = ()
