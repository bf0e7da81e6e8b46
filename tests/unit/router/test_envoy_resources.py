"""What Envoys are told, built without one: bounds are stated, nothing internal is public, the same gives the same."""

import re

import pytest
from google.protobuf import descriptor_pb2
from meshxds.envoy.config.cluster.v3 import cluster_pb2
from meshxds.envoy.config.route.v3 import route_components_pb2
from meshxds.envoy.extensions.filters.http.header_mutation.v3 import header_mutation_pb2
from meshxds.envoy.extensions.load_balancing_policies.maglev.v3 import maglev_pb2

from services.common.errors import MeshError
from services.router.adapters.envoy import buckets, known_fields, names
from services.router.adapters.envoy.clusters import clusters, endpoints
from services.router.adapters.envoy.filters import http_filters
from services.router.adapters.envoy.listener import listener
from services.router.adapters.envoy.options import EnvoyOptions
from services.router.adapters.envoy.public import CONTROL_SERVICES, PREDICTION_SERVICES, descriptors, transcoded
from services.router.adapters.envoy.resources import (
    CLUSTER,
    ENDPOINTS,
    LISTENER,
    SCOPES,
    resource,
    resource_set,
    revision_of,
)
from services.router.adapters.envoy.routes import RouteBuilder, everything_else
from services.router.adapters.envoy.snapshots import SnapshotBuilder
from services.router.domain.routing import RoutingTable

OPTIONS = EnvoyOptions(
    batchers=("127.0.0.1:8110",),
    registry_address="127.0.0.1:8101",
    deployer_address="deployer.mesh:8103",
    router_address="127.0.0.1:8102",
    batch_address="127.0.0.1:8104",
    monitor_address="127.0.0.1:8105",
)
INTERNAL = {
    "ActivationService",
    "BackendService",
    "EvidenceService",
    "PredictionLogService",
    "ServingTableService",
    "WorkerService",
}


def routes(*, carried: bool = False) -> list[route_components_pb2.Route]:
    return list(everything_else(carried=carried).routes)


def sent_to(route: route_components_pb2.Route) -> set[str]:
    """The clusters."""
    several = route.route.weighted_clusters.clusters
    return {cluster.name for cluster in several} if several else {route.route.cluster}


@pytest.mark.parametrize(
    "wrong",
    [
        {"batchers": ("nowhere",)},
        {"registry_address": "127.0.0.1"},
        {"monitor_address": "127.0.0.1:0"},
        {"batch_address": "127.0.0.1:70000"},
        {"router_address": ":8102"},
    ],
)
def test_options_name_what_is_wrong(wrong: dict[str, object]) -> None:
    told = {name: getattr(OPTIONS, name) for name in EnvoyOptions.__dataclass_fields__}
    with pytest.raises(MeshError) as caught:
        EnvoyOptions(**{**told, **wrong})
    assert next(iter(wrong)) in caught.value.message


def test_every_route_has_its_limits_of_time() -> None:
    for route in routes():
        if route.HasField("route"):
            action = route.route
            assert action.HasField("timeout"), route.match
            assert action.idle_timeout.seconds > 0, route.match
            assert action.max_stream_duration.grpc_timeout_header_max.seconds > 0, route.match
            assert action.timeout.seconds or action.max_stream_duration.max_stream_duration.seconds, route.match


def test_every_cluster_has_its_bounds_and_its_retry_budget() -> None:
    for cluster in clusters(OPTIONS):
        (threshold,) = cluster.circuit_breakers.thresholds
        assert threshold.max_connections.value > 0
        assert threshold.max_pending_requests.value > 0
        assert threshold.max_requests.value > 0
        assert threshold.retry_budget.budget_percent.value == 20
        assert cluster.connect_timeout.seconds == 1


def test_routes_name_clusters_that_exist() -> None:
    known = {cluster.name for cluster in clusters(OPTIONS)} | {names.ADMIN}
    assert {cluster for route in routes() if route.HasField("route") for cluster in sent_to(route)} == known


