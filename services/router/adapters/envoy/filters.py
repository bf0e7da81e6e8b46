"""The HTTP filters of the gateway, in their order, and which of them a route wants.

A gateway sends predictions to batchers, or it carries a batcher: then this is one more filter, the last that a
prediction meets, and answers it. No second HTTP/2 connection is written and read, and no other process waited for.

All but the last are off unless the route on which a request arrives turns them on: a gRPC prediction that names its
model in a header meets the limit of its size and what finds the model's route, and nothing else. No script is on its
way, since a script costs as much as the rest of the filters together.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from google.protobuf import any_pb2, wrappers_pb2
from google.protobuf.message import Message
from meshxds.envoy.config.common.mutation_rules.v3 import mutation_rules_pb2
from meshxds.envoy.config.core.v3 import base_pb2
from meshxds.envoy.config.route.v3 import route_components_pb2
from meshxds.envoy.extensions.dynamic_modules.v3 import dynamic_modules_pb2
from meshxds.envoy.extensions.filters.http.buffer.v3 import buffer_pb2
from meshxds.envoy.extensions.filters.http.dynamic_modules.v3 import dynamic_modules_pb2 as module_filter_pb2
from meshxds.envoy.extensions.filters.http.grpc_field_extraction.v3 import config_pb2 as extraction_pb2
from meshxds.envoy.extensions.filters.http.grpc_json_transcoder.v3 import transcoder_pb2
from meshxds.envoy.extensions.filters.http.header_mutation.v3 import header_mutation_pb2
from meshxds.envoy.extensions.filters.http.health_check.v3 import health_check_pb2
from meshxds.envoy.extensions.filters.http.lua.v3 import lua_pb2
from meshxds.envoy.extensions.filters.http.router.v3 import router_pb2
from meshxds.envoy.extensions.filters.http.set_filter_state.v3 import set_filter_state_pb2
from meshxds.envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from meshxds.envoy.type.v3 import percent_pb2

from services.common.grpc.identity import ANONYMOUS, HEADER_ROLE
from services.router.adapters.envoy import names
from services.router.adapters.envoy.extensions import AUTHENTICATION, EXTENSIONS, discovered
from services.router.adapters.envoy.known_fields import tables
from services.router.adapters.envoy.limits import shared
from services.router.adapters.envoy.messages import count, flag, overwritten, packed
from services.router.adapters.envoy.public import descriptors, extracted_fields, transcoded

_Filter = http_connection_manager_pb2.HttpFilter
_Config = Mapping[str, any_pb2.Any]

_EXTRACTED = "%CEL(metadata.filter_metadata['envoy.filters.http.grpc_field_extraction'].model_name[0])%"
_IN_HEADER = f"%REQ({names.HEADER_MODEL_NAME.upper()})%"
_BY_BUCKET = (names.FILTER_BUCKET, names.FILTER_ROUTE_ANEW, names.FILTER_VERSION)
"""From the model to its version: the bucket is found, and in it the model."""
_SCRIPTS = Path(__file__).parent / "scripts"


def http_filters(
    *, carried: bool, authentication: bool = False, shared_limits: bool = False
) -> Sequence[http_connection_manager_pb2.HttpFilter]:
    """Requests pass them in this order, answers the other way round. `carried`: the gateway has a batcher inside.
    `authentication`: callers must show a credential, before anything else is done for them. `shared_limits`: a limiter
    counts what they call for all gateways."""
    batcher = [_optional(names.FILTER_CARRIED, _carried_batcher())] if carried else []
    return [
        *(_callers() if authentication else ()),
        *([_Filter(name=names.FILTER_SHARED_LIMITS, typed_config=packed(shared()))] if shared_limits else ()),
        _optional(names.FILTER_REST, _script("rest.lua", above=tables())),
        _optional(names.FILTER_READY, _ready()),
        _optional(names.FILTER_BODY_LIMIT, buffer_pb2.Buffer(max_request_bytes=count(names.BODY_MAX_BYTES))),
        _optional(names.FILTER_TRANSCODER, _transcoder()),
        _optional(names.FILTER_FIELD_EXTRACTION, _field_extraction()),
        _optional(names.FILTER_MODEL_IN_PATH, _script("model.lua")),
        _optional(names.FILTER_MODEL, header_mutation_pb2.HeaderMutation()),
        _optional(names.FILTER_MODEL_ANEW, set_filter_state_pb2.Config(clear_route_cache=True)),
        _optional(names.FILTER_BUCKET, header_mutation_pb2.HeaderMutation()),
        _optional(names.FILTER_ROUTE_ANEW, set_filter_state_pb2.Config(clear_route_cache=True)),
        _optional(names.FILTER_VERSION, header_mutation_pb2.HeaderMutation()),
        *batcher,
        # Without Envoy's own headers, nothing tells callers what is behind the gateway, nor can they change its limits.
        _Filter(name="envoy.filters.http.router", typed_config=packed(router_pb2.Router(suppress_envoy_headers=True))),
    ]


def model_named() -> _Config:
    """For gRPC predictions whose model is in a header; its route knows the bucket, see `bucket`."""
    on = _on(names.FILTER_BODY_LIMIT, names.FILTER_ROUTE_ANEW, names.FILTER_VERSION)
    return {**on, names.FILTER_MODEL: _model(_IN_HEADER)}


def model_in_message() -> _Config:
    """For gRPC predictions whose model must be read out of the message."""
    on = _on(names.FILTER_BODY_LIMIT, names.FILTER_FIELD_EXTRACTION, names.FILTER_MODEL_ANEW, *_BY_BUCKET)
    return {**on, names.FILTER_MODEL: _model(_EXTRACTED)}


def left_to_batcher() -> _Config:
    """For gRPC predictions whose version the caller has chosen, or that only the batcher can read."""
    return {**_on(names.FILTER_BODY_LIMIT), **stream_of_predictions()}


def stream_of_predictions() -> _Config:
    """For what is sent on by its first route: the header finds a batcher and no virtual host. Without a model it goes,
    so that what may be for any model goes to any batcher."""
    none = mutation_rules_pb2.HeaderMutation(remove=names.HEADER_MODEL)
    return {names.FILTER_MODEL: _model(_IN_HEADER, before=[none])}


def prediction_as_json() -> _Config:
    """For predictions over REST."""
    return _on(names.FILTER_TRANSCODER, names.FILTER_MODEL_IN_PATH, *_BY_BUCKET)


def open_inference() -> _Config:
    """For the REST form of the Open Inference Protocol."""
    return _on(names.FILTER_BODY_LIMIT, names.FILTER_MODEL_IN_PATH, *_BY_BUCKET)


def answered_inside() -> _Config:
    """For what the batcher inside the gateway answers."""
    return _on(names.FILTER_CARRIED)


def bucket(number: int, *, by: str) -> _Config:
    """For a share of a route that stands for a bucket: which it is, written by the filter `by`."""
    mutation = mutation_rules_pb2.HeaderMutation(append=overwritten(names.HEADER_BUCKET, str(number)))
    mutations = header_mutation_pb2.Mutations(request_mutations=[mutation])
    return {by: packed(header_mutation_pb2.HeaderMutationPerRoute(mutations=mutations))}


def version(chosen: str) -> _Config:
    """For the routes of a model: the version that they choose. Written by a filter and not by the route, since routes
    write only into what is sent on to somewhere else."""
    mutation = mutation_rules_pb2.HeaderMutation(append=overwritten(names.HEADER_ROUTE_VERSION, chosen))
    mutations = header_mutation_pb2.Mutations(request_mutations=[mutation])
    return {names.FILTER_VERSION: packed(header_mutation_pb2.HeaderMutationPerRoute(mutations=mutations))}


def rest_call() -> _Config:
    """For the control plane's REST."""
    return _on(names.FILTER_REST, names.FILTER_TRANSCODER)


