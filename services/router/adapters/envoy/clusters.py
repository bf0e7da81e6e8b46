"""Where the gateway sends: the batchers, and each service of the control plane. All of them speak HTTP/2."""

import ipaddress
from collections.abc import Sequence

from google.protobuf import any_pb2
from meshxds.envoy.config.cluster.v3 import circuit_breaker_pb2, cluster_pb2, outlier_detection_pb2
from meshxds.envoy.config.core.v3 import extension_pb2, health_check_pb2, protocol_pb2
from meshxds.envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2
from meshxds.envoy.config.route.v3 import route_components_pb2
from meshxds.envoy.extensions.load_balancing_policies.common.v3 import common_pb2
from meshxds.envoy.extensions.load_balancing_policies.maglev.v3 import maglev_pb2
from meshxds.envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from meshxds.envoy.type.v3 import http_pb2, percent_pb2

from services.router.adapters.envoy import actions, names
from services.router.adapters.envoy.issuers import issuer_clusters
from services.router.adapters.envoy.messages import count, flag, over_ads, packed, seconds, socket_address
from services.router.adapters.envoy.options import EnvoyOptions
from services.router.adapters.envoy.tls import peer
from services.router.domain.address import split_address

_CONNECT_TIMEOUT_S = 1.0
_PING_EVERY_S = 15.0
"""gRPC servers close connections that ping more often than they allow; ours allow 5 s."""
_PING_TIMEOUT_S = 5.0
_CHECK_EVERY_S = 1.0
_CHECK_FAILED_EVERY_S = 0.25
_EJECTED_S = 2.0
_EJECTED_MAX_S = 30.0
_EJECTED_MAX_PERCENT = 50
"""At most half of the batchers, so a single one is never taken out: a failed call is better than none."""

_SHARE_MAX_PERCENT = 150
"""The most that a batcher has of what is under way, in percent of an even share. Less would tear models apart whose
requests fit into one batch; from 100 times the number of batchers on, a hot model would never spread."""
_RETRIES_MIN = 1000
"""Predictions that may be begun anew at once, however little else is under way: all that a batcher had in hand when it
died. A fifth of what the others have would not do where there are two or three."""

_Cluster = cluster_pb2.Cluster


def clusters(options: EnvoyOptions) -> list[cluster_pb2.Cluster]:
    """Every cluster that routes name, but the gateway's own admin port, which the bootstrap knows."""
    services = [
        (names.REGISTRY, options.registry_address),
        (names.DEPLOYER, options.deployer_address),
        (names.ROUTER, options.router_address),
        (names.BATCH, options.batch_address),
        (names.MONITOR, options.monitor_address),
    ]
    if options.limiter and options.authentication:
        services.append((names.LIMITER, options.limiter))
    batchers = _nobody() if options.carried else batcher_cluster(options.batchers, tls=bool(options.peer_tls_dir))
    issuers = issuer_clusters(options.issuers) if options.authentication else []
    found = [_service_cluster(name, address, tls=bool(options.peer_tls_dir)) for name, address in services]
    return [batchers, *found, *issuers]


def _nobody() -> cluster_pb2.Cluster:
    """The batchers of a gateway that answers predictions itself. Their routes lead here and are not followed; but no
    limiter is asked about a request whose route leads to no cluster."""
    return _Cluster(name=names.BATCHER, type=_Cluster.DiscoveryType.STATIC, connect_timeout=seconds(_CONNECT_TIMEOUT_S))


