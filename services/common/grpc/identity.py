"""Who calls: the headers that the gateway sets after it verified the caller, for the length of one call."""

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass

HEADER_USER = "x-infermesh-user"
HEADER_TEAM = "x-infermesh-team"
HEADER_ROLE = "x-infermesh-role"
HEADER_REQUEST_ID = "x-request-id"


@dataclass(frozen=True, slots=True)
class Identity:
    """The caller. Empty fields: the gateway has no authentication configured, or the call came from inside."""

    user: str = ""
    team: str = ""
    role: str = ""
    request_id: str = ""


_NOBODY = Identity()
_current: ContextVar[Identity] = ContextVar("infermesh_identity", default=_NOBODY)


def current_identity() -> Identity:
    """The caller of the RPC being answered."""
    return _current.get()


def set_identity(headers: Mapping[str, str]) -> Identity:
    """Takes the identity out of a call's metadata and makes it current for this task."""
    identity = Identity(
        user=headers.get(HEADER_USER, ""),
        team=headers.get(HEADER_TEAM, ""),
        role=headers.get(HEADER_ROLE, ""),
        request_id=headers.get(HEADER_REQUEST_ID, ""),
    )
    _current.set(identity)
    return identity


def identity_headers(identity: Identity) -> list[tuple[str, str]]:
    """The headers that hand the identity to the next hop."""
    pairs = (
        (HEADER_USER, identity.user),
        (HEADER_TEAM, identity.team),
        (HEADER_ROLE, identity.role),
        (HEADER_REQUEST_ID, identity.request_id),
    )
    return [(name, value) for name, value in pairs if value]
