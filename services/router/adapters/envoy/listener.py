"""The gateway's one listener: HTTP/1.1 and HTTP/2 on one port. With TLS the two are told apart by what client and
gateway agree on (ALPN), without it by their first bytes."""

from google.protobuf import struct_pb2
from meshxds.envoy.config.accesslog.v3 import accesslog_pb2
from meshxds.envoy.config.common.mutation_rules.v3 import mutation_rules_pb2
from meshxds.envoy.config.core.v3 import base_pb2, extension_pb2, protocol_pb2, substitution_format_string_pb2
from meshxds.envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from meshxds.envoy.extensions.access_loggers.stream.v3 import stream_pb2
from meshxds.envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from meshxds.envoy.extensions.http.early_header_mutation.header_mutation.v3 import header_mutation_pb2
from meshxds.envoy.extensions.request_id.uuid.v3 import uuid_pb2
from meshxds.envoy.type.matcher.v3 import string_pb2

from services.common.grpc.identity import ANONYMOUS, HEADER_ROLE
from services.router.adapters.envoy import names
from services.router.adapters.envoy.filters import http_filters
from services.router.adapters.envoy.messages import count, flag, over_ads, overwritten, packed, seconds, socket_address
from services.router.adapters.envoy.options import EnvoyOptions
from services.router.adapters.envoy.replies import local_replies
from services.router.adapters.envoy.tls import own_certificate

_HEADERS_WITHIN_S = 10.0
_CONNECTION_IDLE_S = 600.0
_STREAM_IDLE_S = 300.0
_PING_EVERY_S = 30.0
_PING_TIMEOUT_S = 10.0
_HEADERS_MAX_KB = 60
_HEADERS_MAX = 128

_INSIDE_ONLY = (names.HEADER_ROUTE_VERSION, "x-split")
_INSIDE_ONLY_PREFIXES = ("x-mesh-", "x-infermesh-", "x-envoy-")
"""Headers that only the gateway sets: what was chosen, who the caller is, and what Envoy's own headers would change."""

_Manager = http_connection_manager_pb2.HttpConnectionManager


def listener(options: EnvoyOptions) -> listener_pb2.Listener:
    """The listener. It opens its port once it has routes, and not before."""
    manager = listener_components_pb2.Filter(
        name="envoy.filters.network.http_connection_manager",
        typed_config=packed(_connection_manager(options)),
    )
    chain = listener_components_pb2.FilterChain(filters=[manager])
    if options.encrypted:
        chain.transport_socket.CopyFrom(own_certificate())
    return listener_pb2.Listener(
        name=names.LISTENER,
        address=socket_address(f"{options.gateway_host}:{options.gateway_port}"),
        per_connection_buffer_limit_bytes=count(names.BODY_MAX_BYTES),
        filter_chains=[chain],
    )


def _connection_manager(options: EnvoyOptions) -> http_connection_manager_pb2.HttpConnectionManager:
    return _Manager(
        stat_prefix="gateway",
        codec_type=_Manager.CodecType.AUTO,
        scoped_routes=_scoped_routes(),
        http_filters=http_filters(
            carried=options.carried,
            authentication=options.authentication,
            shared_limits=options.authentication and bool(options.limiter),
        ),
        http2_protocol_options=_http2(),
        common_http_protocol_options=protocol_pb2.HttpProtocolOptions(
            idle_timeout=seconds(_CONNECTION_IDLE_S), max_headers_count=count(_HEADERS_MAX)
        ),
        max_request_headers_kb=count(_HEADERS_MAX_KB),
        request_headers_timeout=seconds(_HEADERS_WITHIN_S),
        # Routes state their own. Whole requests have no bound of time: streams are requests too.
        stream_idle_timeout=seconds(_STREAM_IDLE_S),
        request_timeout=seconds(0),
        server_name="infermesh",
        use_remote_address=flag(True),
        early_header_mutation_extensions=[_clean_headers(authentication=options.authentication)],
        generate_request_id=flag(True),
        preserve_external_request_id=True,
        always_set_request_id_in_response=True,
        request_id_extension=http_connection_manager_pb2.RequestIDExtension(
            # Envoy would write into the caller's own id whether the request is traced.
            typed_config=packed(uuid_pb2.UuidRequestIdConfig(pack_trace_reason=flag(False)))
        ),
        normalize_path=flag(True),
        merge_slashes=True,
        local_reply_config=local_replies(authentication=options.authentication),
        access_log=[_failures_log()],
    )


