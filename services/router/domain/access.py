"""Who may call and whose models are, by the registry's last word; and the steps from one word to the next."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import jwt


@dataclass(frozen=True, slots=True)
class Callers:
    """What gateways must know to tell callers apart."""

    revision: str = ""
    key_set: str = ""
    """The public keys that API keys are signed with: a JSON Web Key Set."""
    revoked: tuple[str, ...] = ()
    """Ids of keys that are refused though their signature is good."""
    stated: bytes = b""
    """All that the registry said beside models, in the form in which it travels: teams and limits too. What it and the
    gateways' filters agree on can so grow without the rest of the router."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a model is."""

    team: str = ""
    """Empty: nobody's, and for everybody."""
    shared_with: tuple[str, ...] = ()
    """Teams that may call it too, in alphabetical order."""


NOBODYS = Owner()

_ASYMMETRIC = ("EC", "RSA", "OKP")

Owners = Mapping[str, Owner]


@dataclass(frozen=True, slots=True)
class AccessUpdate:
    """One message of the registry."""

    callers: Callers
    full: bool
    """True: `models` is all there is."""
    models: Owners = field(default_factory=dict)
    removed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Access:
    """All of it. A value: a later one replaces it."""

    callers: Callers
    owners: Owners = field(default_factory=dict)


def updated(known: Access | None, update: AccessUpdate) -> Access:
    """What holds after `update`. A key set that nobody could verify a key by leaves the one before in force, and all
    else is taken: revocations do not wait for it."""
    callers = update.callers
    if known is not None and not is_key_set(callers.key_set):
        callers = replace(callers, key_set=known.callers.key_set)
    before = known.owners if known is not None and not update.full else {}
    gone = frozenset(update.removed)
    owners = {**{name: owner for name, owner in before.items() if name not in gone}, **update.models}
    return Access(callers, owners)


def changed_owners(before: Owners, after: Owners) -> frozenset[str]:
    """The models that have another owner, are shared otherwise, came or went."""
    return frozenset(name for name in {*before, *after} if before.get(name) != after.get(name))


def is_key_set(text: str) -> bool:
    """Whether it is a JSON Web Key Set by which something could be verified: with at least one public key."""
    try:
        found = json.loads(text)
    except ValueError:
        return False
    keys = found.get("keys") if isinstance(found, dict) else None
    return isinstance(keys, list) and any(isinstance(key, dict) and _is_public_key(key) for key in keys)


def _is_public_key(key: dict[str, object]) -> bool:
    if key.get("kty") not in _ASYMMETRIC:
        return False
    try:
        jwt.PyJWK.from_dict(key)
    except (jwt.PyJWTError, ValueError, TypeError):
        return False
    return True
