"""Schemas as callers write them."""

import pytest

from services.common.errors import MeshError, Reason
from services.common.schema import DataType, TensorSpec
from services.registry.domain.declared import Declared
from services.registry.domain.short_form import contradiction, parse_short_form, short_form_of


def one(value: object) -> Declared:
    return parse_short_form({"x": value}, "input_schema")["x"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("string", Declared("string")),
        ("object", Declared("object")),
        ("array<int>", Declared("int", (-1,))),
        (" array< array<float> > ", Declared("float", (-1, -1))),
        ({"type": "boolean", "title": "Flag", "description": "yes or no"}, Declared("bool")),
        ({"type": "integer", "minimum": 0.0, "maximum": 16.0}, Declared("int", (), 0, 16)),
        ({"type": "number", "default": 0.5}, Declared("float", default_json="0.5")),
        ({"type": "string", "enum": ["a", "b", "a"]}, Declared("string", categories=("a", "b"))),
        (
            {"type": "array", "minItems": 3.0, "maxItems": 3.0, "items": {"type": "number", "minimum": 0.0}},
            Declared("float", (3,), minimum=0),
        ),
        ({"type": "array", "items": "array<int>", "minItems": 0.0}, Declared("int", (-1, -1))),
        ({"type": ["integer"], "exclusiveMinimum": 0.0, "exclusiveMaximum": 9.5}, Declared("int", (), 1, 9)),
        ({"type": ["integer", "number"]}, Declared("float")),
        ({"type": "integer", "enum": [3.0, 1.0, 2.0]}, Declared("int", (), 1, 3)),
        ({"enum": [1.0, 2.0]}, Declared("int", (), 1, 2)),
        ({"const": "a"}, Declared("string", categories=("a",))),
        ({"type": "number", "const": 0.5}, Declared("float", (), 0.5, 0.5)),
        ({"type": "boolean", "enum": [True, False]}, Declared("bool")),
        ({"type": "number", "format": "double"}, Declared("float", data_type=DataType.FP64)),
        ({"type": "integer", "format": "uint8", "multipleOf": 1.0}, Declared("int", data_type=DataType.UINT8)),
        (
            {"type": "array", "items": {"type": "string", "enum": ["a", "b"]}, "examples": [["a"]], "$comment": "so"},
            Declared("string", (-1,), categories=("a", "b")),
        ),
        ({"type": "array", "items": "int", "default": [1.0]}, Declared("int", (-1,), default_json="[1.0]")),
    ],
)
def test_what_is_understood(value: object, expected: Declared) -> None:
    assert one(value) == expected


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ("number", "input_schema.x"),
        ("array<>", "input_schema.x"),
        ("array<int", "input_schema.x"),
        ("array<" * 9 + "int" + ">" * 9, "input_schema.x"),
        (3.0, "input_schema.x"),
        (None, "input_schema.x"),
        ({}, "input_schema.x.type"),
        ({"type": "null"}, "input_schema.x.type"),
        ({"type": "array"}, "input_schema.x.items"),
        ({"type": "array", "items": {"type": "tuple"}}, "input_schema.x.items.type"),
        ({"type": "string", "pattern": "a+"}, "input_schema.x.pattern"),
        ({"type": "string", "minimum": 0.0}, "input_schema.x.minimum"),
        ({"type": "integer", "minimum": 2.0, "maximum": 1.0}, "input_schema.x.minimum"),
        ({"type": "number", "enum": [1.0, 2.5]}, "input_schema.x.enum"),
        ({"type": "integer", "enum": [1.0, 3.0]}, "input_schema.x.enum"),
        ({"type": "array", "items": "int", "enum": [[1.0]]}, "input_schema.x.enum"),
        ({"type": "number", "exclusiveMinimum": 0.0}, "input_schema.x.exclusiveMinimum"),
        ({"type": "integer", "multipleOf": 2.0}, "input_schema.x.multipleOf"),
        ({"type": ["number", "null"]}, "input_schema.x.type"),
        ({"anyOf": [{"type": "number"}, {"type": "null"}]}, "input_schema.x.anyOf"),
        ({"type": "string", "format": "email"}, "input_schema.x.format"),
        ({"type": "string", "format": "double"}, "input_schema.x.format"),
        ({"type": "object", "required": ["a"]}, "input_schema.x.required"),
        ({"$ref": "#/$defs/x"}, "input_schema.x.$ref"),
        ({"type": "array", "items": "int", "minItems": 1.0}, "input_schema.x.minItems"),
        ({"type": "array", "items": "int", "minItems": 1.0, "maxItems": 3.0}, "input_schema.x.minItems"),
        ({"type": "array", "items": "int", "uniqueItems": True}, "input_schema.x.uniqueItems"),
        ({"type": "array", "items": {"type": "integer", "default": 1.0}}, "input_schema.x.items.default"),
        ({"type": "integer", "items": "int"}, "input_schema.x.items"),
        ({"type": "string", "enum": []}, "input_schema.x.enum"),
        ({"type": "array", "items": "int", "minItems": 1.5}, "input_schema.x.minItems"),
        ({"type": "array", "items": "int", "maxItems": -1.0}, "input_schema.x.maxItems"),
    ],
)
def test_what_cannot_be_read_is_named(value: object, field: str) -> None:
    with pytest.raises(MeshError) as caught:
        one(value)
    assert caught.value.reason is Reason.INVALID_FIELD
    assert [violation.field for violation in caught.value.violations] == [field]


