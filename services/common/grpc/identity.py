"""Who calls: the headers that the gateway sets after it verified the caller, for the length of one call.

With authentication on, the gateway writes the role `anonymous` into every request before it looks at credentials, and
overwrites it with what these say. So an empty role means one of two things: authentication is off, or the call comes
from inside the mesh and not through the gateway. Both may do everything; whoever can reach a service past the gateway
is kept out by the network and by mutual TLS, not here.
"""

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass

HEADER_USER = "x-infermesh-user"
HEADER_TEAM = "x-infermesh-team"
HEADER_ROLE = "x-infermesh-role"
HEADER_KEY = "x-infermesh-key"
HEADER_SCOPES = "x-infermesh-scopes"
HEADER_MODELS = "x-infermesh-models"
HEADER_REQUEST_ID = "x-request-id"

CLAIM_HEADERS: Mapping[str, str] = {
    "sub": HEADER_USER,
    "team": HEADER_TEAM,
    "role": HEADER_ROLE,
    "jti": HEADER_KEY,
    "scope": HEADER_SCOPES,
    "models": HEADER_MODELS,
}
"""The claims of the mesh's own keys, and where the gateway writes them. Lists are words with spaces between."""

ANONYMOUS = "anonymous"
"""The role of callers without a credential that says one, where authentication is on."""
PLATFORM_ADMIN = "platform-admin"
"""The role of the mesh's operators, in no team and above all of them."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The caller. All empty: authentication is off, or the call came from inside."""

    user: str = ""
    team: str = ""
    role: str = ""
    """"viewer", "deployer", "admin", "platform-admin", "anonymous", or empty: see the module."""
    request_id: str = ""
    key_id: str = ""
    """Of the API key. Empty: a user's own token."""
    scopes: frozenset[str] = frozenset()
    """What the key may do; empty: all that the role allows."""
    models: frozenset[str] = frozenset()
    """The models that the key may touch; empty: all of the team."""

    @property
    def unbounded(self) -> bool:
        """Whether it may see and do everything: an operator, the mesh itself, anybody while authentication is off."""
        return not self.role or (self.role == PLATFORM_ADMIN and not self.models)

    def owns(self, model_name: str, team: str) -> bool:
        """Whether a model that is `team`'s is the caller's own; one without a team is nobody's but an operator's."""
        return self._touches(model_name) and (
            not self.role or self.role == PLATFORM_ADMIN or (bool(team) and team == self.team)
        )

    def sees(self, model_name: str, team: str, shared_with: frozenset[str] | tuple[str, ...] = ()) -> bool:
        """Whether the caller may read and call a model: its own, one that is shared with it, or one without a team."""
        if not self._touches(model_name):
            return False
        if not self.role or self.role == PLATFORM_ADMIN:
            return True
        return self.role != ANONYMOUS and (
            not team or team == self.team or (bool(self.team) and self.team in shared_with)
        )

    @property
    def actor(self) -> str:
        """Who it was, for histories and audits: the user, else the key."""
        return self.user or (f"key:{self.key_id}" if self.key_id else "")

    def _touches(self, model_name: str) -> bool:
        return not self.models or model_name in self.models


_NOBODY = Identity()
_current: ContextVar[Identity] = ContextVar("infermesh_identity", default=_NOBODY)


def current_identity() -> Identity:
    """The caller of the RPC being answered."""
    return _current.get()


def identity_of(headers: Mapping[str, str]) -> Identity:
    """The identity that a call's metadata states."""
    return Identity(
        user=headers.get(HEADER_USER, ""),
        team=headers.get(HEADER_TEAM, ""),
        role=headers.get(HEADER_ROLE, ""),
        request_id=headers.get(HEADER_REQUEST_ID, ""),
        key_id=headers.get(HEADER_KEY, ""),
        scopes=frozenset(headers.get(HEADER_SCOPES, "").split()),
        models=frozenset(headers.get(HEADER_MODELS, "").split()),
    )


def set_identity(headers: Mapping[str, str]) -> Identity:
    """Takes the identity out of a call's metadata and makes it current for this task."""
    identity = identity_of(headers)
    _current.set(identity)
    return identity


def act_as(identity: Identity) -> None:
    """Makes an identity current for this task: for work in the name of who asked for it earlier."""
    _current.set(identity)


def identity_headers(identity: Identity) -> list[tuple[str, str]]:
    """The headers that hand the identity to the next hop."""
    pairs = (
        (HEADER_USER, identity.user),
        (HEADER_TEAM, identity.team),
        (HEADER_ROLE, identity.role),
        (HEADER_REQUEST_ID, identity.request_id),
        (HEADER_KEY, identity.key_id),
        (HEADER_SCOPES, " ".join(sorted(identity.scopes))),
        (HEADER_MODELS, " ".join(sorted(identity.models))),
    )
    return [(name, value) for name, value in pairs if value]
