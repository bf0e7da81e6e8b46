"""Schemas as callers write them."""

import pytest

from services.common.errors import MeshError, Reason
from services.common.schema import DataType, TensorSpec
from services.registry.domain.short_form import Declared, contradiction, parse_short_form, short_form_of


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
        ({"type": "array", "items": "array<int>", "minItems": 1.0}, Declared("int", (-1, -1))),
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
        ({"type": "number", "enum": [1.0]}, "input_schema.x.enum"),
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