def test_every_wrong_feature_is_named_at_once() -> None:
    with pytest.raises(MeshError) as caught:
        parse_short_form({"a": "int", "b": "real", "c": 1.0, "": "int"}, "output_schema")
    fields = [violation.field for violation in caught.value.violations]
    assert fields == ["output_schema.b", "output_schema.c", "output_schema['']"]


@pytest.mark.parametrize(
    ("value", "data_type", "shape", "fits"),
    [
        ("float", DataType.FP32, (), True),
        ("float", DataType.FP16, (), True),
        ("float", DataType.FP32, (1,), True),
        ("float", DataType.FP32, (1, 1), True),
        ("float", DataType.FP32, (64,), False),
        ("float", DataType.INT64, (), False),
        ("int", DataType.UINT8, (), True),
        ("int", DataType.BOOL, (), False),
        ("bool", DataType.BOOL, (), True),
        ("string", DataType.BYTES, (), True),
        ("object", DataType.BYTES, (), True),
        ("array<float>", DataType.FP64, (64,), True),
        ("array<float>", DataType.FP64, (-1,), True),
        ("array<float>", DataType.FP64, (8, 8), False),
        ({"type": "array", "items": "float", "minItems": 3.0, "maxItems": 3.0}, DataType.FP32, (3,), True),
        ({"type": "array", "items": "float", "minItems": 3.0, "maxItems": 3.0}, DataType.FP32, (4,), False),
    ],
)
def test_what_contradicts_a_tensor(value: object, data_type: DataType, shape: tuple[int, ...], fits: bool) -> None:
    problem = contradiction(one(value), TensorSpec("x", data_type, shape))
    assert (problem == "") is fits
    if not fits:
        assert data_type in problem
        assert str(list(shape)) in problem


@pytest.mark.parametrize("data_type", list(DataType))
@pytest.mark.parametrize("shape", [(), (64,), (-1, 3)])
def test_the_short_form_of_a_tensor_never_contradicts_it(data_type: DataType, shape: tuple[int, ...]) -> None:
    spec = TensorSpec("x", data_type, shape)
    assert contradiction(one(short_form_of(spec)), spec) == ""


def test_a_whole_json_schema_names_its_features() -> None:
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {"age": {"type": "integer", "minimum": 0.0}, "city": {"type": "string", "default": "Rome"}},
        "required": ["age"],
        "additionalProperties": False,
    }
    read = parse_short_form(schema, "input_schema")
    assert read == {"age": Declared("int", (), 0), "city": Declared("string", default_json='"Rome"')}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"required": []}, "input_schema.required"),
        ({"required": ["age", "size"]}, "input_schema.required"),
        ({"required": "age"}, "input_schema.required"),
        ({"additionalProperties": True}, "input_schema.additionalProperties"),
        ({"minProperties": 1.0}, "input_schema.minProperties"),
        ({"properties": {"age": {"type": "integer", "pattern": "x"}}}, "input_schema.properties.age.pattern"),
    ],
)
def test_what_of_a_whole_json_schema_cannot_be_kept_is_named(change: dict[str, object], field: str) -> None:
    schema = {"type": "object", "properties": {"age": "int"}, "required": ["age"], **change}
    with pytest.raises(MeshError) as caught:
        parse_short_form(schema, "input_schema")
    assert [violation.field for violation in caught.value.violations] == [field]


def test_every_refused_keyword_says_what_to_use_instead() -> None:
    for keyword in ("pattern", "properties", "anyOf", "$ref", "contains", "minLength"):
        with pytest.raises(MeshError) as caught:
            one({"type": "string", keyword: "x"})
        assert "keywords" not in caught.value.message
