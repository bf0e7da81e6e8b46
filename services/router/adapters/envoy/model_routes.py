"""The virtual host of one model: how its version is chosen.

Thousands of them make most of what Envoys are sent, so it says no more than it must.
"""

from meshxds.envoy.config.route.v3 import route_components_pb2
from meshxds.envoy.type.matcher.v3 import string_pb2

from services.router.adapters.envoy import actions, filters, names
from services.router.adapters.envoy.messages import count
from services.router.domain.routing import ModelRoutes, Share

_Route = route_components_pb2.Route
_Match = route_components_pb2.RouteMatch
_Action = route_components_pb2.RouteAction
_Weighted = route_components_pb2.WeightedCluster


def virtual_host(model: ModelRoutes) -> route_components_pb2.VirtualHost:
    """Requests for a model. Only predictions get here, by the header that the gateway itself sets.

    In order: the split by the sticky header where the request has it, the split by chance. `model` has at least one
    share. Requests that ask for a version by header do not come here.
    """
    routes = [_split(model.shares)]
    if len(model.shares) > 1 and model.sticky_header:
        routes.insert(0, _sticky_split(model.shares, model.sticky_header))
    return route_components_pb2.VirtualHost(name=model.model_name, domains=[model.model_name], routes=routes)


def _split(shares: tuple[Share, ...]) -> route_components_pb2.Route:
    if len(shares) == 1:
        return _Route(
            match=_Match(prefix="/"),
            route=actions.to(names.BATCHER, actions.predict()),
            typed_per_filter_config=filters.version(shares[0].version),
        )
    action = actions.predict()
    action.weighted_clusters.CopyFrom(_weighted(shares))
    return _Route(match=_Match(prefix="/"), route=action)


def _sticky_split(shares: tuple[Share, ...], sticky_header: str) -> route_components_pb2.Route:
    """A pure function of the header's value and of the model: the same user gets the same version of a model, and those
    who are first to get a new version of one model are not the first for all others.

    Envoy takes the hash modulo 100 through the shares in their order. So whoever has the first version keeps it when
    that grows.
    """
    action = actions.predict()
    action.weighted_clusters.CopyFrom(_weighted(shares))
    action.weighted_clusters.use_hash_policy.value = True
    for header in (sticky_header, names.HEADER_MODEL):
        action.hash_policy.add(header=_Action.HashPolicy.Header(header_name=header))
    return _Route(match=_Match(prefix="/", headers=[_present(sticky_header)]), route=action)


def _weighted(shares: tuple[Share, ...]) -> route_components_pb2.WeightedCluster:
    return _Weighted(
        clusters=[
            _Weighted.ClusterWeight(
                name=names.BATCHER,
                weight=count(share.percent),
                typed_per_filter_config=filters.version(share.version),
            )
            for share in shares
        ]
    )


def _present(header: str) -> route_components_pb2.HeaderMatcher:
    """Present and not empty: an empty value is what clients send who have none."""
    anything = string_pb2.StringMatcher(safe_regex={"regex": ".+"})
    return route_components_pb2.HeaderMatcher(name=header, string_match=anything)