def batcher_cluster(addresses: Sequence[str], *, tls: bool = False) -> cluster_pb2.Cluster:
    """The batchers. Endpoints come and go without touching the cluster where they are IP addresses; names are resolved
    by Envoy again and again. With TLS each must prove to be the mesh's "batcher", whatever its address."""
    cluster = _cluster(
        names.BATCHER,
        retries=actions.retry_predictions(),
        load=_load(connections=1024, requests=20_000, retries_min=_RETRIES_MIN),
        load_balancing_policy=_together_while_they_fit(),
        health_checks=[_ready_check()],
        common_lb_config=_Cluster.CommonLbConfig(
            # Half of them must be healthy, else all are tried: an unready batcher has a better answer than we.
            healthy_panic_threshold=percent_pb2.Percent(value=50),
            # Envoy would keep what it learns of their health to itself for up to a second.
            update_merge_window=seconds(0),
        ),
        outlier_detection=_dead_ones_out(),
        ignore_health_on_host_removal=True,
    )
    if tls:
        cluster.transport_socket.CopyFrom(peer(names.BATCHER))
    if told_apart(addresses):
        cluster.type = _Cluster.DiscoveryType.EDS
        cluster.eds_cluster_config.eds_config.CopyFrom(over_ads(first_fetch_timeout_s=0))
    else:
        _resolve_names(cluster, addresses)
    return cluster


def told_apart(addresses: Sequence[str]) -> bool:
    """Whether the batchers' addresses are told beside their cluster: where all are IP addresses. A gateway refuses
    names there."""
    return all(_is_ip(split_address(address)[0]) for address in addresses)


def endpoints(addresses: Sequence[str]) -> endpoint_pb2.ClusterLoadAssignment:
    """The batchers' addresses."""
    return _assignment(names.BATCHER, addresses)


def _together_while_they_fit() -> cluster_pb2.LoadBalancingPolicy:
    """One batcher for each version of a model, found by consistent hashing, so that its requests meet in batches; with
    bounded loads (Mirrokni, Thorup and Zadimoghaddam 2018), so that what is too much for it goes to others.

    Maglev's table rather than a ring: where a batcher goes, its keys move and some three in a thousand of the others.
    Envoy's ring gives each batcher more points where there are fewer, which moves an eighth of the others. Requests
    that have none of the headers go anywhere.
    """
    header = route_components_pb2.RouteAction.HashPolicy.Header
    hashing = common_pb2.ConsistentHashingLbConfig(
        hash_balance_factor=count(_SHARE_MAX_PERCENT),
        hash_policy=[
            route_components_pb2.RouteAction.HashPolicy(header=header(header_name=name)) for name in names.HASHED
        ],
    )
    maglev = maglev_pb2.Maglev(consistent_hashing_lb_config=hashing)
    policy = cluster_pb2.LoadBalancingPolicy
    extension = extension_pb2.TypedExtensionConfig(
        name="envoy.load_balancing_policies.maglev", typed_config=packed(maglev)
    )
    return policy(policies=[policy.Policy(typed_extension_config=extension)])


def _service_cluster(name: str, address: str, *, tls: bool) -> cluster_pb2.Cluster:
    cluster = _cluster(
        name,
        retries=actions.retry_unsent(),
        load=_load(connections=64, requests=2_000, retries_min=5),
    )
    if tls:
        cluster.transport_socket.CopyFrom(peer(split_address(address)[0]))
    _resolve_names(cluster, [address])
    return cluster


def _cluster(
    name: str,
    *,
    retries: route_components_pb2.RetryPolicy,
    load: circuit_breaker_pb2.CircuitBreakers,
    **more: object,
) -> cluster_pb2.Cluster:
    cluster = cluster_pb2.Cluster(
        name=name,
        connect_timeout=seconds(_CONNECT_TIMEOUT_S),
        per_connection_buffer_limit_bytes=count(names.BODY_MAX_BYTES),
        circuit_breakers=load,
        lb_policy=_Cluster.LbPolicy.LEAST_REQUEST,
        typed_extension_protocol_options={
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": _http2(retries),
        },
    )
    cluster.MergeFrom(cluster_pb2.Cluster(**more))  # type: ignore[arg-type]
    return cluster


