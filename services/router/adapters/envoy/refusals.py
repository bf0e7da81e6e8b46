"""What callers are told whom the gateway does not let in: what was wrong with their credential and what to do.

Envoy says why in the details of its answer, each filter in words of its own. Here each of these has a sentence for
people and a status; `replies` gives it the caller's own shape. What a caller has sent is in none of them.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from meshxds.envoy.config.accesslog.v3 import accesslog_pb2
from meshxds.envoy.extensions.access_loggers.filters.cel.v3 import cel_pb2

from services.common.errors import CATALOGUE, DOMAIN, Reason
from services.router.adapters.envoy import admission, limits
from services.router.adapters.envoy.messages import packed

_STATUS = {
    Reason.UNAUTHENTICATED: 401,
    Reason.PERMISSION_DENIED: 403,
    Reason.QUOTA_EXCEEDED: 429,
    Reason.DEPENDENCY_UNAVAILABLE: 503,
}
_SEND = "send an API key, or a token of an issuer that this mesh trusts, as `authorization: Bearer …`"


@dataclass(frozen=True, slots=True)
class Refusal:
    """One reason, and how it is said."""

    status: int
    """What Envoy answers with."""
    detail: str
    """A part of what Envoy says in the details of its answer; empty: anything."""
    message: str
    reason: Reason = Reason.UNAUTHENTICATED
    limit: str = ""
    """The limit that was reached, for the details; empty: none was."""

    @property
    def said_as(self) -> int:
        """The HTTP status that callers get."""
        return _STATUS[self.reason]

    @property
    def challenge(self) -> str:
        """The header `www-authenticate` that belongs to it (RFC 6750); empty: none does."""
        if self.reason is not Reason.UNAUTHENTICATED:
            return ""
        return "Bearer" if self.detail == _MISSING else 'Bearer error="invalid_token"'

    @property
    def details(self) -> str:
        """The header `grpc-status-details-bin`."""
        info = any_pb2.Any()
        metadata = {"limit": self.limit} if self.limit else {}
        info.Pack(error_details_pb2.ErrorInfo(reason=self.reason.value, domain=DOMAIN, metadata=metadata))
        status = status_pb2.Status(code=int(CATALOGUE[self.reason]), message=self.message, details=[info])
        return base64.b64encode(status.SerializeToString(deterministic=True)).decode().rstrip("=")

    def holds(self) -> Sequence[accesslog_pb2.AccessLogFilter]:
        """What must be so beside the status for this to be it."""
        if not self.detail:
            return ()
        asked = cel_pb2.ExpressionFilter(expression=f"response.code_details.contains('{self.detail}')")
        extension = accesslog_pb2.ExtensionFilter(
            name="envoy.access_loggers.extension_filters.cel", typed_config=packed(asked)
        )
        return (accesslog_pb2.AccessLogFilter(extension_filter=extension),)


_MISSING = "Jwt_is_missing"
_SLOWER = "x-ratelimit-limit and x-ratelimit-reset among the headers of this answer say how fast it may"
_NEW_ONE = "make a new one, or ask whoever issued it"

REFUSALS = (
    # First, and by their statuses alone, which nothing else has: these are what floods are answered with.
    Refusal(
        limits.STATUS_TEAM,
        "",
        f"the team calls faster than its rate limit allows; {_SLOWER}",
        Reason.QUOTA_EXCEEDED,
        limit="team.rate_limit",
    ),
    Refusal(
        limits.STATUS_KEY,
        "",
        f"the key is used faster than its own rate limit allows; {_SLOWER}",
        Reason.QUOTA_EXCEEDED,
        limit="api_key.rate_limit",
    ),
    Refusal(
        limits.STATUS_SHARED,
        "",
        f"the team or its key calls faster, over all gateways together, than its rate limit allows; {_SLOWER}",
        Reason.QUOTA_EXCEEDED,
        limit="rate_limit over all gateways",
    ),
    Refusal(401, _MISSING, f"the request has no credential; {_SEND}"),
    Refusal(401, "Jwt_is_expired", f"the key or token has expired; {_NEW_ONE}"),
    Refusal(401, "Jwt_not_yet_valid", "the token is not valid yet; wait, or set the clock of whoever issued it"),
    Refusal(
        401,
        "issuer_is_not_configured",
        f"the token was issued by somebody whom this mesh does not trust; {_SEND}",
    ),
    Refusal(
        403,
        "Audiences_in_Jwt_are_not_allowed",
        "the token is meant for somebody else: its audience is none of this mesh's; ask its issuer for one that is",
    ),
    Refusal(
        401,
        "Jwks_remote_fetch_is_failed",
        "the public keys of the token's issuer cannot be fetched at the moment; try again in a second",
        Reason.DEPENDENCY_UNAVAILABLE,
    ),
    Refusal(401, "Jwt_verification_fails", f"the signature is by no key that this mesh knows; {_SEND}"),
    Refusal(401, "Jwks_doesn", f"the signature is by no key that this mesh knows; {_SEND}"),
    Refusal(401, "", f"the credential cannot be read as a key or token; {_SEND}"),
    Refusal(403, f"[{admission.REVOKED}]", f"the key was revoked; {_NEW_ONE}"),
    Refusal(
        403,
        f"[{admission.ROLE_UNKNOWN}]",
        f"the token gives its user a role that this mesh does not know; roles are {', '.join(admission.ROLES)}",
    ),
    Refusal(
        403,
        f"[{admission.WITHOUT_TEAM}]",
        "a user without a team may not see this; exchange the token for a key of a team: POST /v1/teams/{team}/tokens",
        Reason.PERMISSION_DENIED,
    ),
    Refusal(
        403,
        f"[{admission.NOT_KNOWN_YET}]",
        "the gateway does not know yet who may call; try again in a second",
        Reason.DEPENDENCY_UNAVAILABLE,
    ),
    Refusal(403, "", "the gateway does not let this pass; ask whoever runs it", Reason.PERMISSION_DENIED),
)
"""The first that holds is said. Envoy alone answers so: what services answer passes as it is."""
