"""Members of teams."""

from dataclasses import dataclass
from datetime import datetime

from services.common.errors import MeshError, Reason
from services.registry.domain.access import ROLES, rank
from services.registry.domain.version import JsonObject
from services.registry.domain.violations import Violations

USER_LENGTH_MAX = 256


@dataclass(frozen=True, slots=True)
class Member:
    """A user with a role in a team."""

    team: str
    user: str
    role: str
    created_at: datetime


def check_user(user: str, found: Violations) -> None:
    """Adds what no user is called: names travel in headers, so they are one line of visible text."""
    fits = user.isprintable() and user == user.strip() and 1 <= len(user) <= USER_LENGTH_MAX
    found.unless(fits, "user", user, f"1 to {USER_LENGTH_MAX} printable characters without spaces around them")


def check_role(role: str, found: Violations) -> None:
    """Adds what is no role in a team."""
    found.unless(role in ROLES, "role", role, "one of " + ", ".join(ROLES))


def is_demotion(before: str, after: str) -> bool:
    """Whether tokens that were made with the role `before` could do more than `after` allows; "": no member."""
    return rank(after) < rank(before)


def member_json(member: Member) -> JsonObject:
    """A member as the audit shows it."""
    return {"team": member.team, "user": member.user, "role": member.role}


def no_member(team: str, user: str) -> MeshError:
    """MEMBER_NOT_FOUND."""
    return MeshError(
        Reason.MEMBER_NOT_FOUND,
        f"team {team!r} has no member {user!r}; list its members to see who belongs to it",
        metadata={"team": team, "user": user},
    )
