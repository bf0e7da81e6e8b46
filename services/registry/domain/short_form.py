"""Schemas as callers write them in JSON: a feature's name, and what its values are like.

A feature is one of "string", "int", "float", "bool", "object" and "array<…>" of these, nested where a row has several
dimensions; or a JSON Schema (see `json_schema`). The whole may also be one JSON Schema of type "object", whose
properties are the features.
"""

import math
from collections.abc import Mapping

from services.common.errors import FieldViolation, MeshError, invalid, invalid_fields
from services.common.schema import DataType, TensorSpec
from services.registry.domain.declared import Declared
from services.registry.domain.json_schema import is_document, parse_json_schema, properties_of
from services.registry.domain.version import JsonObject

_WORDS = ("string", "int", "float", "bool", "object")
_RANK_MAX = 8
_FEATURES_MAX = 4096
_NAME_LENGTH_MAX = 256
_ALLOWED = '"string", "int", "float", "bool", "object", "array<…>" of these, or a JSON Schema'


def parse_short_form(schema: JsonObject, field: str) -> Mapping[str, Declared]:
    """Feature name to what is declared of it. Raises INVALID_FIELD naming every feature that cannot be read."""
    if is_document(schema):
        return _parse_document(schema, field)
    if len(schema) > _FEATURES_MAX:
        raise invalid(field, f"{len(schema)} features", f"at most {_FEATURES_MAX}")
    read: dict[str, Declared] = {}
    violations: list[FieldViolation] = []
    for name, value in schema.items():
        try:
            if not 0 < len(name) <= _NAME_LENGTH_MAX or not name.isprintable():
                raise invalid(f"{field}[{name!r}]", name, f"names of 1 to {_NAME_LENGTH_MAX} printable characters")
            read[name] = _parse(value, f"{field}.{name}", 0)
        except MeshError as error:
            violations += error.violations
    if violations:
        raise invalid_fields(violations)
    return read


def _parse_document(schema: JsonObject, field: str) -> Mapping[str, Declared]:
    """The features of a JSON Schema of whole instances."""
    properties, required = properties_of(schema, field)
    if is_document(properties):
        raise invalid(f"{field}.properties", properties, "features, none of which is called 'properties'")
    read = parse_short_form(properties, f"{field}.properties")
    left_out = [] if required is None else [name for name in read if name not in required]
    lacking = [name for name in left_out if not read[name].default_json]
    if lacking and field.startswith("input"):
        raise invalid(f"{field}.required", required, f"all features without a default; {lacking[0]!r} has none")
    for name in required or ():
        if name not in read:
            raise invalid(f"{field}.required", name, "names of the properties")
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
    exact = declared.data_type in (None, data_type)
    if fits and shaped and exact:
        return ""
    sizes = f" of {list(declared.dims)}" if any(size != -1 for size in declared.dims) else ""
    named = f" in {declared.data_type}" if declared.data_type is not None else ""
    return f"is declared as {declared}{sizes}{named} where the model has {data_type} of shape {list(spec.shape)}"


def _parse(value: object, field: str, depth: int) -> Declared:
    if depth > _RANK_MAX:
        raise invalid(field, value, f"at most {_RANK_MAX} dimensions")
    if isinstance(value, str):
        return _parse_text(value, field, depth)
    if isinstance(value, Mapping):
        return parse_json_schema(value, field, lambda inner, where: _parse(inner, where, depth + 1))
    raise invalid(field, value, _ALLOWED)


def _parse_text(text: str, field: str, depth: int) -> Declared:
    word, dims = text.strip(), 0
    while word.startswith("array<") and word.endswith(">") and dims + depth <= _RANK_MAX:
        word, dims = word[len("array<") : -1].strip(), dims + 1
    if word not in _WORDS or dims + depth > _RANK_MAX:
        raise invalid(field, text, f"{_ALLOWED}, of at most {_RANK_MAX} dimensions")
    return Declared(word, (-1,) * dims)