def _http2(retries: route_components_pb2.RetryPolicy) -> any_pb2.Any:
    """How to speak with a cluster. Retries stand here and not in routes, of which there are thousands."""
    http2 = protocol_pb2.Http2ProtocolOptions(
        max_concurrent_streams=count(names.STREAMS_MAX),
        initial_stream_window_size=count(names.BODY_MAX_BYTES),
        initial_connection_window_size=count(names.CONNECTION_WINDOW_BYTES),
        # A peer that hangs without closing is noticed and left.
        connection_keepalive=protocol_pb2.KeepaliveSettings(
            interval=seconds(_PING_EVERY_S), timeout=seconds(_PING_TIMEOUT_S)
        ),
    )
    options = http_protocol_options_pb2.HttpProtocolOptions
    explicit = options.ExplicitHttpConfig(http2_protocol_options=http2)
    return packed(options(explicit_http_config=explicit, retry_policy=retries))


def _load(*, connections: int, requests: int, retries_min: int) -> circuit_breaker_pb2.CircuitBreakers:
    """Bounds, and the retry budget: retries may add a fifth to the load, whatever fails."""
    breakers = circuit_breaker_pb2.CircuitBreakers
    return breakers(
        thresholds=[
            breakers.Thresholds(
                max_connections=count(connections),
                max_pending_requests=count(requests),
                max_requests=count(requests),
                retry_budget=breakers.Thresholds.RetryBudget(
                    budget_percent=percent_pb2.Percent(value=20), min_retry_concurrency=count(retries_min)
                ),
            )
        ]
    )


def _ready_check() -> health_check_pb2.HealthCheck:
    check = health_check_pb2.HealthCheck
    return check(
        timeout=seconds(1.0),
        interval=seconds(_CHECK_EVERY_S),
        unhealthy_interval=seconds(_CHECK_FAILED_EVERY_S),
        no_traffic_interval=seconds(_CHECK_EVERY_S),
        no_traffic_healthy_interval=seconds(_CHECK_EVERY_S),
        unhealthy_threshold=count(2),
        healthy_threshold=count(1),
        http_health_check=check.HttpHealthCheck(path="/ready", codec_client_type=http_pb2.CodecClientType.HTTP2),
    )


def _dead_ones_out() -> outlier_detection_pb2.OutlierDetection:
    """Takes out batchers that cannot be reached. What they answer is not counted: a model that fails or a caller
    without patience says nothing of the batcher."""
    return outlier_detection_pb2.OutlierDetection(
        split_external_local_origin_errors=True,
        consecutive_local_origin_failure=count(3),
        enforcing_consecutive_local_origin_failure=count(100),
        enforcing_local_origin_success_rate=count(0),
        enforcing_consecutive_5xx=count(0),
        enforcing_consecutive_gateway_failure=count(0),
        enforcing_success_rate=count(0),
        interval=seconds(1.0),
        base_ejection_time=seconds(_EJECTED_S),
        max_ejection_time=seconds(_EJECTED_MAX_S),
        max_ejection_percent=count(_EJECTED_MAX_PERCENT),
        always_eject_one_host=flag(False),
        successful_active_health_check_uneject_host=flag(True),
    )


def _resolve_names(cluster: cluster_pb2.Cluster, addresses: Sequence[str]) -> None:
    cluster.type = _Cluster.DiscoveryType.STRICT_DNS
    cluster.dns_lookup_family = _Cluster.DnsLookupFamily.V4_PREFERRED
    cluster.load_assignment.CopyFrom(_assignment(cluster.name, addresses))


def _assignment(name: str, addresses: Sequence[str]) -> endpoint_pb2.ClusterLoadAssignment:
    places = [
        endpoint_components_pb2.LbEndpoint(endpoint=endpoint_components_pb2.Endpoint(address=socket_address(address)))
        for address in addresses
    ]
    localities = [endpoint_components_pb2.LocalityLbEndpoints(lb_endpoints=places)]
    return endpoint_pb2.ClusterLoadAssignment(cluster_name=name, endpoints=localities)


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
