"""Tokens by which services of the mesh act in the name of a team. They are signed and not kept."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.common.grpc.identity import PLATFORM_ADMIN
from services.common.names import check_model_name
from services.registry.domain.keys import AUDIENCE, ISSUER, MODELS_MAX, check_scopes
from services.registry.domain.members import check_user
from services.registry.domain.teams import is_team_name
from services.registry.domain.violations import Violations

SERVICE_TOKEN_LIFE = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class ServiceWish:
    """In whose name a service wants to act. `team` "": in an operator's."""

    purpose: str
    team: str
    user: str
    role: str
    scopes: tuple[str, ...]
    models: tuple[str, ...]


def check_service_wish(wish: ServiceWish) -> None:
    """Raises INVALID_FIELD naming all that is wrong."""
    found = Violations()
    found.unless(bool(wish.purpose), "purpose", wish.purpose, "what the token is for")
    found.at_most("purpose", wish.purpose, 256)
    found.unless(not wish.team or is_team_name(wish.team), "team", wish.team, "the name of a team, or empty")
    role = "viewer" if wish.team else PLATFORM_ADMIN
    found.unless(wish.role == role, "role", wish.role, f"{role!r} {'with' if wish.team else 'without'} a team")
    if wish.user:
        check_user(wish.user, found)
    found.unless(bool(wish.scopes), "scopes", wish.scopes, "at least one")
    check_scopes(wish.scopes, found)
    found.unless(len(wish.models) <= MODELS_MAX, "models", len(wish.models), f"at most {MODELS_MAX} models")
    for name in wish.models[:MODELS_MAX]:
        found.check(lambda name=name: check_model_name(name, "models"))  # type: ignore[misc]
    found.raise_if_any()


def service_claims(wish: ServiceWish, *, key_id: str, now: datetime, ends: datetime) -> Mapping[str, object]:
    """What is signed."""
    claims: dict[str, object] = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "jti": key_id,
        "role": wish.role,
        "scope": " ".join(sorted(set(wish.scopes))),
        "iat": int(now.timestamp()),
        "exp": int(ends.timestamp()),
    }
    optional = {"sub": wish.user, "team": wish.team, "models": " ".join(sorted(set(wish.models)))}
    return claims | {name: value for name, value in optional.items() if value}
