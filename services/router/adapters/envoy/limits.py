"""How fast callers may call: a bucket for each team with a limit, and one for each key that has its own.

Each gateway holds callers to their whole limit. Where there are several, they ask the limiter beside (`shared`), which
counts for all of them; a call that a gateway's own bucket does not let through is not asked about.

A changed limit is a full bucket, for all whom the filter limits: so teams and keys have one each, and revocations are
in neither.
"""

from collections.abc import Iterable, Mapping

from google.protobuf import duration_pb2
from infermesh.registry.v1 import team_service_pb2
from meshxds.envoy.config.core.v3 import base_pb2, config_source_pb2, grpc_service_pb2
from meshxds.envoy.config.ratelimit.v3 import rls_pb2
from meshxds.envoy.config.route.v3 import route_components_pb2
from meshxds.envoy.extensions.common.ratelimit.v3 import ratelimit_pb2
from meshxds.envoy.extensions.filters.http.local_ratelimit.v3 import local_rate_limit_pb2
from meshxds.envoy.extensions.filters.http.ratelimit.v3 import rate_limit_pb2
from meshxds.envoy.type.v3 import http_status_pb2, percent_pb2, token_bucket_pb2

from services.common.grpc.identity import HEADER_KEY, HEADER_TEAM
from services.router.adapters.envoy import names
from services.router.adapters.envoy.messages import count, flag, seconds
from services.router.domain.access import Callers
from services.router.domain.pace import Bucket, bucket_of

TEAM, KEY = "team", "key"
"""What buckets are of; the limiter knows callers by the same words."""
STATUS_TEAM, STATUS_KEY, STATUS_SHARED = 429, 423, 424
"""What Envoy answers, by which `refusals` tells one limit from another; callers get 429 for each."""

_SHARED_TIMEOUT_S = 0.1
_UNLIMITED = token_bucket_pb2.TokenBucket(
    max_tokens=2**31, tokens_per_fill=count(2**31), fill_interval=duration_pb2.Duration(seconds=1)
)
_HEADERS = {TEAM: HEADER_TEAM, KEY: HEADER_KEY}

_Local = local_rate_limit_pb2.LocalRateLimit


def teams(callers: Callers) -> local_rate_limit_pb2.LocalRateLimit:
    """Holds each team to its limit."""
    stated = team_service_pb2.WatchAccessResponse.FromString(callers.stated)
    limits = {team.name: bucket_of(team.rate_limit.requests_per_sec, team.rate_limit.burst) for team in stated.teams}
    return _limiting(TEAM, limits, STATUS_TEAM)


def keys(callers: Callers) -> local_rate_limit_pb2.LocalRateLimit:
    """Holds each key that has a limit of its own to it."""
    stated = team_service_pb2.WatchAccessResponse.FromString(callers.stated)
    limits = {key.key_id: bucket_of(key.rate_limit.requests_per_sec, key.rate_limit.burst) for key in stated.key_limits}
    return _limiting(KEY, limits, STATUS_KEY)


def none() -> local_rate_limit_pb2.LocalRateLimit:
    """Limits nobody: what a gateway goes by that has nothing that it could use. Who may not come in at all is turned
    away before."""
    return _limiting(TEAM, {}, STATUS_TEAM)


def shared() -> rate_limit_pb2.RateLimit:
    """Asks the limiter, which counts for all gateways. Where it does not answer, callers are let through."""
    return rate_limit_pb2.RateLimit(
        domain="infermesh",
        timeout=seconds(_SHARED_TIMEOUT_S),
        failure_mode_deny=False,
        rate_limited_as_resource_exhausted=True,
        rate_limited_status=http_status_pb2.HttpStatus(code=STATUS_SHARED),  # type: ignore[arg-type]
        disable_x_envoy_ratelimited_header=True,
        enable_x_ratelimit_headers=rate_limit_pb2.RateLimit.DRAFT_VERSION_03,
        rate_limit_service=rls_pb2.RateLimitServiceConfig(
            transport_api_version=config_source_pb2.ApiVersion.V3,
            grpc_service=grpc_service_pb2.GrpcService(
                envoy_grpc=grpc_service_pb2.GrpcService.EnvoyGrpc(cluster_name=names.LIMITER),
                timeout=seconds(_SHARED_TIMEOUT_S),
            ),
        ),
        rate_limits=[_by_header(kind) for kind in _HEADERS],
    )


def _limiting(kind: str, limits: Mapping[str, Bucket | None], status: int) -> local_rate_limit_pb2.LocalRateLimit:
    buckets = list(_buckets(kind, limits))
    return _Local(
        stat_prefix=f"limit_{kind}",
        status=http_status_pb2.HttpStatus(code=status),  # type: ignore[arg-type]
        # For requests without a bucket of their own; it must be there.
        token_bucket=_UNLIMITED,
        always_consume_default_token_bucket=flag(False),
        # Where nobody has a limit nobody is looked up: some 10 µs of each request.
        filter_enabled=_share(100 if buckets else 0),
        filter_enforced=_share(100),
        descriptors=buckets,
        rate_limits=[_by_header(kind)],
        rate_limited_as_resource_exhausted=True,
        enable_x_ratelimit_headers=ratelimit_pb2.XRateLimitHeadersRFCVersion.DRAFT_VERSION_03,
    )


def _buckets(kind: str, limits: Mapping[str, Bucket | None]) -> Iterable[ratelimit_pb2.LocalRateLimitDescriptor]:
    for name, bucket in sorted(limits.items()):
        if bucket is not None:
            yield ratelimit_pb2.LocalRateLimitDescriptor(
                entries=[ratelimit_pb2.RateLimitDescriptor.Entry(key=kind, value=name)],
                token_bucket=token_bucket_pb2.TokenBucket(
                    max_tokens=bucket.most,
                    tokens_per_fill=count(bucket.tokens),
                    fill_interval=seconds(bucket.interval_s),
                ),
            )


def _by_header(kind: str) -> route_components_pb2.RateLimit:
    header = route_components_pb2.RateLimit.Action.RequestHeaders(
        header_name=_HEADERS[kind], descriptor_key=kind, skip_if_absent=True
    )
    return route_components_pb2.RateLimit(actions=[route_components_pb2.RateLimit.Action(request_headers=header)])


def _share(percent: int) -> base_pb2.RuntimeFractionalPercent:
    return base_pb2.RuntimeFractionalPercent(default_value=percent_pb2.FractionalPercent(numerator=percent))
