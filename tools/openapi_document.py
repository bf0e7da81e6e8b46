"""The OpenAPI 3.1 document of the REST API, out of the contracts: a pure function of their descriptors.

Every method with an HTTP rule is in it, once for each of its routes. Names are in snake case, as the contracts have
them: the gateway prints them so. What the contracts cannot say is in `openapi_beside.py`.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from google.api import annotations_pb2, http_pb2
from google.protobuf.descriptor_pb2 import (
    FieldDescriptorProto,
    FileDescriptorProto,
    MethodDescriptorProto,
    ServiceDescriptorProto,
)

from tools.openapi_beside import (
    BESIDE_PATHS,
    BESIDE_SCHEMAS,
    ERROR_RESPONSES,
    JSON_BODIES,
    MEDIA_TYPES,
    OPEN_PATHS,
    TITLE,
)
from tools.openapi_schemas import REF, Contracts, Json

VERSION = "3.1.0"
_PARAMETER = re.compile(r"\{([^}=]+)\}")
_HTTP_BODY = ".google.api.HttpBody"
_ANY_MEDIA = "application/octet-stream"
_JSON_MEDIA = "application/json"
_SECURITY = "bearer"


@dataclass(frozen=True)
class Route:
    """One way in which a method is called over REST."""

    service: str
    """The service's full name, which begins with a dot."""
    method: MethodDescriptorProto
    verb: str
    template: str
    body: str
    """The field that is the body, "*" for all that is not in the path, "" for none."""
    number: int
    """0 for the first route of the method."""

    @property
    def parameters(self) -> Sequence[str]:
        """The fields in the path, in their order."""
        return _PARAMETER.findall(self.template)

    @property
    def shape(self) -> str:
        """The path whatever its fields are called."""
        return _PARAMETER.sub("{}", self.template)

    @property
    def operation_id(self) -> str:
        """`Service_Method`, with a number from the second route on."""
        name = f"{self.service.rpartition('.')[2]}_{self.method.name}"
        return f"{name}_{self.number + 1}" if self.number else name


def routes(files: Sequence[FileDescriptorProto]) -> Iterator[Route]:
    """Every route of every method."""
    for file in files:
        for service in file.service:
            for method in service.method:
                yield from _routes_of(f".{file.package}.{service.name}", method)


def document(files: Sequence[FileDescriptorProto]) -> Json:
    """The document. `files` are all contracts and what they import, with their comments."""
    contracts = Contracts(files)
    found = list(routes(files))
    paths: dict[str, Json] = {}
    # The same path is called the same everywhere: names without a dot are the better ones.
    names = {route.shape: route.template for route in sorted(found, key=lambda one: one.template.count("."))[::-1]}
    for route in sorted(found, key=lambda one: (one.template, one.verb)):
        template = _PARAMETER.sub(_plain, names[route.shape])
        paths.setdefault(template, {})[route.verb] = _operation(contracts, route, template)
    whole = {**paths, **BESIDE_PATHS}
    schemas = contracts.used_by([whole, dict(ERROR_RESPONSES)], BESIDE_SCHEMAS)
    used = {route.service for route in found}
    return {
        "openapi": VERSION,
        "info": TITLE,
        "servers": [{"url": "/"}],
        "security": [{_SECURITY: []}],
        "tags": [_tag(contracts, file.package, service) for file in files for service in file.service
                 if f".{file.package}.{service.name}" in used],
        "paths": dict(sorted(whole.items())),
        "components": {
            "schemas": schemas,
            "responses": ERROR_RESPONSES,
            "securitySchemes": {
                _SECURITY: {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "An API key of the mesh, or a token of an issuer that the mesh trusts.",
                }
            },
        },
    }  # fmt: skip


def _plain(parameter: re.Match[str]) -> str:
    """A parameter of a path by its field's own name: generators of clients stumble over dots."""
    return f"{{{parameter[1].rpartition('.')[2]}}}"


def _routes_of(service: str, method: MethodDescriptorProto) -> Iterator[Route]:
    if not method.options.HasExtension(annotations_pb2.http):
        return
    first: http_pb2.HttpRule = method.options.Extensions[annotations_pb2.http]
    for number, rule in enumerate((first, *first.additional_bindings)):
        verb = str(rule.WhichOneof("pattern"))
        yield Route(service, method, verb, getattr(rule, verb), rule.body, number)


