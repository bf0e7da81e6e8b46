"""JSON Schemas of features, as far as a tensor's description can say what they say.

What a request is checked against is a tensor's type, shape, range, categories and default. A keyword that says one of
these is taken, whichever of its spellings was chosen; one that only comments is passed over; and every other one is
refused, with what to use instead: what is not checked must not look as if it were.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from services.common.errors import invalid
from services.common.schema import DataType
from services.registry.domain.declared import Declared
from services.registry.domain.version import JsonObject

Inner = Callable[[object, str], Declared]
"""Reads the schema of an array's items, in any form; takes it and its field."""

_TYPES = {"string": "string", "integer": "int", "number": "float", "boolean": "bool", "object": "object"}
_COMMENTS = {
    *("title", "description", "examples", "$comment", "$schema", "$id", "deprecated", "readOnly", "writeOnly"),
}
_LIMITS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_TAKEN = {
    *("type", "items", "minItems", "maxItems", "enum", "const", "default", "format", "multipleOf", "uniqueItems"),
    *_LIMITS,
}
_FORMATS: Mapping[str, tuple[str, DataType]] = {
    "float": ("float", DataType.FP32),
    "double": ("float", DataType.FP64),
    "float16": ("float", DataType.FP16),
    "float32": ("float", DataType.FP32),
    "float64": ("float", DataType.FP64),
    **{f"int{bits}": ("int", DataType(f"INT{bits}")) for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": ("int", DataType(f"UINT{bits}")) for bits in (8, 16, 32, 64)},
}
_WHOLE_MAX = 2**53
_ENUM_MAX = 10_000
_NULL = 'no null: give the feature a "default", and callers may leave it out'
_INSTEAD = {
    "pattern": '"enum" with the texts allowed',
    "minLength": '"enum" with the texts allowed',
    "maxLength": '"enum" with the texts allowed',
    "properties": "its members as features of their own; inside an object nothing is checked",
    "required": "its members as features of their own; inside an object nothing is checked",
    "additionalProperties": "its members as features of their own; inside an object nothing is checked",
    "patternProperties": "its members as features of their own; inside an object nothing is checked",
    "prefixItems": '"items" with one schema for all elements; elements of other kinds are features of their own',
    "contains": '"items" with one schema for all elements',
    "anyOf": f'one "type"; {_NULL}',
    "oneOf": f'one "type"; {_NULL}',
    "allOf": "one schema with the keywords of all",
    "not": '"enum" with what is allowed',
    "$ref": "the schema itself in place of a reference",
    "$defs": "the schema itself in place of a reference",
    "nullable": _NULL,
}


def is_document(schema: JsonObject) -> bool:
    """Whether a whole schema is one JSON Schema of instances, and not names of features with their forms."""
    return schema.get("type") == "object" and isinstance(schema.get("properties"), Mapping)


def properties_of(schema: JsonObject, field: str) -> tuple[JsonObject, Sequence[str] | None]:
    """The features of such a schema, and those that must be there (None: it does not say). Raises INVALID_FIELD."""
    properties, required = schema.get("properties"), schema.get("required")
    for name in sorted(set(schema) - _COMMENTS - {"type", "properties", "required", "additionalProperties"}):
        raise invalid(f"{field}.{name}", schema[name], "type, properties, required and additionalProperties: false")
    if schema.get("additionalProperties", False) is not False:
        raise invalid(
            f"{field}.additionalProperties",
            schema["additionalProperties"],
            "false: features that are not known are refused",
        )
    names = required if isinstance(required, list | tuple) else ()
    if (required is not None and (not names and required != [])) or not all(isinstance(name, str) for name in names):
        raise invalid(f"{field}.required", required, "a list of names")
    return properties if isinstance(properties, Mapping) else {}, None if required is None else list(names)


def parse_json_schema(schema: Mapping[str, object], field: str, inner: Inner) -> Declared:
    """What a JSON Schema declares. Raises INVALID_FIELD."""
    for name in sorted(set(schema) - _TAKEN - _COMMENTS):
        allowed = ", ".join(sorted(_TAKEN))
        raise invalid(f"{field}.{name}", schema[name], _INSTEAD.get(name, f"the keywords {allowed}"))
    kind = _type(schema, field)
    if kind == "array":
        read = _array(schema, field, inner)
    else:
        _only_for("arrays", schema, ("items", "minItems", "maxItems", "uniqueItems"), field)
        read = Declared(kind, data_type=_format(schema, kind, field))
    read = _limited(schema, read, field)
    for word in ("enum", "const"):
        if word in schema:
            read = _chosen(schema[word] if word == "enum" else [schema[word]], read, f"{field}.{word}")
    if read.minimum is not None and read.maximum is not None and read.minimum > read.maximum:
        raise invalid(f"{field}.minimum", read.minimum, f"at most the maximum {read.maximum:g}")
    if "default" in schema:
        read = replace(read, default_json=json.dumps(schema["default"], separators=(",", ":")))
    return read


def _type(schema: Mapping[str, object], field: str) -> str:
    """The kind of elements, or "array"; where only values are given, what these are."""
    stated = schema.get("type")
    if stated is None and ("const" in schema or "enum" in schema):
        values = schema.get("enum", [schema.get("const")])
        if isinstance(values, list | tuple) and values:
            if all(isinstance(one, str) for one in values):
                return "string"
            if all(isinstance(one, int | float) and not isinstance(one, bool) for one in values):
                return "int" if all(float(one).is_integer() for one in values) else "float"
    if isinstance(stated, list | tuple):
        if "null" in stated:
            raise invalid(f"{field}.type", stated, _NULL)
        if set(stated) == {"integer", "number"}:
            return "float"
        stated = stated[0] if len(stated) == 1 else stated
    if stated == "array":
        return "array"
    if not isinstance(stated, str) or stated not in _TYPES:
        raise invalid(f"{field}.type", stated, ", ".join((*_TYPES, "array")))
    return _TYPES[stated]


def _array(schema: Mapping[str, object], field: str, inner: Inner) -> Declared:
    element = inner(schema.get("items"), f"{field}.items")
    if schema.get("uniqueItems", False) is not False:
        raise invalid(f"{field}.uniqueItems", schema["uniqueItems"], "false: doubles are not looked for")
    sizes = [_items(schema, word, field) for word in ("minItems", "maxItems")]
    least, most = sizes[0] or 0, sizes[1]
    if most is None and not least:
        size = -1
    elif least == most and most:
        size = most
    else:
        word = "minItems" if "minItems" in schema else "maxItems"
        raise invalid(
            f"{field}.{word}", schema[word], "minItems and maxItems that are the same from 1 on, or neither: any size"
        )
    if element.default_json:
        raise invalid(f"{field}.items.default", element.default_json, "a default beside items, for the whole array")
    return replace(element, dims=(size, *element.dims))


def _items(schema: Mapping[str, object], word: str, field: str) -> int | None:
    value = schema.get(word)
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not float(value).is_integer() or value < 0:
        raise invalid(f"{field}.{word}", value, "a whole number from 0")
    return int(value)


def _format(schema: Mapping[str, object], kind: str, field: str) -> DataType | None:
    stated = schema.get("format")
    if stated is None:
        return None
    of_kind, data_type = _FORMATS.get(stated, ("", None)) if isinstance(stated, str) else ("", None)
    if of_kind != kind:
        fitting = [name for name, (of, _) in _FORMATS.items() if of == kind]
        allowed = "one of " + ", ".join(fitting) if fitting else 'none: formats of texts are not checked, use "enum"'
        raise invalid(f"{field}.format", stated, allowed)
    return data_type


def _limited(schema: Mapping[str, object], read: Declared, field: str) -> Declared:
    """With the range; that of an array's items is the array's."""
    low, high = read.minimum, read.maximum
    for word in (*_LIMITS, "multipleOf"):
        value = schema.get(word)
        if value is None:
            continue
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if read.kind not in ("int", "float") or not number:
            raise invalid(f"{field}.{word}", value, "a number, for integers and numbers alone")
        bound = float(value)  # type: ignore[arg-type]
        if word == "multipleOf":
            if read.kind != "int" or bound != 1:
                raise invalid(f"{field}.{word}", value, 'no multiples: "integer" takes whole numbers')
        elif word.startswith("exclusive") and read.kind == "float":
            instead = "minimum" if word == "exclusiveMinimum" else "maximum"
            raise invalid(f"{field}.{word}", value, f'"{instead}", which includes the limit: ranges of numbers do')
        elif word == "minimum":
            low = bound
        elif word == "maximum":
            high = bound
        elif word == "exclusiveMinimum":
            low = max(math.floor(bound) + 1.0, low) if low is not None else math.floor(bound) + 1.0
        else:
            high = min(math.ceil(bound) - 1.0, high) if high is not None else math.ceil(bound) - 1.0
    return replace(read, minimum=low, maximum=high)


def _chosen(values: object, read: Declared, field: str) -> Declared:
    """With the values that are allowed: texts as categories, whole numbers without a gap as a range."""
    if not isinstance(values, list | tuple) or not 0 < len(values) <= _ENUM_MAX:
        raise invalid(field, values, f"a list of 1 to {_ENUM_MAX} values")
    if read.dims:
        raise invalid(field, values, '"enum" of the items, not of the whole array')
    if read.kind == "string" and all(isinstance(one, str) for one in values):
        texts = tuple(dict.fromkeys(str(one) for one in values))
        both = tuple(text for text in texts if not read.categories or text in read.categories)
        return replace(read, categories=both)
    numbers = sorted({float(one) for one in values if isinstance(one, int | float) and not isinstance(one, bool)})
    if read.kind == "int" and len(numbers) == len({repr(one) for one in values}):
        whole = all(one.is_integer() and abs(one) < _WHOLE_MAX for one in numbers)
        if whole and numbers[-1] - numbers[0] == len(numbers) - 1:
            return replace(read, minimum=numbers[0], maximum=numbers[-1])
    if read.kind == "float" and len(numbers) == len(values) == 1:
        return replace(read, minimum=numbers[0], maximum=numbers[0])
    if read.kind == "bool" and set(map(repr, values)) == {"True", "False"}:
        return read
    raise invalid(field, values, "texts for a string, or whole numbers without a gap for an integer")


def _only_for(whom: str, schema: Mapping[str, object], words: Sequence[str], field: str) -> None:
    for word in words:
        if word in schema:
            raise invalid(f"{field}.{word}", schema[word], f"none: it is for {whom} alone")
