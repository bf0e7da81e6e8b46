"""Requests from the wire, before anybody acts on them: no message, or text that nothing can keep, is refused.

gRPC itself answers bytes that are no message with UNKNOWN and the name of a Python class. And U+0000 is legal in
protobuf's texts but not in PostgreSQL's, in file names and in headers, so it would fail wherever it gets to.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from services.common.errors import MeshError, Reason, invalid

_NUL = "\0"
_RULE = "text without the character U+0000"


@dataclass(frozen=True, slots=True)
class Refused:
    """What stands for a request that is refused."""

    error: MeshError


def lenient(deserialize: Callable[[bytes], Any] | None) -> Callable[[bytes], Any] | None:
    """A deserializer that gives `Refused` where it cannot give a request: what it raises would never get to us."""
    strict_one = strict(deserialize)
    if strict_one is None:
        return None

    def read(wire: bytes) -> Any:
        try:
            return strict_one(wire)
        except MeshError as error:
            return Refused(error)

    return read


def strict(deserialize: Callable[[bytes], Any] | None) -> Callable[[bytes], Any] | None:
    """A deserializer for a stream of requests: raises MALFORMED_BODY or INVALID_FIELD."""
    if deserialize is None:
        return None

    def read(wire: bytes) -> Any:
        try:
            request = deserialize(wire)
        except DecodeError:
            raise MeshError(
                Reason.MALFORMED_BODY,
                f"the {len(wire)} bytes are not the message that this method takes: they are cut short, of another "
                "message, nested deeper than 100 levels, or a text in them is not UTF-8",
            ) from None
        # Most messages have no byte of zero: only those that do are looked through.
        if b"\0" in wire and isinstance(request, Message):
            _refuse_nul(request)
        return request

    return read


def _refuse_nul(request: Message) -> None:
    for path, text in _texts(request, ""):
        if _NUL in text:
            raise invalid(path, text, _RULE)


def _texts(message: Message, prefix: str) -> Iterator[tuple[str, str]]:
    """Every text of a message with its path, keys of maps included."""
    for field, value in message.ListFields():
        path = f"{prefix}{field.name}"
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            yield from _of_map(field.message_type.fields_by_name["value"].type, value, path)
        elif field.type not in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_MESSAGE):
            continue
        elif field.is_repeated:
            for place, item in enumerate(value):
                yield from _of(item, f"{path}[{place}]")
        else:
            yield from _of(value, path)


def _of_map(inner: int, value: Any, path: str) -> Iterator[tuple[str, str]]:
    for key in value:
        if isinstance(key, str):
            yield path, key
        if inner in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_MESSAGE):
            yield from _of(value[key], f"{path}.{key}")


def _of(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Message):
        yield from _texts(value, f"{path}.")
    else:
        yield path, value
