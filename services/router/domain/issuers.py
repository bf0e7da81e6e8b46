"""Who beside the mesh itself vouches for callers: OpenID Connect issuers, as an operator writes them down."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from services.common.errors import invalid
from services.router.domain.access import is_key_set

MESH_ISSUER = "infermesh"
"""Who issues API keys, and whom they are meant for."""

ISSUERS_MAX = 16
"""Each token is held against all of them."""
_TEXT_MAX = 2048
_AUDIENCES_MAX = 16
_CLAIM = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/-]{0,127}")
_FIELD = "oidc_issuers"
CA_FILE_DEFAULT = "/etc/ssl/certs/ca-certificates.crt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """One issuer."""

    issuer: str
    """As its tokens have it in `iss`."""
    audiences: tuple[str, ...]
    """Of which a token must name one: what it issues for others is not for us."""
    jwks_uri: str = ""
    """Where the gateway fetches its public keys. Empty: `jwks` or `jwks_file` has them."""
    jwks: str = ""
    """A JSON Web Key Set."""
    jwks_file: str = ""
    """A file with one, as the router sees it; read at its start."""
    user_claim: str = "sub"
    team_claim: str = ""
    """Empty: its tokens say nothing of teams. The user exchanges the token for a key of a team."""
    role_claim: str = ""
    """Empty: its tokens say nothing of roles."""
    ca_file: str = CA_FILE_DEFAULT
    """Whose certificates are believed where the keys are fetched over TLS: a PEM file, as the gateway sees it."""

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host and port of `jwks_uri`."""
        parts = urlsplit(self.jwks_uri)
        return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def issuers_from_json(text: str) -> tuple[Issuer, ...]:
    """Reads a JSON list of objects; none where `text` is empty. Raises INVALID_FIELD naming the place."""
    if not text.strip():
        return ()
    try:
        found = json.loads(text)
    except ValueError as error:
        raise invalid(_FIELD, text, f"a JSON list of objects; it is no JSON: {error}") from None
    if not isinstance(found, list) or len(found) > ISSUERS_MAX:
        raise invalid(_FIELD, text, f"a JSON list of at most {ISSUERS_MAX} objects")
    issuers = tuple(_issuer(f"{_FIELD}[{place}]", one) for place, one in enumerate(found))
    for place, one in enumerate(issuers):
        if any(one.issuer == other.issuer for other in issuers[:place]):
            raise invalid(f"{_FIELD}[{place}].issuer", one.issuer, "each issuer once")
    return issuers


def _issuer(place: str, told: object) -> Issuer:
    if not isinstance(told, dict):
        raise invalid(place, told, "an object with issuer, audiences, and jwks_uri or jwks")
    allowed = ("issuer", "audiences", "jwks_uri", "jwks", "user_claim", "team_claim", "role_claim", "ca_file")
    for name in told:
        if name not in allowed:
            raise invalid(f"{place}.{name}", told[name], f"no such field; there are {', '.join(allowed)}")
    issuer = _text(place, told, "issuer")
    if not issuer or issuer == MESH_ISSUER:
        raise invalid(f"{place}.issuer", issuer, f"what its tokens have in iss; not {MESH_ISSUER}, which is the mesh")
    keys = _keys(place, told)
    return Issuer(
        issuer=issuer,
        audiences=_audiences(place, told),
        user_claim=_claim(place, told, "user_claim", default="sub", needed=True),
        team_claim=_claim(place, told, "team_claim"),
        role_claim=_claim(place, told, "role_claim"),
        ca_file=_text(place, told, "ca_file", default=CA_FILE_DEFAULT) or CA_FILE_DEFAULT,
        **keys,
    )


def _keys(place: str, told: Mapping[str, object]) -> dict[str, str]:
    """Where its keys come from: one field of `Issuer`."""
    uri, jwks = _text(place, told, "jwks_uri"), told.get("jwks")
    if bool(uri) == bool(jwks):
        raise invalid(f"{place}.jwks_uri", uri, "an http or https URI, or else jwks: exactly one of the two")
    if uri:
        if not _is_uri(uri):
            raise invalid(f"{place}.jwks_uri", uri, "an http or https URI with a host, without user and fragment")
        return {"jwks_uri": uri}
    if isinstance(jwks, str):
        return {"jwks_file": _text(place, told, "jwks")}
    inline = json.dumps(jwks)
    if not is_key_set(inline):
        raise invalid(f"{place}.jwks", jwks, "a JSON Web Key Set with at least one key, or the path of a file with one")
    return {"jwks": inline}


def _audiences(place: str, told: Mapping[str, object]) -> tuple[str, ...]:
    found = told.get("audiences")
    audiences = (found,) if isinstance(found, str) else found
    if (
        not isinstance(audiences, list | tuple)
        or not 0 < len(audiences) <= _AUDIENCES_MAX
        or not all(isinstance(one, str) and 0 < len(one) <= _TEXT_MAX for one in audiences)
    ):
        raise invalid(
            f"{place}.audiences", found, f"1 to {_AUDIENCES_MAX} texts: what tokens for this mesh have in aud"
        )
    return tuple(audiences)


def _claim(place: str, told: Mapping[str, object], name: str, *, default: str = "", needed: bool = False) -> str:
    claim = _text(place, told, name, default=default)
    if (claim or needed) and not _CLAIM.fullmatch(claim):
        raise invalid(f"{place}.{name}", claim, "the name of a claim; dots lead into nested ones")
    return claim


def _text(place: str, told: Mapping[str, object], name: str, *, default: str = "") -> str:
    value = told.get(name, default)
    if not isinstance(value, str) or len(value) > _TEXT_MAX:
        raise invalid(f"{place}.{name}", value, f"a text of at most {_TEXT_MAX} characters")
    return value


def _is_uri(text: str) -> bool:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    return (
        parts.scheme in ("http", "https")
        and bool(parts.hostname)
        and port != 0
        and not parts.username
        and not parts.fragment
        and text.isascii()
        and text.isprintable()
        and " " not in text
    )