def readiness() -> _Config:
    """For the gateway's readiness."""
    return _on(names.FILTER_READY)


def _callers() -> Iterator[http_connection_manager_pb2.HttpFilter]:
    """Who calls, and whether they may come in. Verifying takes away what the headers said before, the role of nobody in
    particular included; where the token says none, it is written again before anybody looks."""
    anonymous = overwritten(HEADER_ROLE, ANONYMOUS)
    anonymous.append_action = anonymous.HeaderAppendAction.ADD_IF_ABSENT
    mutations = header_mutation_pb2.Mutations(request_mutations=[mutation_rules_pb2.HeaderMutation(append=anonymous)])
    role = packed(header_mutation_pb2.HeaderMutation(mutations=mutations))
    for extension in EXTENSIONS:
        yield discovered(extension)
        if extension is AUTHENTICATION:
            yield _Filter(name=names.FILTER_ROLE, typed_config=role)


def _on(*filters: str) -> _Config:
    return dict.fromkeys(filters, _enabled(any_pb2.Any()))


def _enabled(config: any_pb2.Any) -> any_pb2.Any:
    return packed(route_components_pb2.FilterConfig(config=config))


def _model(name: str, *, before: Sequence[mutation_rules_pb2.HeaderMutation] = ()) -> any_pb2.Any:
    """Writes what a formatter gives into the model's header, where that is anything: no more than a key by which a
    virtual host is looked for, since it may hold whatever a caller has written. See `routes` for what is none."""
    mutation = mutation_rules_pb2.HeaderMutation(append=overwritten(names.HEADER_MODEL, name))
    mutations = header_mutation_pb2.Mutations(request_mutations=[*before, mutation])
    return _enabled(packed(header_mutation_pb2.HeaderMutationPerRoute(mutations=mutations)))


