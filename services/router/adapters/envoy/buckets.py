"""The models' virtual hosts, spread over many route configurations, so that a change of one model costs what its bucket
costs and not what all models do.

A model's bucket is Envoy's hash of its name modulo their number: a split by hash, whose shares do not say where to send
but which bucket it is, finds it without anybody having to know the models. The bucket is the scope (SRDS) in which the
request is then looked for. A bucket holds a host for all that it does not know as well.
"""

import xxhash
from meshxds.envoy.config.route.v3 import route_components_pb2, route_pb2, scoped_route_pb2

from services.router.adapters.envoy import actions, filters, literals, names
from services.router.adapters.envoy.messages import count, flag, overwritten

BUCKETS = 128
"""With ten thousand models some eighty in each. A change costs what one bucket does, and each is 20 to 30 KB of Envoy's
memory; requests look through half of them on average, some 50 ns."""

_Route = route_components_pb2.Route
_Match = route_components_pb2.RouteMatch
_Weighted = route_components_pb2.WeightedCluster


def bucket_of(model_name: str) -> int:
    """The bucket of a model, 0 to `BUCKETS` - 1: xxHash64, as `domain.sticky` says it."""
    return xxhash.xxh64_intdigest(model_name.encode()) % BUCKETS


def routes_name(bucket: int) -> str:
    """Of a bucket's route configuration."""
    return f"models-{bucket}"


def scopes() -> list[scoped_route_pb2.ScopedRouteConfiguration]:
    """Which value of the bucket's header means which route configuration."""
    key = scoped_route_pb2.ScopedRouteConfiguration.Key
    by_value = {names.NO_BUCKET: names.ROUTES, **{str(bucket): routes_name(bucket) for bucket in range(BUCKETS)}}
    return [
        scoped_route_pb2.ScopedRouteConfiguration(
            name=value, route_configuration_name=name, key=key(fragments=[key.Fragment(string_key=value)])
        )
        for value, name in by_value.items()
    ]


def configuration(name: str, *hosts: route_components_pb2.VirtualHost) -> route_pb2.RouteConfiguration:
    """A route configuration in which hosts are found by the model."""
    return route_pb2.RouteConfiguration(
        name=name, vhost_header=names.HEADER_MODEL, validate_clusters=flag(False), virtual_hosts=hosts
    )


def finding(action: route_components_pb2.RouteAction, *, header: str, by: str) -> route_components_pb2.RouteAction:
    """`action` for requests that have a model's name in `header`: the filter `by` writes which bucket that is in."""
    found = route_components_pb2.RouteAction()
    found.CopyFrom(action)
    found.weighted_clusters.use_hash_policy.value = True
    for bucket in range(BUCKETS):
        found.weighted_clusters.clusters.append(
            _Weighted.ClusterWeight(
                name=names.BATCHER, weight=count(1), typed_per_filter_config=filters.bucket(bucket, by=by)
            )
        )
    found.hash_policy.add(header=route_components_pb2.RouteAction.HashPolicy.Header(header_name=header))
    return found


def some_model() -> route_components_pb2.VirtualHost:
    """Requests whose model is known and whose bucket is not yet, or will not be asked for because the caller has chosen
    the version."""
    action = finding(actions.predict(), header=names.HEADER_MODEL, by=names.FILTER_BUCKET)
    return route_components_pb2.VirtualHost(
        name="some-model",
        domains=["*"],
        routes=[_Route(match=_Match(prefix="/"), route=action)],
        include_request_attempt_count=True,
    )


def no_model() -> route_components_pb2.VirtualHost:
    """Requests for what is no model, or has no traffic: the batcher says so. What stood in a message as the name goes
    no further: it may be what no header may hold."""
    batcher = actions.to(names.BATCHER, actions.predict())
    checked = [
        _Match(prefix="/", headers=[literals.present(names.HEADER_MODEL_NAME)]),
        _Match(prefix="/v2/"),
        _Match(path="/v2"),
    ]
    forgotten = _Route(match=_Match(prefix="/"), route=batcher)
    forgotten.request_headers_to_add.append(overwritten(names.HEADER_MODEL, names.NO_MODEL))
    return route_components_pb2.VirtualHost(
        name="no-model",
        domains=["*"],
        routes=[*(_Route(match=match, route=batcher) for match in checked), forgotten],
        include_request_attempt_count=True,
    )