def test_services_go_to_their_own_cluster() -> None:
    by_prefix = {route.match.prefix: route.route.cluster for route in routes() if route.match.prefix}
    for service in (*CONTROL_SERVICES, *PREDICTION_SERVICES):
        assert by_prefix[f"/{service.full_name}/"] == service.cluster
    owners = {service.full_name.split(".")[1]: service.cluster for service in CONTROL_SERVICES}
    assert all(owner == cluster for owner, cluster in owners.items())


def test_nothing_internal_is_public() -> None:
    written = " ".join(str(route.match) for route in routes())
    assert not [name for name in INTERNAL if name in written]
    assert "AggregatedDiscoveryService" not in written
    prefixes = [route.match.prefix for route in routes() if route.HasField("route") and route.match.prefix]
    # Every open prefix ends with a slash: no service is public because another's name begins like it.
    assert [prefix for prefix in prefixes if not prefix.endswith("/")] == []


def test_the_descriptors_are_complete_and_hold_the_error_details() -> None:
    files = descriptor_pb2.FileDescriptorSet.FromString(descriptors()).file
    seen: set[str] = set()
    for file in files:
        assert set(file.dependency) <= seen, file.name
        seen.add(file.name)
    assert "google/rpc/error_details.proto" in seen
    services = {f"{file.package}.{service.name}" for file in files for service in file.service}
    assert set(transcoded()) <= services


@pytest.mark.parametrize("carried", [False, True])
def test_all_but_the_last_filter_wait_to_be_turned_on_and_each_is(carried: bool) -> None:
    *optional, router = http_filters(carried=carried)
    assert all(one.disabled for one in optional)
    assert router.name == "envoy.filters.http.router"
    wanted = {name for route in routes(carried=carried) for name in route.typed_per_filter_config}
    assert names.FILTER_BUCKET in wanted
    # Whether a gateway is ready is asked of the batcher that it carries.
    assert wanted == {one.name for one in optional} - ({names.FILTER_READY} if carried else set())


def test_a_carried_batcher_answers_all_predictions_and_nothing_else() -> None:
    inside = [route for route in routes(carried=True) if names.FILTER_CARRIED in route.typed_per_filter_config]
    sent_on = [route for route in routes() if sent_to(route) == {names.BATCHER}]
    ready = [route for route in inside if route.match.path == "/ready"]
    assert [route.match for route in inside if route not in ready] == [route.match for route in sent_on]
    assert len(ready) == 1
    assert names.FILTER_CARRIED in {one.name for one in http_filters(carried=True)}
    assert names.FILTER_CARRIED not in {one.name for one in http_filters(carried=False)}


def test_a_gateway_that_carries_its_batcher_knows_no_other() -> None:
    told = {name: getattr(OPTIONS, name) for name in EnvoyOptions.__dataclass_fields__}
    options = EnvoyOptions(**{**told, "batchers": ()})
    (batchers,) = (cluster for cluster in clusters(options) if cluster.name == names.BATCHER)
    assert not batchers.load_assignment.endpoints
    assert not batchers.HasField("eds_cluster_config")
    assert SnapshotBuilder(options).foundation(())[ENDPOINTS].resources == ()


def test_a_single_batcher_is_never_taken_out() -> None:
    batcher = next(cluster for cluster in clusters(OPTIONS) if cluster.name == names.BATCHER)
    outliers = batcher.outlier_detection
    # Envoy takes one out while (taken out + 1) of all are at most this many percent.
    assert outliers.max_ejection_percent.value < 100
    assert not outliers.always_eject_one_host.value


def test_batchers_are_found_by_model_and_version_and_none_has_far_more_than_its_share() -> None:
    batcher = next(cluster for cluster in clusters(OPTIONS) if cluster.name == names.BATCHER)
    (policy,) = batcher.load_balancing_policy.policies
    maglev = maglev_pb2.Maglev()
    assert policy.typed_extension_config.typed_config.Unpack(maglev)
    hashing = maglev.consistent_hashing_lb_config
    assert [one.header.header_name for one in hashing.hash_policy] == list(names.HASHED)
    # A model whose batcher has its bound goes elsewhere, also where there are but two.
    assert 100 < hashing.hash_balance_factor.value < 200


