"""Who a caller is: the filter that verifies API keys and users' tokens, in C++ (`jwt_authn`).

A credential is a JSON Web Token in `authorization: Bearer …`, and nowhere else: a token in a query string ends up in
logs. What it claims becomes the headers that services know callers by; the token itself goes no further. One that was
verified before is found in a cache by its text, which is what makes a prediction cheap; its times are looked at each
time.
"""

from collections.abc import Iterable, Sequence

from meshxds.envoy.config.core.v3 import base_pb2, http_uri_pb2
from meshxds.envoy.config.route.v3 import route_components_pb2
from meshxds.envoy.extensions.filters.http.jwt_authn.v3 import config_pb2

from services.common.grpc.identity import CLAIM_HEADERS, HEADER_ROLE, HEADER_TEAM, HEADER_USER
from services.router.adapters.envoy.console import PREFIX
from services.router.adapters.envoy.issuers import cluster_name
from services.router.adapters.envoy.messages import count, seconds
from services.router.domain.access import Callers
from services.router.domain.issuers import MESH_ISSUER, Issuer

EXEMPT_PATHS = (
    "/health",
    "/ready",
    "/v2/health/live",
    "/v2/health/ready",
    "/inference.GRPCInferenceService/ServerLive",
    "/inference.GRPCInferenceService/ServerReady",
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/List",
    "/grpc.health.v1.Health/Watch",
    "/v1/jwks.json",
    "/infermesh.registry.v1.TeamService/GetKeySet",
    "/v1/openapi.json",
    "/infermesh.router.v1.RouterService/GetApiDescription",
    PREFIX,
)
"""What needs no credential, by its whole path. Whoever calls one of these is anonymous, whatever they send along."""

EXEMPT_PREFIX = f"{PREFIX}/"
"""What lies under the console needs none either: the gateway itself answers it, and it says nothing of anybody."""

_CLOCK_SKEW_S = 5
"""How far the clocks of whoever issues tokens and of the gateway may be apart. Envoy's own default is a minute, and a
key would live so much longer than it says."""
_CACHE_TOKENS = 4096
"""Verified tokens that each of Envoy's threads remembers, some 4 KB each: keys and users that call within minutes."""
_CACHED_BYTES_MAX = 4096
_FETCH_TIMEOUT_S = 5.0
_FETCHED_FOR_S = 300.0
"""How long an issuer's public keys are used: so long one that it withdraws is still believed."""
_FETCH_AGAIN_S = 2.0
_FETCH_RETRIES = 2

_SCHEMES = ("Bearer ", "bearer ")

_Provider = config_pb2.JwtProvider
_Requirement = config_pb2.JwtRequirement


def authentication(callers: Callers, issuers: Sequence[Issuer]) -> config_pb2.JwtAuthentication:
    """Verifies the mesh's own keys, and tokens of `issuers`."""
    providers = {MESH_ISSUER: _keys_of_the_mesh(callers.key_set)}
    providers |= {one.issuer: _tokens_of(one) for one in issuers}
    return _required(providers)


def nobody() -> config_pb2.JwtAuthentication:
    """Lets nobody in: what a gateway goes by that has nothing that it could use. Its keys are to be fetched from where
    nobody is."""
    nowhere = http_uri_pb2.HttpUri(uri="http://nobody.invalid/", cluster="nobody", timeout=seconds(1.0))
    return _required({MESH_ISSUER: _provider(remote_jwks=config_pb2.RemoteJwks(http_uri=nowhere))})


def _required(providers: dict[str, config_pb2.JwtProvider]) -> config_pb2.JwtAuthentication:
    """Every request needs a token of one of these, but for those that are exempt."""
    match, rule = route_components_pb2.RouteMatch, config_pb2.RequirementRule
    each = [_Requirement(provider_name=name) for name in providers]
    needed = (
        each[0] if len(each) == 1 else _Requirement(requires_any=config_pb2.JwtRequirementOrList(requirements=each))
    )
    return config_pb2.JwtAuthentication(
        providers=providers,
        rules=[
            *(rule(match=match(path=path)) for path in EXEMPT_PATHS),
            rule(match=match(prefix=EXEMPT_PREFIX)),
            rule(match=match(prefix="/"), requires=needed),
        ],
    )


def _keys_of_the_mesh(key_set: str) -> config_pb2.JwtProvider:
    return _provider(
        issuer=MESH_ISSUER,
        audiences=[MESH_ISSUER],
        local_jwks=base_pb2.DataSource(inline_string=key_set),
        claim_to_headers=_claims(CLAIM_HEADERS.items()),
    )


def _tokens_of(issuer: Issuer) -> config_pb2.JwtProvider:
    claims = ((issuer.user_claim, HEADER_USER), (issuer.team_claim, HEADER_TEAM), (issuer.role_claim, HEADER_ROLE))
    provider = _provider(
        issuer=issuer.issuer,
        audiences=issuer.audiences,
        # A key of ours may be without an end because it can be revoked; a user's token cannot.
        require_expiration=True,
        claim_to_headers=_claims((claim, header) for claim, header in claims if claim),
    )
    if issuer.jwks_uri:
        provider.remote_jwks.CopyFrom(_fetched(issuer))
    else:
        provider.local_jwks.inline_string = issuer.jwks
    return provider


def _provider(**more: object) -> config_pb2.JwtProvider:
    provider = _Provider(
        forward=False,
        # The scheme's name may be written either way (RFC 9110).
        from_headers=[config_pb2.JwtHeader(name="authorization", value_prefix=scheme) for scheme in _SCHEMES],
        clock_skew_seconds=_CLOCK_SKEW_S,
        jwt_cache_config=config_pb2.JwtCacheConfig(jwt_cache_size=_CACHE_TOKENS, jwt_max_token_size=_CACHED_BYTES_MAX),
    )
    provider.MergeFrom(_Provider(**more))  # type: ignore[arg-type]
    return provider


def _claims(headers: Iterable[tuple[str, str]]) -> list[config_pb2.JwtClaimToHeader]:
    return [config_pb2.JwtClaimToHeader(claim_name=claim, header_name=name) for claim, name in headers]


def _fetched(issuer: Issuer) -> config_pb2.RemoteJwks:
    return config_pb2.RemoteJwks(
        http_uri=http_uri_pb2.HttpUri(
            uri=issuer.jwks_uri, cluster=cluster_name(issuer), timeout=seconds(_FETCH_TIMEOUT_S)
        ),
        cache_duration=seconds(_FETCHED_FOR_S),
        # Ahead of the first request, and without keeping the gateway from starting while the issuer is away.
        async_fetch=config_pb2.JwksAsyncFetch(fast_listener=True, failed_refetch_duration=seconds(_FETCH_AGAIN_S)),
        retry_policy=base_pb2.RetryPolicy(num_retries=count(_FETCH_RETRIES)),
    )
