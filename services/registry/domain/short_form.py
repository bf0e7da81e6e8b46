"""Schemas as callers write them in JSON: a feature's name, and what its values are like.

A feature is one of "string", "int", "float", "bool", "object" and "array<…>" of these, nested where a row has several
dimensions; or a JSON Schema object of which `type`, `items`, `minItems`, `maxItems`, `minimum`, `maximum`, `enum`,
`default`, `title` and `description` are understood. Other keywords are refused: what is not checked must not look as
if it were.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from services.common.errors import FieldViolation, MeshError, invalid, invalid_fields
from services.common.schema import DataType, TensorSpec
from services.registry.domain.version import JsonObject

_WORDS = ("string", "int", "float", "bool", "object")
_JSON_TYPES = {"string": "string", "integer": "int", "number": "float", "boolean": "bool", "object": "object"}
_KEYWORDS = {"type", "items", "minItems", "maxItems", "minimum", "maximum", "enum", "default", "title", "description"}
_RANK_MAX = 8
_FEATURES_MAX = 4096
_ALLOWED = '"string", "int", "float", "bool", "object", "array<…>" of these, or a JSON Schema'
_DATA_TYPES = {
    "string": DataType.BYTES,
    "object": DataType.BYTES,
    "int": DataType.INT64,
    "float": DataType.FP32,
    "bool": DataType.BOOL,
}


@dataclass(frozen=True, slots=True)
class Declared:
    """What a caller says of a feature: the kind of its elements, its dimensions (-1: of any size), and its limits."""

    kind: str
    dims: tuple[int, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    categories: tuple[str, ...] = ()
    default_json: str = ""

    def spec(self, name: str) -> TensorSpec:
        """The tensor that this stands for where nothing else says it: objects as JSON text, floats as FP32."""
        return self.limit(TensorSpec(name, _DATA_TYPES[self.kind], self.dims))

    def limit(self, spec: TensorSpec) -> TensorSpec:
        """`spec` with the limits and the default that it does not have yet."""
        return replace(
            spec,
            minimum=spec.minimum if spec.minimum is not None else self.minimum,
            maximum=spec.maximum if spec.maximum is not None else self.maximum,
            categories=spec.categories or self.categories,
            default_json=spec.default_json or self.default_json,
            optional=spec.optional or bool(self.default_json),
        )

    def __str__(self) -> str:
        return "array<" * len(self.dims) + self.kind + ">" * len(self.dims)


def parse_short_form(schema: JsonObject, field: str) -> Mapping[str, Declared]:
    """Feature name to what is declared of it. Raises INVALID_FIELD naming every feature that cannot be read."""
    if len(schema) > _FEATURES_MAX:
        raise invalid(field, f"{len(schema)} features", f"at most {_FEATURES_MAX}")
    read: dict[str, Declared] = {}
    violations: list[FieldViolation] = []
    for name, value in schema.items():
        try:
            if not 0 < len(name) <= 256:
                raise invalid(f"{field}[{name!r}]", name, "names of 1 to 256 characters")
            read[name] = _parse(value, f"{field}.{name}", 0)
        except MeshError as error:
            violations += error.violations
    if violations:
        raise invalid_fields(violations)
    return read


def short_form_of(spec: TensorSpec) -> str:
    """The short form that says most of a tensor."""
    data_type = spec.data_type
    kind = "float" if data_type.is_float else "int" if data_type.is_integer else "string"
    if data_type is DataType.BOOL:
        kind = "bool"
    return str(Declared(kind, spec.shape))


def contradiction(declared: Declared, spec: TensorSpec) -> str:
    """Why a tensor cannot be what was declared, as "is … where …"; empty where it can."""
    data_type = spec.data_type
    fits = {
        "string": data_type is DataType.BYTES,
        "object": data_type is DataType.BYTES,
        "int": data_type.is_integer,
        "float": data_type.is_float,
        "bool": data_type is DataType.BOOL,
    }[declared.kind]
    # A row of exactly one element may be written without its brackets.
    scalar = not declared.dims and math.prod(spec.shape) == 1
    shaped = scalar or (
        len(declared.dims) == len(spec.shape)
        and all(-1 in pair or pair[0] == pair[1] for pair in zip(declared.dims, spec.shape, strict=True))
    )
    if fits and shaped:
        return ""
    sizes = f" of {list(declared.dims)}" if any(size != -1 for size in declared.dims) else ""
    return f"is declared as {declared}{sizes} where the model has {data_type} of shape {list(spec.shape)}"


def _parse(value: object, field: str, depth: int) -> Declared:
    if depth > _RANK_MAX:
        raise invalid(field, value, f"at most {_RANK_MAX} dimensions")
    if isinstance(value, str):
        return _parse_text(value, field, depth)
    if isinstance(value, Mapping):
        return _parse_json_schema(value, field, depth)
    raise invalid(field, value, _ALLOWED)


def _parse_text(text: str, field: str, depth: int) -> Declared:
    word, dims = text.strip(), 0
    while word.startswith("array<") and word.endswith(">") and dims + depth <= _RANK_MAX:
        word, dims = word[len("array<") : -1].strip(), dims + 1
    if word not in _WORDS or dims + depth > _RANK_MAX:
        raise invalid(field, text, f"{_ALLOWED}, of at most {_RANK_MAX} dimensions")
    return Declared(word, (-1,) * dims)


def _parse_json_schema(schema: Mapping[str, object], field: str, depth: int) -> Declared:
    unknown = sorted(set(schema) - _KEYWORDS)
    if unknown:
        raise invalid(f"{field}.{unknown[0]}", schema[unknown[0]], "the keywords " + ", ".join(sorted(_KEYWORDS)))
    kind = schema.get("type")
    if kind == "array":
        element = _parse(schema.get("items"), f"{field}.items", depth + 1)
        read = replace(element, dims=(_size(schema, field), *element.dims), default_json="")
    elif isinstance(kind, str) and kind in _JSON_TYPES:
        read = Declared(_JSON_TYPES[kind], categories=_categories(schema, kind, field))
    else:
        raise invalid(f"{field}.type", kind, ", ".join((*_JSON_TYPES, "array")))
    read = replace(
        read,
        minimum=_number(schema, "minimum", read, field),
        maximum=_number(schema, "maximum", read, field),
        default_json=json.dumps(schema["default"], separators=(",", ":")) if "default" in schema else "",
    )
    if read.minimum is not None and read.maximum is not None and read.minimum > read.maximum:
        raise invalid(f"{field}.minimum", read.minimum, f"at most the maximum {read.maximum:g}")
    return read


def _size(schema: Mapping[str, object], field: str) -> int:
    """The fixed size of a dimension, -1 where the least and the most differ."""
    sizes = []
    for word in ("minItems", "maxItems"):
        value = schema.get(word, -1.0)
        if not isinstance(value, float) or not value.is_integer() or (word in schema and value < 0):
            raise invalid(f"{field}.{word}", value, "a whole number from 0")
        sizes.append(int(value))
    return sizes[0] if sizes[0] == sizes[1] else -1


def _number(schema: Mapping[str, object], word: str, read: Declared, field: str) -> float | None:
    value = schema.get(word)
    if value is None:
        return read.minimum if word == "minimum" else read.maximum
    if read.kind not in ("int", "float") or not isinstance(value, int | float) or isinstance(value, bool):
        raise invalid(f"{field}.{word}", value, "a number, for integers and numbers alone")
    return float(value)


def _categories(schema: Mapping[str, object], kind: str, field: str) -> tuple[str, ...]:
    values = schema.get("enum")
    if values is None:
        return ()
    if kind != "string" or not isinstance(values, list | tuple) or not all(isinstance(one, str) for one in values):
        raise invalid(f"{field}.enum", values, "a list of strings, for strings alone")
    if not values:
        raise invalid(f"{field}.enum", values, "at least one value")
    return tuple(dict.fromkeys(values))