def test_batchers_by_ip_are_endpoints_and_by_name_are_resolved() -> None:
    by_name = EnvoyOptions(
        **{**{name: getattr(OPTIONS, name) for name in EnvoyOptions.__dataclass_fields__}, "batchers": ("batcher:1",)}
    )
    kinds = {
        one: next(cluster for cluster in clusters(one) if cluster.name == names.BATCHER).type
        for one in (OPTIONS, by_name)
    }
    assert kinds == {OPTIONS: cluster_pb2.Cluster.EDS, by_name: cluster_pb2.Cluster.STRICT_DNS}
    assignment = endpoints(("127.0.0.1:1", "127.0.0.2:2"))
    addresses = [item.endpoint.address.socket_address for item in assignment.endpoints[0].lb_endpoints]
    assert [(one.address, one.port_value) for one in addresses] == [("127.0.0.1", 1), ("127.0.0.2", 2)]


def test_the_same_options_give_the_same_versions_and_others_only_what_differs() -> None:
    one, other = (SnapshotBuilder(OPTIONS).foundation(OPTIONS.batchers) for _ in range(2))
    assert one == other
    named = SnapshotBuilder(OPTIONS).foundation((*OPTIONS.batchers, "batcher-7:8110"))
    assert named[ENDPOINTS].resources == (), "names are the cluster's own: a gateway refuses them beside it"
    moved = SnapshotBuilder(OPTIONS).foundation(("127.0.0.1:9999",))
    assert moved[ENDPOINTS].version != one[ENDPOINTS].version
    same = (CLUSTER, LISTENER, SCOPES)
    assert [moved[kind].version for kind in same] == [one[kind].version for kind in same]


def test_each_value_of_the_buckets_header_means_a_route_configuration_that_there_is() -> None:
    built = {item.name for item in RouteBuilder().build(RoutingTable())}
    scopes = {scope.key.fragments[0].string_key: scope.route_configuration_name for scope in buckets.scopes()}
    assert set(scopes.values()) == built
    assert scopes[names.NO_BUCKET] == names.ROUTES
    finding = buckets.some_model().routes[0].route
    assert finding.weighted_clusters.use_hash_policy.value
    assert [policy.header.header_name for policy in finding.hash_policy] == [names.HEADER_MODEL]
    for place, share in enumerate(finding.weighted_clusters.clusters):
        told = header_mutation_pb2.HeaderMutationPerRoute()
        assert share.typed_per_filter_config[names.FILTER_BUCKET].Unpack(told)
        header = told.mutations.request_mutations[0].append.header
        assert (header.key, share.weight.value) == (names.HEADER_BUCKET, 1)
        # Envoy takes the hash modulo the sum of the weights.
        assert scopes[header.value] == buckets.routes_name(place)


def test_versions_tell_their_revision() -> None:
    version = resource_set([resource("gateway", listener(OPTIONS))], revision=42).version
    assert re.fullmatch(r"42-[0-9a-f]{12}", version)
    assert [revision_of(text) for text in (version, "", "abc", "abc-1", "7")] == [42, 0, 0, 0, 0]


def test_the_tables_of_known_fields_cover_the_bodies_of_the_contract() -> None:
    written = known_fields.tables()
    for pattern in ("^/v1/models$", "^/v1/models/[^/]+/deployments/[^/]+$", "^/v1/models/[^/]+/ab%-tests$"):
        assert f'{{"{pattern}", ' in written
    assert '["artifact_uri"] = 0' in written
    assert '["artifactUri"] = 0' in written
    # Files are streamed, not looked into.
    assert '{"^/v1/artifacts$", 0, ' in written
    assert '{"^/v1/models/[^/]+/predict$", 0, ' in written
    assert known_fields.tables() == written
