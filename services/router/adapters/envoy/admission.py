"""Who is turned away though a good signature speaks for them: keys that were revoked, and roles that nobody knows.

Both are looked up in tables (`exact_match_map`), so a request costs the same whatever their number. The key's id and
the role are what `authentication` found in the token, since callers cannot set these headers.

That every request has a role which is known matters more than it seems: to services an empty one means a call from
inside the mesh, which may do everything.
"""

from collections.abc import Iterable

from google.protobuf.message import Message
from meshxds.envoy.config.rbac.v3 import rbac_pb2 as rules_pb2
from meshxds.envoy.extensions.filters.http.rbac.v3 import rbac_pb2
from meshxds.envoy.type.matcher.v3 import http_inputs_pb2
from meshxds.xds.core.v3 import extension_pb2
from meshxds.xds.type.matcher.v3 import matcher_pb2

from services.common.grpc.identity import ANONYMOUS, HEADER_KEY, HEADER_ROLE, PLATFORM_ADMIN
from services.router.adapters.envoy.messages import packed
from services.router.domain.access import Callers

REVOKED = "revoked"
ROLE_UNKNOWN = "role_unknown"
WITHOUT_TEAM = "without_team"
NOT_KNOWN_YET = "not_known_yet"
"""Why somebody is turned away, as `refusals` finds it in Envoy's details."""

ROLES = ("viewer", "deployer", "admin", PLATFORM_ADMIN)
OF_THE_MESH = ("/metrics", "/grpc.reflection.")
"""Beginnings of paths that no service guards: those without a role have no business there."""

_Matcher = matcher_pb2.Matcher
_Then = _Matcher.OnMatch


def admission(callers: Callers) -> rbac_pb2.RBAC:
    """Turns away revoked keys, and roles that are not known."""
    by_role = _Matcher(
        matcher_tree=_Matcher.MatcherTree(
            input=_header(HEADER_ROLE),
            exact_match_map=_Matcher.MatcherTree.MatchMap(
                map={**dict.fromkeys(ROLES, _ALLOWED), ANONYMOUS: _Then(matcher=_without_role())}
            ),
        ),
        on_no_match=_denied(ROLE_UNKNOWN),
    )
    if not callers.revoked:
        return rbac_pb2.RBAC(matcher=by_role)
    by_key = _Matcher(
        matcher_tree=_Matcher.MatcherTree(
            input=_header(HEADER_KEY),
            exact_match_map=_Matcher.MatcherTree.MatchMap(map=_all_denied(callers.revoked)),
        ),
        on_no_match=_Then(matcher=by_role),
    )
    return rbac_pb2.RBAC(matcher=by_key)


def closed() -> rbac_pb2.RBAC:
    """Turns everybody away: what a gateway goes by that has nothing that it could use."""
    return rbac_pb2.RBAC(matcher=_Matcher(on_no_match=_denied(NOT_KNOWN_YET)))


def _without_role() -> matcher_pb2.Matcher:
    """Those whom no credential gives a role: health is asked for by anybody, and services decide for themselves."""
    return _Matcher(
        matcher_tree=_Matcher.MatcherTree(
            input=_header(":path"),
            prefix_match_map=_Matcher.MatcherTree.MatchMap(map=dict.fromkeys(OF_THE_MESH, _denied(WITHOUT_TEAM))),
        ),
        on_no_match=_ALLOWED,
    )


def _all_denied(key_ids: Iterable[str]) -> dict[str, matcher_pb2.Matcher.OnMatch]:
    return dict.fromkeys(key_ids, _denied(REVOKED))


def _header(name: str) -> extension_pb2.TypedExtensionConfig:
    return _named("header", http_inputs_pb2.HttpRequestHeaderMatchInput(header_name=name))


def _denied(why: str) -> matcher_pb2.Matcher.OnMatch:
    return _Then(action=_named(why, rules_pb2.Action(name=why, action=rules_pb2.RBAC.Action.DENY)))


def _named(name: str, message: Message) -> extension_pb2.TypedExtensionConfig:
    return extension_pb2.TypedExtensionConfig(name=name, typed_config=packed(message))


_ALLOWED = _Then(action=_named("allowed", rules_pb2.Action(name="allowed", action=rules_pb2.RBAC.Action.ALLOW)))
