"""JSON objects and moments between their protobuf and plain forms."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TypeAlias, cast

from google.protobuf import struct_pb2
from google.protobuf.timestamp_pb2 import Timestamp

from services.registry.domain.version import JsonObject

_Json: TypeAlias = bool | float | str | Mapping[str, "_Json"] | Sequence["_Json"] | None


def object_from_proto(message: struct_pb2.Struct) -> JsonObject:
    """The JSON object; unlike protobuf's own conversion it passes numbers that are not finite, for checks to name."""
    return {name: _value_from_proto(value) for name, value in message.fields.items()}


def object_to_proto(value: JsonObject) -> struct_pb2.Struct:
    """The wire form of a JSON object."""
    message = struct_pb2.Struct()
    message.update({name: cast("_Json", item) for name, item in value.items()})
    return message


def timestamp(moment: datetime) -> Timestamp:
    """The wire form of a moment."""
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp


def _value_from_proto(value: struct_pb2.Value) -> object:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return object_from_proto(value.struct_value)
    if kind == "list_value":
        return [_value_from_proto(item) for item in value.list_value.values]
    return None if kind in (None, "null_value") else getattr(value, kind)
