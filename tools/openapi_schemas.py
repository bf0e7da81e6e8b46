"""Messages of the contracts as JSON Schemas, in the form in which the gateway's transcoder reads and writes them."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)

Json: TypeAlias = "dict[str, object]"

REF = "#/components/schemas/"
_MESSAGE_TYPE_FIELD, _ENUM_TYPE_FIELD, _NESTED_TYPE_FIELD, _SERVICE_FIELD, _METHOD_FIELD = 4, 5, 3, 6, 2
_FIELD_FIELD, _VALUE_FIELD = 2, 2
"""Numbers of the fields of FileDescriptorProto, DescriptorProto, ServiceDescriptorProto and EnumDescriptorProto, of
which the paths of comments are made."""

_Field = FieldDescriptorProto
_NUMBER: Json = {
    "anyOf": [{"type": "number"}, {"type": "string", "enum": ["NaN", "Infinity", "-Infinity"]}],
}
_LONG: Json = {"type": "string", "pattern": "^-?[0-9]{1,20}$"}
"""64-bit whole numbers are texts, as JSON's own numbers cannot hold all of them."""
_SCALARS: Mapping[int, Json] = MappingProxyType(
    {
        _Field.TYPE_DOUBLE: {**_NUMBER, "format": "double"},
        _Field.TYPE_FLOAT: {**_NUMBER, "format": "float"},
        _Field.TYPE_INT32: {"type": "integer", "format": "int32", "minimum": -(2**31), "maximum": 2**31 - 1},
        _Field.TYPE_SINT32: {"type": "integer", "format": "int32", "minimum": -(2**31), "maximum": 2**31 - 1},
        _Field.TYPE_SFIXED32: {"type": "integer", "format": "int32", "minimum": -(2**31), "maximum": 2**31 - 1},
        _Field.TYPE_UINT32: {"type": "integer", "format": "uint32", "minimum": 0, "maximum": 2**32 - 1},
        _Field.TYPE_FIXED32: {"type": "integer", "format": "uint32", "minimum": 0, "maximum": 2**32 - 1},
        _Field.TYPE_INT64: {**_LONG, "format": "int64"},
        _Field.TYPE_SINT64: {**_LONG, "format": "int64"},
        _Field.TYPE_SFIXED64: {**_LONG, "format": "int64"},
        _Field.TYPE_UINT64: {**_LONG, "format": "uint64"},
        _Field.TYPE_FIXED64: {**_LONG, "format": "uint64"},
        _Field.TYPE_BOOL: {"type": "boolean"},
        _Field.TYPE_STRING: {"type": "string"},
        _Field.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
    }
)
_WELL_KNOWN: Mapping[str, Json] = MappingProxyType(
    {
        ".google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
        ".google.protobuf.Duration": {
            "type": "string",
            "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$",
            "description": 'Seconds, such as "1.5s".',
        },
        ".google.protobuf.FieldMask": {"type": "string", "description": "Names of fields, separated by commas."},
        ".google.protobuf.Struct": {"type": "object"},
        ".google.protobuf.Value": {},
        ".google.protobuf.ListValue": {"type": "array"},
        ".google.protobuf.Empty": {"type": "object"},
        ".google.protobuf.Any": {
            "type": "object",
            "properties": {"@type": {"type": "string"}},
            "required": ["@type"],
        },
        ".google.protobuf.DoubleValue": {"type": ["number", "null"]},
        ".google.protobuf.BoolValue": {"type": ["boolean", "null"]},
        ".google.protobuf.StringValue": {"type": ["string", "null"]},
        ".google.protobuf.Int32Value": {"type": ["integer", "null"]},
        ".google.protobuf.UInt32Value": {"type": ["integer", "null"]},
    }
)
"""Messages whose JSON form is not an object of their fields."""
_IN_ONE_TEXT = (".google.protobuf.Timestamp", ".google.protobuf.Duration", ".google.protobuf.FieldMask")


