"""The key by which the replicas of a team fetch, and when a team needs another one.

A key can only be read by who makes it, so the cluster's Secret is the one place that has it. Beside it stands which key
it is, so that whoever is the operator next can tell whether it will do.
"""

import base64
import binascii
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from services.common.body import Body, text
from services.operator.domain.manifests.parts import Manifest
from services.operator.domain.manifests.team import Team, team_metadata
from services.operator.domain.names import API_KEY, AUTHORITIES, FETCH_SECRET, GROUP, TEAM, label_value
from services.operator.domain.observed import moment, written_moment

KEY_ID = f"{GROUP}/key-id"
KEY_ENDS_AT = f"{GROUP}/key-ends-at"
KEY_DIGEST = f"{GROUP}/key-digest"
_MADE_MAX, _MADE_WITHIN_S = 5, 3600.0


@dataclass(frozen=True, slots=True)
class FetchKey:
    """A key that can only read."""

    key_id: str
    """Names it; not secret."""
    secret: str = field(repr=False)
    ends_at: datetime


def secret_manifest(team: Team, key: FetchKey, *, authorities: str = "") -> Manifest:
    """The Secret of a team's namespace. `authorities`: whose certificates of gateways its replicas believe, in PEM;
    that is no secret, and here because pods can only mount what is in their namespace."""
    data = {API_KEY: _encoded(key.secret)} | ({AUTHORITIES: _encoded(authorities)} if authorities else {})
    told = {KEY_ID: key.key_id, KEY_ENDS_AT: written_moment(key.ends_at), KEY_DIGEST: _digest(key.secret)}
    metadata = {**team_metadata(team, FETCH_SECRET), "annotations": told}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": data}


def key_in(secret: Body | None, team: Team) -> FetchKey | None:
    """The key that a Secret has; None where it has none, or not the one that was put there for this team."""
    ends_at = moment(text(secret, "metadata", "annotations", KEY_ENDS_AT))
    try:
        key = base64.b64decode(text(secret, "data", API_KEY), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
    if ends_at is None or ends_at.tzinfo is None or not key:
        return None
    put = {
        KEY_DIGEST: text(secret, "metadata", "annotations", KEY_DIGEST),
        TEAM: text(secret, "metadata", "labels", TEAM),
    }
    if put != {KEY_DIGEST: _digest(key), TEAM: label_value(team.name)}:
        return None
    return FetchKey(text(secret, "metadata", "annotations", KEY_ID), key, ends_at)


def why_another(key: FetchKey | None, *, now: datetime, life: timedelta, revoked: Callable[[str], bool]) -> str:
    """Why a team needs another key than the one that its Secret has; empty: that one will do. Keys are renewed after
    half of their `life`, so that a registry that is away has the other half to come back."""
    if key is None:
        return "its namespace has none"
    if revoked(key.key_id):
        return "the one before was revoked"
    return "the one before ends soon" if key.ends_at - now < life / 2 else ""


def may_make(made_at_s: Sequence[float], now_s: float) -> bool:
    """Whether a team may get another key now. What keeps deleting the Secret would else use up the keys that a team may
    have, since they count until they end. Seconds of any monotonic clock, of those that were made before."""
    return sum(now_s - at_s < _MADE_WITHIN_S for at_s in made_at_s) < _MADE_MAX


def _encoded(value: str) -> str:
    return base64.b64encode(value.encode()).decode()


def _digest(key: str) -> str:
    """Tells keys apart and gives none away: they are signed, so that nobody guesses one."""
    return hashlib.sha256(key.encode()).hexdigest()[:20]
