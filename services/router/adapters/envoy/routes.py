"""The route configurations: one where requests begin, and those that have the models, one virtual host each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from google.protobuf import any_pb2
from meshxds.envoy.config.core.v3 import base_pb2
from meshxds.envoy.config.route.v3 import route_components_pb2
from meshxds.envoy.type.matcher.v3 import regex_pb2, string_pb2

from services.router.adapters.envoy import actions, buckets, filters, literals, names
from services.router.adapters.envoy.console import BODY_MAX_BYTES, console_routes
from services.router.adapters.envoy.messages import overwritten
from services.router.adapters.envoy.model_routes import virtual_host
from services.router.adapters.envoy.public import CONTROL_SERVICES, INFERENCE, INFRASTRUCTURE, PREDICTION, PublicService
from services.router.adapters.envoy.resources import Resource, resource, serialised
from services.router.domain.routing import ModelRoutes, RoutingTable

_Route = route_components_pb2.Route
_Match = route_components_pb2.RouteMatch
_Header = route_components_pb2.HeaderMatcher

_VIRTUAL_HOSTS_TAG = b"\x12"
"""Field 2 of RouteConfiguration, length-delimited."""

NOTHING_HERE = "nothing answers this method at this path"


@dataclass(slots=True)
class _Made:
    """What was made of a model."""

    bucket: int
    routes: ModelRoutes
    host: bytes


class RouteBuilder:
    """Makes the route configurations of a table, and remembers what it made of each model and bucket: a change of one
    model costs what its bucket costs, and looking at the others."""

    def __init__(self, *, carried: bool = False, authentication: bool = False) -> None:
        everything = everything_else(carried=carried)
        if authentication:
            # One that was verified is gone by then; nobody shall have one that was sent where none is needed.
            everything.request_headers_to_remove.append("authorization")
        start = buckets.configuration(names.ROUTES, everything, buckets.some_model())
        start.max_direct_response_body_size_bytes.value = BODY_MAX_BYTES
        self._start = resource(names.ROUTES, start)
        self._no_model = _field(buckets.no_model().SerializeToString(deterministic=True))
        self._made: dict[str, _Made] = {}
        self._filled: list[dict[str, bytes]] = [{} for _ in range(buckets.BUCKETS)]
        """The hosts of each bucket, by model."""
        self._written = [self._write(bucket) for bucket in range(buckets.BUCKETS)]

    def build(self, table: RoutingTable) -> Sequence[Resource]:
        """The route configurations. Models without traffic are left to the batcher to speak about."""
        wanted = {name: model for name, model in table.models.items() if model.shares}
        changed = {self._forget(name) for name in self._made.keys() - wanted.keys()}
        changed |= {self._make(name, model) for name, model in wanted.items() if not self._has(name, model)}
        for bucket in changed:
            self._written[bucket] = self._write(bucket)
        return [self._start, *self._written]

    def _has(self, name: str, model: ModelRoutes) -> bool:
        made = self._made.get(name)
        return made is not None and (made.routes is model or made.routes == model)

    def _make(self, name: str, model: ModelRoutes) -> int:
        host = _field(virtual_host(model).SerializeToString(deterministic=True))
        made = self._made[name] = _Made(buckets.bucket_of(name), model, host)
        self._filled[made.bucket][name] = host
        return made.bucket

    def _forget(self, name: str) -> int:
        bucket = self._made.pop(name).bucket
        del self._filled[bucket][name]
        return bucket

    def _write(self, bucket: int) -> Resource:
        name = buckets.routes_name(bucket)
        head = buckets.configuration(name).SerializeToString(deterministic=True)
        hosts = self._filled[bucket]
        return serialised(name, b"".join((head, self._no_model, *(hosts[model] for model in sorted(hosts)))))


def everything_else(*, carried: bool) -> route_components_pb2.VirtualHost:
    """Where requests begin, and what is for no model. `carried`: the gateway's own batcher
    answers predictions.

    Which filters see a request is decided by the route that it has when it arrives, before the transcoder and the
    model's name give it another.
    """
    return route_components_pb2.VirtualHost(
        name="everything-else",
        domains=[names.NO_MODEL],
        routes=[
            *(_answered_inside(_predictions()) if carried else _predictions()),
            *_control_plane(),
            *_of_the_gateway(carried=carried),
        ],
        include_request_attempt_count=True,
    )


def _predictions() -> list[route_components_pb2.Route]:
    batcher = actions.to(names.BATCHER, actions.predict())
    in_header = buckets.finding(actions.predict(), header=names.HEADER_MODEL_NAME, by=names.FILTER_MODEL)
    streams = actions.to(names.BATCHER, actions.stream())
    chosen, named = (literals.present(header) for header in (names.HEADER_MODEL_VERSION, names.HEADER_MODEL_NAME))
    # The extraction cannot read compressed messages; their version is left to the batcher. Of all encodings the one
    # that compresses nothing, "identity", alone begins with an i.
    compressed = _Header(name="grpc-encoding", string_match=string_pb2.StringMatcher(safe_regex={"regex": "[^i].*"}))
    routes = []
    for method in (f"/{PREDICTION}/Predict", f"/{INFERENCE}/ModelInfer", f"/{PREDICTION}/PredictJson"):
        routes.append(_predict(_Match(path=method, headers=[chosen]), batcher, filters.left_to_batcher()))
        routes.append(_predict(_Match(path=method, headers=[named]), in_header, filters.model_named()))
        routes.append(_predict(_Match(path=method, headers=[compressed]), batcher, filters.left_to_batcher()))
        routes.append(_forgetting(_predict(_Match(path=method), batcher, filters.model_in_message())))
    rest = _Match(safe_regex=regex_pb2.RegexMatcher(regex="/v1/models/[^/]+/predict"), headers=[_method("POST")])
    routes.append(_predict(rest, batcher, filters.prediction_as_json()))
    routes.append(_predict(_Match(prefix="/v2/"), batcher, filters.open_inference()))
    routes.append(_predict(_Match(path="/v2"), batcher, {}))
    rest_of_it = [
        _predict(_Match(prefix=f"/{service}/"), streams, filters.stream_of_predictions())
        for service in (PREDICTION, INFERENCE)
    ]
    return [*routes, *rest_of_it]


def _answered_inside(routes: Sequence[route_components_pb2.Route]) -> Sequence[route_components_pb2.Route]:
    """The same routes, to the batcher that the gateway carries."""
    for route in routes:
        for name, config in filters.answered_inside().items():
            route.typed_per_filter_config[name].CopyFrom(config)
    return routes


def _control_plane() -> list[route_components_pb2.Route]:
    services = [_service(service) for service in CONTROL_SERVICES]
    infrastructure = [
        _Route(match=_Match(prefix=f"/{name}/"), route=actions.to(names.ROUTER, actions.call()))
        for name in INFRASTRUCTURE
    ]
    # The transcoder finds the service, or refuses what is no method. Until then it leads somewhere: about a request
    # whose route answers by itself no limiter is asked.
    rest = _Route(
        match=_Match(prefix="/v1/"),
        route=actions.to(names.ROUTER, actions.call()),
        typed_per_filter_config=filters.rest_call(),
    )
    return [*services, *infrastructure, rest]


def _of_the_gateway(*, carried: bool) -> list[route_components_pb2.Route]:
    admin = actions.to(names.ADMIN, actions.predict())
    admin.prefix_rewrite = "/stats/prometheus"
    return [
        _Route(
            match=_Match(path="/health"),
            direct_response=_said(200, '{"status": "healthy"}'),
            response_headers_to_add=[overwritten("content-type", "application/json")],
        ),
        # The filter answers: 200, or 503 while no batcher is ready.
        _Route(
            match=_Match(path="/ready"),
            direct_response=_said(200, ""),
            typed_per_filter_config=filters.answered_inside() if carried else filters.readiness(),
        ),
        _Route(match=_Match(path="/metrics", headers=[_method("GET")]), route=admin),
        *console_routes(),
        _Route(match=_Match(prefix="/"), direct_response=_said(404, NOTHING_HERE)),
    ]


def _predict(
    match: route_components_pb2.RouteMatch,
    action: route_components_pb2.RouteAction,
    config: Mapping[str, any_pb2.Any],
) -> route_components_pb2.Route:
    return _Route(match=match, route=action, typed_per_filter_config=config)


def _forgetting(route: route_components_pb2.Route) -> route_components_pb2.Route:
    """What a message has for a model's name and is none goes no further: it may be what no header may hold."""
    route.request_headers_to_add.append(overwritten(names.HEADER_MODEL, names.NO_MODEL))
    return route


def _service(service: PublicService) -> route_components_pb2.Route:
    return _Route(match=_Match(prefix=f"/{service.full_name}/"), route=actions.to(service.cluster, actions.call()))


def _method(name: str) -> route_components_pb2.HeaderMatcher:
    return _Header(name=":method", string_match=string_pb2.StringMatcher(exact=name))


def _said(status: int, body: str) -> route_components_pb2.DirectResponseAction:
    return route_components_pb2.DirectResponseAction(status=status, body=base_pb2.DataSource(inline_string=body))


def _field(value: bytes) -> bytes:
    """A virtual host as a field of a route configuration."""
    return _VIRTUAL_HOSTS_TAG + _varint(len(value)) + value


def _varint(number: int) -> bytes:
    digits = bytearray()
    while number > 0x7F:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    digits.append(number)
    return bytes(digits)
