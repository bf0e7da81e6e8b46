"""The OpenAPI document against the contracts that it is made of."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from google.api import annotations_pb2
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from openapi_spec_validator import OpenAPIV31SpecValidator

from services.common.access.policy import RULES
from services.common.access.roles import Role
from services.router.adapters.api_description import api_description
from services.router.adapters.envoy.authentication import EXEMPT_PATHS
from tests.support.contracts import every_method
from tools.openapi_beside import JSON_BODIES, MEDIA_TYPES, OPEN_PATHS
from tools.openapi_document import document
from tools.openapi_schemas import references
from tools.protoc_gen_openapi import rendered

_Field = FieldDescriptorProto
METHODS = {
    method: descriptor
    for method, descriptor in every_method().items()
    if descriptor.GetOptions().HasExtension(annotations_pb2.http)
}


@pytest.fixture(scope="module")
def served() -> dict[str, Any]:
    """The document that callers get."""
    found: dict[str, Any] = json.loads(api_description())
    return found


def _shape(path: str) -> str:
    """The path whatever its parameters are called."""
    return re.sub(r"\{[^}]*\}", "{}", path)


def _routes(method: MethodDescriptor) -> Iterator[tuple[str, str, str]]:
    """Verb, path and body of each route."""
    rule = method.GetOptions().Extensions[annotations_pb2.http]
    for one in (rule, *rule.additional_bindings):
        verb = one.WhichOneof("pattern")
        yield verb, getattr(one, verb), one.body


def _operations(served: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, operations in served["paths"].items():
        for verb, operation in operations.items():
            yield verb, path, operation


def test_it_is_valid(served: dict[str, Any]) -> None:
    OpenAPIV31SpecValidator(served).validate()


def test_every_route_of_every_contract_is_in_it(served: dict[str, Any]) -> None:
    assert len(METHODS) > 120
    wanted = {(verb, path) for method in METHODS.values() for verb, path, _ in _routes(method)}
    there = {(verb, path) for verb, path, _ in _operations(served)}

    def shapes(routes: set[tuple[str, str]]) -> set[tuple[str, str]]:
        return {(verb, _shape(path)) for verb, path in routes}

    assert shapes(wanted) - shapes(there) == set()
    beside = shapes(there) - shapes(wanted)
    assert {path for _, path in beside if path.startswith("/v1/")} == set()


def test_no_two_paths_are_the_same_but_for_their_names(served: dict[str, Any]) -> None:
    shapes = [_shape(path) for path in served["paths"]]
    assert len(shapes) == len(set(shapes))


def test_every_reference_leads_somewhere_and_nothing_is_unused(served: dict[str, Any]) -> None:
    assert set(references(served)) == set(served["components"]["schemas"])


def test_every_operation_is_said_in_words_and_named_once(served: dict[str, Any]) -> None:
    operations = [operation for _, _, operation in _operations(served)]
    assert [one["operationId"] for one in operations if not one["summary"]] == []
    names = [one["operationId"] for one in operations]
    assert len(names) == len(set(names))


def test_every_parameter_in_a_path_is_declared_and_no_other(served: dict[str, Any]) -> None:
    for _, path, operation in _operations(served):
        declared = [one["name"] for one in operation.get("parameters", ()) if one["in"] == "path"]
        assert sorted(declared) == sorted(part.partition("}")[0] for part in path.split("{")[1:]), path


def test_what_is_open_is_what_the_gateway_lets_through_and_what_the_policy_says(served: dict[str, Any]) -> None:
    open_paths = {path for _, path, operation in _operations(served) if operation.get("security") == []}
    assert open_paths <= set(EXEMPT_PATHS)
    assert open_paths == {path for path in EXEMPT_PATHS if path in served["paths"]}
    anonymous = {method for method, rule in RULES.items() if rule.role is Role.ANONYMOUS and method in METHODS}
    assert {path for method in anonymous for _, path, _ in _routes(METHODS[method])} == OPEN_PATHS


def test_what_is_said_beside_the_contracts_is_of_methods_that_there_are() -> None:
    known = {method.lstrip("/").replace("/", ".") for method in METHODS}
    assert {*JSON_BODIES, *MEDIA_TYPES} <= known


def test_prediction_is_the_json_that_callers_write(served: dict[str, Any]) -> None:
    operation = served["paths"]["/v1/models/{model_name}/predict"]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/PredictBody"}
    body = served["components"]["schemas"]["PredictBody"]
    assert set(body["properties"]) == {"instances", "version", "parameters", "timeout_ms", "explain", "request_id"}


def _file() -> FileDescriptorProto:
    """A contract with one method, two routes and a nested resource."""
    text = _Field(name="name", number=1, type=_Field.TYPE_STRING)
    size = _Field(name="size", number=2, type=_Field.TYPE_UINT64, label=_Field.LABEL_REPEATED)
    thing = _Field(name="thing", number=1, type=_Field.TYPE_MESSAGE, type_name=".t.Thing")
    hurry = _Field(name="hurry", number=2, type=_Field.TYPE_BOOL)
    file = FileDescriptorProto(name="t.proto", package="t", syntax="proto3")
    file.message_type.extend(
        [DescriptorProto(name="Thing", field=[text, size]), DescriptorProto(name="Change", field=[thing, hurry])]
    )
    method = file.service.add(name="Things").method.add(name="Change", input_type=".t.Change", output_type=".t.Thing")
    rule = method.options.Extensions[annotations_pb2.http]
    rule.patch, rule.body = "/v1/things/{thing.name}", "thing"
    rule.additional_bindings.add(get="/v1/changes/{thing.name}:try")
    for path, comment in (((4, 0), " A thing."), ((4, 0, 2, 1), " In\n bytes."), ((6, 0, 2, 0), " Changes it. Once.")):
        file.source_code_info.location.add(path=path, leading_comments=comment)
    return file


def test_what_is_in_the_path_is_neither_in_the_body_nor_in_the_query() -> None:
    made: Any = document([_file()])
    first = made["paths"]["/v1/things/{name}"]["patch"]
    body = first["requestBody"]["content"]["application/json"]["schema"]
    assert list(body["properties"]) == ["size"]
    assert [(one["in"], one["name"]) for one in first["parameters"]] == [("path", "name"), ("query", "hurry")]
    second = made["paths"]["/v1/changes/{name}:try"]["get"]
    assert [one["name"] for one in second["parameters"]] == ["name", "thing.size", "hurry"]
    assert (first["operationId"], second["operationId"]) == ("Things_Change", "Things_Change_2")


def test_comments_are_its_words_and_whole_numbers_of_64_bits_are_texts() -> None:
    made: Any = document([_file()])
    thing = made["components"]["schemas"]["t.Thing"]
    assert thing["description"] == "A thing."
    assert thing["properties"]["size"]["description"] == "In bytes."
    assert thing["properties"]["size"]["items"]["type"] == "string"
    operation = made["paths"]["/v1/things/{name}"]["patch"]
    assert (operation["summary"], operation["description"]) == ("Changes it", "Changes it. Once.")


def test_the_text_is_the_document() -> None:
    made = document([_file()])
    assert json.loads(rendered(made)) == json.loads(json.dumps(made, default=dict))