class Contracts:
    """All messages and enumerations by their full names, which begin with a dot, with their comments."""

    def __init__(self, files: Sequence[FileDescriptorProto]) -> None:
        self.messages: dict[str, DescriptorProto] = {}
        self._enums: dict[str, EnumDescriptorProto] = {}
        self._comments: dict[str, str] = {}
        for file in files:
            self._read(file)

    def comment(self, name: str) -> str:
        """What is written above an element, on one line; empty where there is nothing."""
        return self._comments.get(name, "")

    def schema_of(self, field: FieldDescriptorProto, owner: str) -> Json:
        """The schema of one field of message `owner`, with its comment."""
        schema = self._value(field)
        if field.label == _Field.LABEL_REPEATED:
            entry = self.messages.get(field.type_name) if field.type == _Field.TYPE_MESSAGE else None
            if entry is not None and entry.options.map_entry:
                schema = {"type": "object", "additionalProperties": self._value(entry.field[1])}
            else:
                schema = {"type": "array", "items": schema}
        comment = self.comment(f"{owner}.{field.name}")
        return {**schema, "description": comment} if comment else schema

    def message(self, name: str, *, without: frozenset[str] = frozenset()) -> Json:
        """The schema of a message's JSON form, less the fields that are said elsewhere: in the path."""
        known = _WELL_KNOWN.get(name)
        if known is not None:
            return dict(known)
        properties = {
            field.name: self._less(field, name, _below(without, field.name))
            for field in self.messages[name].field
            if field.name not in without
        }
        schema: Json = {"type": "object", "properties": properties, "additionalProperties": False}
        comment = self.comment(name)
        return {**schema, "description": comment} if comment else schema

    def used_by(self, document: object, beside: Mapping[str, Json]) -> Json:
        """The schemas that a document refers to, and those that they refer to; those `beside` are no messages."""
        found: Json = {}
        waiting = sorted(set(references(document)))
        while waiting:
            name = waiting.pop()
            if name in found:
                continue
            found[name] = beside[name] if name in beside else self._named(f".{name}")
            waiting.extend(references(found[name]))
        return dict(sorted(found.items()))

    def query(self, name: str, *, without: frozenset[str], prefix: str = "") -> Iterator[tuple[str, Json]]:
        """What a query may say of a message: name and schema. Names of inner fields have dots."""
        for field in self.messages[name].field:
            path = f"{prefix}{field.name}"
            if path in without:
                continue
            inner = field.type == _Field.TYPE_MESSAGE and field.type_name not in _IN_ONE_TEXT
            if not inner:
                yield path, self.schema_of(field, name)
            elif field.label != _Field.LABEL_REPEATED and field.type_name not in _WELL_KNOWN:
                yield from self.query(field.type_name, without=without, prefix=f"{path}.")

    def _less(self, field: FieldDescriptorProto, owner: str, without: frozenset[str]) -> Json:
        if not without:
            return self.schema_of(field, owner)
        return self.message(field.type_name, without=without)

    def _value(self, field: FieldDescriptorProto) -> Json:
        if field.type in _SCALARS:
            return dict(_SCALARS[field.type])
        known = _WELL_KNOWN.get(field.type_name)
        return dict(known) if known is not None else {"$ref": REF + field.type_name.removeprefix(".")}

    def _named(self, name: str) -> Json:
        return self._enum(name) if name in self._enums else self.message(name)

    def _enum(self, name: str) -> Json:
        values = self._enums[name].value
        comment = [self.comment(name), *(f"{one.name}: {self.comment(f'{name}.{one.name}')}" for one in values)]
        return {"type": "string", "enum": [one.name for one in values], "description": " ".join(comment).strip()}

    def _read(self, file: FileDescriptorProto) -> None:
        comments = {
            tuple(item.path): " ".join(item.leading_comments.split()) for item in file.source_code_info.location
        }
        prefix = f".{file.package}" if file.package else ""
        for number, message in enumerate(file.message_type):
            self._read_message(message, prefix, (_MESSAGE_TYPE_FIELD, number), comments)
        for number, enum in enumerate(file.enum_type):
            self._read_enum(enum, prefix, (_ENUM_TYPE_FIELD, number), comments)
        for number, service in enumerate(file.service):
            name, path = f"{prefix}.{service.name}", (_SERVICE_FIELD, number)
            self._comments[name] = comments.get(path, "")
            for place, method in enumerate(service.method):
                self._comments[f"{name}.{method.name}"] = comments.get((*path, _METHOD_FIELD, place), "")

    def _read_message(
        self, message: DescriptorProto, prefix: str, path: tuple[int, ...], comments: Mapping[tuple[int, ...], str]
    ) -> None:
        name = f"{prefix}.{message.name}"
        self.messages[name] = message
        self._comments[name] = comments.get(path, "")
        for number, field in enumerate(message.field):
            self._comments[f"{name}.{field.name}"] = comments.get((*path, _FIELD_FIELD, number), "")
        for number, nested in enumerate(message.nested_type):
            self._read_message(nested, name, (*path, _NESTED_TYPE_FIELD, number), comments)
        for number, enum in enumerate(message.enum_type):
            self._read_enum(enum, name, (*path, _ENUM_TYPE_FIELD, number), comments)

    def _read_enum(
        self, enum: EnumDescriptorProto, prefix: str, path: tuple[int, ...], comments: Mapping[tuple[int, ...], str]
    ) -> None:
        name = f"{prefix}.{enum.name}"
        self._enums[name] = enum
        self._comments[name] = comments.get(path, "")
        for number, value in enumerate(enum.value):
            self._comments[f"{name}.{value.name}"] = comments.get((*path, _VALUE_FIELD, number), "")


def references(document: object) -> Iterator[str]:
    """The names of the schemas to which a document refers."""
    if isinstance(document, dict):
        for name, value in document.items():
            if name == "$ref" and isinstance(value, str) and value.startswith(REF):
                yield value.removeprefix(REF)
            else:
                yield from references(value)
    elif isinstance(document, list):
        for value in document:
            yield from references(value)


def _below(paths: frozenset[str], name: str) -> frozenset[str]:
    return frozenset(path.removeprefix(f"{name}.") for path in paths if path.startswith(f"{name}."))
