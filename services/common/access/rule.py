"""What one RPC asks of its caller."""

from dataclasses import dataclass
from enum import StrEnum

from services.common.access.roles import Role, Scope


class Access(StrEnum):
    """What an RPC does with the model or team that it names."""

    READ = "read"
    """Looks at it: who sees it may."""
    CALL = "call"
    """Asks it for predictions, or says what became of them: who sees it may."""
    WRITE = "write"
    """Changes it: its owner may."""
    CREATE = "create"
    """Makes it: it need not exist, and the service decides what a name means that is taken."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What a caller needs. Callers without a role (inside the mesh, or authentication off) need nothing."""

    role: Role
    """The weakest role that may."""
    scopes: frozenset[Scope] = frozenset()
    """One of these is needed; empty: none."""
    access: Access = Access.READ
    model: str = ""
    """Path of the request's field that names the model, for instance "model.name". Empty: it names none."""
    team: str = ""
    """Path of the request's field that names the team. Empty: it names none, or the service itself looks after it."""
    optional: bool = False
    """The model or team may be left empty: the request is of all that the caller sees, and the service filters."""
    by_service: bool = False
    """What the request names (a job, an alert, an upload) or returns is known to the service alone, and it filters."""
    internal_only: bool = False
    """Between services only: whoever has a role came through the gateway, and is refused."""

    patience_s: float = 30.0
    """How long a call may take whose caller states no deadline: no wait is without end. More for those that read or
    move whole artifacts."""

    @property
    def writes(self) -> bool:
        """Whether it changes anything."""
        return self.access in {Access.WRITE, Access.CREATE}
