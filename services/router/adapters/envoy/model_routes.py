"""The virtual host of one model: how its version is chosen.

Thousands of them make most of what Envoys are sent, so it says no more than it must.
"""

from collections.abc import Iterable, Iterator, Sequence

from meshxds.envoy.config.route.v3 import route_components_pb2

from services.router.adapters.envoy import actions, filters, literals, names
from services.router.adapters.envoy.messages import count
from services.router.domain.routing import Condition, ModelRoutes, Share

_Route = route_components_pb2.Route
_Match = route_components_pb2.RouteMatch
_Action = route_components_pb2.RouteAction
_Weighted = route_components_pb2.WeightedCluster


def virtual_host(model: ModelRoutes) -> route_components_pb2.VirtualHost:
    """Requests for a model. Only predictions get here, by the header that the gateway itself sets.

    In order: the conditions, the split by the sticky header where the request has it, the split by chance. `model` has
    at least one share. Requests that ask for a version by header do not come here.
    """
    by_chance = _together(model.shares)
    routes = [route for condition in model.conditions for route in _conditional(condition)]
    if len(by_chance) > 1 and model.sticky_header:
        routes.append(_sticky_split(model.shares, model.sticky_header))
    routes.append(_split(by_chance))
    return route_components_pb2.VirtualHost(
        name=model.model_name,
        domains=[model.model_name],
        routes=routes,
        include_request_attempt_count=True,
    )


def _conditional(condition: Condition) -> Iterator[route_components_pb2.Route]:
    for matcher in literals.any_of(condition.values, prefix=condition.prefix):
        header = route_components_pb2.HeaderMatcher(name=condition.header, string_match=matcher)
        yield _to_version(condition.version, _Match(prefix="/", headers=[header]))


def _split(shares: Sequence[Share]) -> route_components_pb2.Route:
    if len(shares) == 1:
        return _to_version(shares[0].version, _Match(prefix="/"))
    action = actions.predict()
    action.weighted_clusters.CopyFrom(_weighted(shares))
    return _Route(match=_Match(prefix="/"), route=action)


def _to_version(version: str, match: route_components_pb2.RouteMatch) -> route_components_pb2.Route:
    return _Route(
        match=match,
        route=actions.to(names.BATCHER, actions.predict()),
        typed_per_filter_config=filters.version(version),
    )


def _sticky_split(shares: Sequence[Share], sticky_header: str) -> route_components_pb2.Route:
    """A pure function of the header's value and of the model, which `domain.sticky` says again: the same user gets the
    same version of a model, and those who are first to get a new version of one model are not the first for all others.

    Envoy takes the hash modulo 100 through the shares in their order, so a version that has several has several runs of
    places.
    """
    action = actions.predict()
    action.weighted_clusters.CopyFrom(_weighted(shares))
    action.weighted_clusters.use_hash_policy.value = True
    for header in (sticky_header, names.HEADER_MODEL):
        action.hash_policy.add(header=_Action.HashPolicy.Header(header_name=header))
    return _Route(match=_Match(prefix="/", headers=[literals.present(sticky_header)]), route=action)


def _weighted(shares: Sequence[Share]) -> route_components_pb2.WeightedCluster:
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


def _together(shares: Iterable[Share]) -> Sequence[Share]:
    """One share for each version: to chance it is all the same where a version's places are."""
    percents: dict[str, int] = {}
    for share in shares:
        percents[share.version] = percents.get(share.version, 0) + share.percent
    return [Share(version, percent) for version, percent in percents.items()]