def _scoped_routes() -> http_connection_manager_pb2.ScopedRoutes:
    """Which of the route configurations a request is looked for in: see `buckets`."""
    builder = http_connection_manager_pb2.ScopedRoutes.ScopeKeyBuilder
    extractor = builder.FragmentBuilder.HeaderValueExtractor(name=names.HEADER_BUCKET, index=0)
    return http_connection_manager_pb2.ScopedRoutes(
        name=names.SCOPES,
        scope_key_builder=builder(fragments=[builder.FragmentBuilder(header_value_extractor=extractor)]),
        rds_config_source=over_ads(first_fetch_timeout_s=0),
        scoped_rds=http_connection_manager_pb2.ScopedRds(scoped_rds_config_source=over_ads(first_fetch_timeout_s=0)),
    )


def _http2() -> protocol_pb2.Http2ProtocolOptions:
    return protocol_pb2.Http2ProtocolOptions(
        max_concurrent_streams=count(names.STREAMS_MAX),
        # It bounds what a filter may hold as well, so whole bodies must fit.
        initial_stream_window_size=count(names.BODY_MAX_BYTES),
        initial_connection_window_size=count(names.CONNECTION_WINDOW_BYTES),
        connection_keepalive=protocol_pb2.KeepaliveSettings(
            interval=seconds(_PING_EVERY_S), timeout=seconds(_PING_TIMEOUT_S)
        ),
    )


def _clean_headers(*, authentication: bool) -> extension_pb2.TypedExtensionConfig:
    """Takes away what clients may not say, before anything looks at it. With `authentication` on, every caller is
    nobody until a credential says otherwise: to services a request without a role comes from inside the mesh."""
    mutation = mutation_rules_pb2.HeaderMutation
    by_prefix = [
        mutation(remove_on_match=mutation.RemoveOnMatch(key_matcher=string_pb2.StringMatcher(prefix=prefix)))
        for prefix in _INSIDE_ONLY_PREFIXES
    ]
    # Envoy has no virtual host, not even the one for everything else, for a request without the header.
    unknown = ((names.HEADER_MODEL, names.NO_MODEL), (names.HEADER_BUCKET, names.NO_BUCKET))
    anonymous = ((HEADER_ROLE, ANONYMOUS),) if authentication else ()
    set_first = [mutation(append=overwritten(name, value)) for name, value in (*unknown, *anonymous)]
    mutations = [*(mutation(remove=name) for name in _INSIDE_ONLY), *by_prefix, *set_first]
    return extension_pb2.TypedExtensionConfig(
        name="infermesh.clean_headers", typed_config=packed(header_mutation_pb2.HeaderMutation(mutations=mutations))
    )


def _failures_log() -> accesslog_pb2.AccessLog:
    """Requests that the gateway or a service could not answer, and no others: the hot path writes nothing."""
    failed = accesslog_pb2.ComparisonFilter(
        op=accesslog_pb2.ComparisonFilter.Op.GE,
        value=base_pb2.RuntimeUInt32(default_value=500, runtime_key="infermesh.log.status_min"),
    )
    line = struct_pb2.Struct()
    line.update(
        {
            "time": "%START_TIME%",
            "level": "warning",
            "event": "request failed",
            "method": "%REQ(:METHOD)%",
            "path": f"%REQ({names.HEADER_ORIGINAL_PATH.upper()}?:PATH)%",
            "model": f"%REQ({names.HEADER_MODEL.upper()})%",
            "status": "%RESPONSE_CODE%",
            "flags": "%RESPONSE_FLAGS%",
            "detail": "%RESPONSE_CODE_DETAILS%",
            "upstream": "%UPSTREAM_HOST%",
            "duration_ms": "%DURATION%",
            "request_id": "%REQ(X-REQUEST-ID)%",
        }
    )
    written = stream_pb2.StderrAccessLog(
        log_format=substitution_format_string_pb2.SubstitutionFormatString(json_format=line)
    )
    return accesslog_pb2.AccessLog(
        name="infermesh.failures",
        filter=accesslog_pb2.AccessLogFilter(status_code_filter=accesslog_pb2.StatusCodeFilter(comparison=failed)),
        typed_config=packed(written),
    )
