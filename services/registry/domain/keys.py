"""API keys as values: what may be asked for, what is signed, and what ends a key."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from services.common.errors import MeshError, Reason
from services.common.grpc.identity import PLATFORM_ADMIN, Identity
from services.common.names import check_model_name
from services.registry.domain.access import ROLES, SCOPES, rank
from services.registry.domain.quotas import RateLimit, check_rate_limit
from services.registry.domain.version import JsonObject
from services.registry.domain.violations import Violations

ISSUER = AUDIENCE = "infermesh"
TOKEN_LIFE = timedelta(hours=1)
KEYS_MAX = 10_000
"""Keys of a team that have not come to their end, revoked ones among them, and tokens of one member: gateways are told
of all that are revoked until they would have ended, so nobody may have them without bound."""
NAME_LENGTH_MAX = 128
MODELS_MAX = 50
"""Names of models travel in every request, inside the key and in a header. More would outgrow what servers take."""


class Kind(StrEnum):
    """Whom a key is for."""

    KEY = "key"
    """A program of a team."""
    TOKEN = "token"  # noqa: S105 - no secret
    """A member of a team, for an hour."""
    OPERATOR = "operator"
    """An operator of the mesh."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """A key about to be made. `team` "": an operator's; `expires_at` None: never."""

    key_id: str
    kind: Kind
    team: str
    name: str
    role: str
    scopes: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    rate_limit: RateLimit | None = None
    user: str = ""
    expires_at: datetime | None = None
    created_by: str = ""
    created_at: datetime
    signed_by: str
    """The `kid` of the signing key."""
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key, without its secret. `number` grows with every key."""

    key_id: str
    kind: Kind
    team: str
    name: str
    role: str
    scopes: tuple[str, ...]
    models: tuple[str, ...]
    rate_limit: RateLimit | None
    user: str
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None
    created_by: str
    created_at: datetime
    number: int


@dataclass(frozen=True, slots=True)
class KeyWish:
    """What a caller asks of a new key."""

    team: str
    name: str
    role: str
    scopes: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    rate_limit: RateLimit | None = None
    expires_at: datetime | None = None
    request_id: str = ""


def check_wish(wish: KeyWish, *, now: datetime) -> None:
    """Raises INVALID_FIELD naming all that is wrong."""
    found = Violations()
    check_key_name(wish.name, found)
    found.unless(wish.role in ROLES, "role", wish.role, "one of " + ", ".join(ROLES))
    check_scopes(wish.scopes, found)
    found.unless(len(wish.models) <= MODELS_MAX, "models", len(wish.models), f"at most {MODELS_MAX} models")
    for name in wish.models[:MODELS_MAX]:
        found.check(lambda name=name: check_model_name(name, "models"))  # type: ignore[misc]
    if wish.rate_limit is not None:
        check_rate_limit(wish.rate_limit, found)
    check_expiry(wish.expires_at, found, now=now)
    found.at_most("request_id", wish.request_id, 128)
    found.raise_if_any()


def check_key_name(name: str, found: Violations) -> None:
    """Adds a name that says nothing or too much."""
    fits = name.isprintable() and bool(name.strip()) and len(name) <= NAME_LENGTH_MAX
    found.unless(fits, "name", name, f"1 to {NAME_LENGTH_MAX} printable characters that say what the key is for")


def check_scopes(scopes: tuple[str, ...], found: Violations) -> None:
    """Adds every scope that is none."""
    for scope in scopes:
        found.unless(scope in SCOPES, "scopes", scope, "any of " + ", ".join(SCOPES))


def check_expiry(expires_at: datetime | None, found: Violations, *, now: datetime) -> None:
    """Adds an end that is past already, or later than clocks go."""
    fits = expires_at is None or (expires_at > now and expires_at.year < 9999)
    found.unless(fits, "expires_at", expires_at and expires_at.isoformat(), f"a moment after now ({now.isoformat()})")


def check_not_above(caller: Identity, wish: KeyWish) -> None:
    """Raises PERMISSION_DENIED where the new key could do what the key that makes it cannot."""
    if not caller.role:
        return
    above = [
        name
        for name, exceeds in (
            ("role", rank(wish.role) > rank(caller.role)),
            ("scopes", bool(caller.scopes) and not set(wish.scopes or SCOPES) <= caller.scopes),
            ("models", bool(caller.models) and (not wish.models or not set(wish.models) <= caller.models)),
        )
        if exceeds
    ]
    if above:
        raise MeshError(
            Reason.PERMISSION_DENIED,
            f"{' and '.join(above)} of the new key would be more than your own; ask for no more than you have",
            metadata={"fields": ",".join(above)},
        )


def claims_of(key: NewKey) -> Mapping[str, object]:
    """What is signed. Times are whole seconds, as JWTs have them; an absent claim limits nothing."""
    claims: dict[str, object] = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "jti": key.key_id,
        "role": key.role,
        "iat": int(key.created_at.timestamp()),
    }
    optional: Mapping[str, object] = {
        "sub": key.user,
        "team": key.team,
        "scope": " ".join(key.scopes),
        "models": " ".join(key.models),
        "exp": int(key.expires_at.timestamp()) if key.expires_at is not None else 0,
    }
    return claims | {name: value for name, value in optional.items() if value}


def whole_seconds(moment: datetime | None) -> datetime | None:
    """The moment as a JWT keeps it."""
    return moment.replace(microsecond=0) if moment is not None else None


def key_json(key: ApiKey) -> JsonObject:
    """A key as the audit shows it; there is no secret in it."""
    limit = key.rate_limit
    return {
        "key_id": key.key_id,
        "kind": str(key.kind),
        "team": key.team,
        "name": key.name,
        "role": key.role,
        "scopes": list(key.scopes),
        "models": list(key.models),
        "rate_limit": {"requests_per_sec": limit.requests_per_sec, "burst": limit.burst} if limit else None,
        "user": key.user,
        "expires_at": key.expires_at.isoformat() if key.expires_at is not None else None,
        "revoked_at": key.revoked_at.isoformat() if key.revoked_at is not None else None,
    }


def operator_wish(name: str) -> KeyWish:
    """What an operator's key is."""
    return KeyWish(team="", name=name, role=PLATFORM_ADMIN)


def too_many_keys(new: NewKey, most: int) -> MeshError:
    """QUOTA_EXCEEDED for a key beyond those that a team may have."""
    whose = f"{new.user!r} has {most} tokens of team" if new.kind is Kind.TOKEN else f"there are {most} keys of team"
    return MeshError(
        Reason.QUOTA_EXCEEDED,
        f"{whose} {new.team!r} that have not ended yet, revoked ones counted, which is the most; make keys with an end",
        metadata={"team": new.team, "limit": "api_keys", "value": str(most), "used": str(most)},
    )


def no_key(team: str, key_id: str) -> MeshError:
    """KEY_NOT_FOUND."""
    return MeshError(
        Reason.KEY_NOT_FOUND,
        f"{f'team {team!r} has' if team else 'operators have'} no key {key_id!r}; list the keys to see their ids",
        metadata={"team": team, "key_id": key_id},
    )