def _optional(name: str, config: Message) -> http_connection_manager_pb2.HttpFilter:
    return _Filter(name=name, typed_config=packed(config), disabled=True)


def _carried_batcher() -> module_filter_pb2.DynamicModuleFilter:
    return module_filter_pb2.DynamicModuleFilter(
        dynamic_module_config=dynamic_modules_pb2.DynamicModuleConfig(name=names.MODULE),
        filter_name=names.MODULE,
        filter_config=packed(wrappers_pb2.StringValue(value=names.APPLICATION)),
    )


def _script(name: str, *, above: str = "") -> lua_pb2.Lua:
    source = base_pb2.DataSource(inline_string=above + (_SCRIPTS / name).read_text())
    # Scripts say themselves when the route must be found anew.
    return lua_pb2.Lua(default_source_code=source, clear_route_cache=flag(False))


def _ready() -> health_check_pb2.HealthCheck:
    any_one = percent_pb2.Percent(value=1)
    return health_check_pb2.HealthCheck(
        pass_through_mode=flag(False), cluster_min_healthy_percentages={names.BATCHER: any_one}
    )


def _transcoder() -> transcoder_pb2.GrpcJsonTranscoder:
    options = transcoder_pb2.GrpcJsonTranscoder
    return options(
        proto_descriptor_bin=descriptors(),
        services=transcoded(),
        print_options=options.PrintOptions(
            preserve_proto_field_names=True,
            always_print_primitive_fields=True,
            # One object a line, so that a stream can be read while it runs.
            stream_newline_delimited=True,
        ),
        convert_grpc_status=True,
        # What the caller wrote and nobody reads is a mistake to be told.
        request_validation_options=options.RequestValidationOptions(
            reject_unknown_method=True, reject_unknown_query_parameters=True
        ),
        max_request_body_size=count(names.BODY_MAX_BYTES),
        max_response_body_size=count(names.BODY_MAX_BYTES),
    )


def _field_extraction() -> extraction_pb2.GrpcFieldExtractionConfig:
    field = extraction_pb2.RequestFieldValueDisposition()
    return extraction_pb2.GrpcFieldExtractionConfig(
        descriptor_set=base_pb2.DataSource(inline_bytes=descriptors()),
        extractions_by_method={
            method: extraction_pb2.FieldExtractions(request_field_extractions={name: field})
            for method, name in extracted_fields()
        },
    )