def _tag(contracts: Contracts, package: str, service: ServiceDescriptorProto) -> Json:
    return {"name": service.name, "description": contracts.comment(f".{package}.{service.name}")}


def _operation(contracts: Contracts, route: Route, template: str) -> Json:
    comment = contracts.comment(f"{route.service}.{route.method.name}")
    operation: Json = {
        "operationId": route.operation_id,
        "tags": [route.service.rpartition(".")[2]],
        "summary": comment.partition(". ")[0].rstrip("."),
        "description": comment,
        "parameters": [*_in_path(contracts, route, template), *_in_query(contracts, route)],
        "responses": {"200": _answer(route), "default": {"$ref": "#/components/responses/Error"}},
    }
    body = _body(contracts, route)
    if body:
        operation["requestBody"] = body
    if route.template in OPEN_PATHS:
        operation["security"] = []
    return operation


def _in_path(contracts: Contracts, route: Route, template: str) -> Iterator[Json]:
    for shown, field in zip(_PARAMETER.findall(template), route.parameters, strict=True):
        owner, found = _field(contracts, route.method.input_type, field)
        # An empty segment is another path.
        schema = {**contracts.schema_of(found, owner), "minLength": 1}
        description = schema.pop("description", "")
        yield {"name": shown, "in": "path", "required": True, "description": description, "schema": schema}


def _in_query(contracts: Contracts, route: Route) -> Iterator[Json]:
    if route.body == "*":
        return
    without = frozenset((*route.parameters, route.body) if route.body else route.parameters)
    for name, schema in contracts.query(route.method.input_type, without=without):
        description = schema.pop("description", "")
        yield {"name": name, "in": "query", "description": description, "schema": schema}


def _body(contracts: Contracts, route: Route) -> Json:
    full_name = f"{route.service}.{route.method.name}".removeprefix(".")
    if full_name in JSON_BODIES:
        return _content(JSON_BODIES[full_name][0], required=True)
    if not route.body:
        return {}
    if route.body == "*":
        inside = contracts.message(route.method.input_type, without=frozenset(route.parameters))
        return _content(inside, required=False)
    owner, field = _field(contracts, route.method.input_type, route.body)
    if field.type_name == _HTTP_BODY:
        return {"required": True, "content": {_ANY_MEDIA: {"schema": {}}}}
    inner = frozenset(
        path.removeprefix(f"{route.body}.") for path in route.parameters if path.startswith(f"{route.body}.")
    )
    if inner:
        return _content(contracts.message(field.type_name, without=inner), required=True)
    return _content(contracts.schema_of(field, owner), required=True)


def _answer(route: Route) -> Json:
    full_name = f"{route.service}.{route.method.name}".removeprefix(".")
    description = "The answer."
    if full_name in JSON_BODIES:
        return {"description": description, "content": {_JSON_MEDIA: {"schema": JSON_BODIES[full_name][1]}}}
    if route.method.output_type == _HTTP_BODY:
        media = MEDIA_TYPES.get(full_name, _ANY_MEDIA)
        return {"description": description, "content": {media: {"schema": {}}}}
    schema: Json = {"$ref": REF + route.method.output_type.removeprefix(".")}
    if route.method.output_type == ".google.protobuf.Empty":
        schema = {"type": "object"}
    if route.method.server_streaming:
        description = "A stream: one of these objects a line, until one side ends it."
    return {"description": description, "content": {_JSON_MEDIA: {"schema": schema}}}


def _content(schema: Json, *, required: bool) -> Json:
    return {"required": required, "content": {_JSON_MEDIA: {"schema": schema}}}


def _field(contracts: Contracts, message: str, path: str) -> tuple[str, FieldDescriptorProto]:
    """The message that a field at the end of a path is of, and the field."""
    *parents, last = path.split(".")
    for name in parents:
        message = _field(contracts, message, name)[1].type_name
    return message, next(field for field in contracts.messages[message].field if field.name == last)
