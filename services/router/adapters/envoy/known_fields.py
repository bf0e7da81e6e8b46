"""What REST may say, as tables for the script that checks it: methods of each path, fields of queries and JSON bodies.

Envoy's transcoder has no option to refuse fields of a body that it does not know, and does not say which there are. So
the script walks through the body beside the descriptors, which this module writes as Lua.
"""

import re
from collections.abc import Iterator
from itertools import chain

from google.api import annotations_pb2, http_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor

from services.router.adapters.envoy.public import control_services, prediction_service

_VERBS = ("get", "post", "put", "patch", "delete")
_OPAQUE_PACKAGES = ("google.protobuf.", "google.api.", "google.rpc.")
"""Their messages have JSON forms of their own."""
_SPECIAL = re.compile(r"[\^$()%.\[\]*+\-?]")


def tables() -> str:
    """Lua that defines MESSAGES and BINDINGS."""
    messages = _Messages()
    bindings: dict[str, list[str]] = {}
    for verb, pattern, body, query in _bindings():
        numbers = [messages.number(message) if message is not None else 0 for message in (body, query)]
        bindings.setdefault(verb.upper(), []).append(f"{{{_quoted(pattern)}, {numbers[0]}, {numbers[1]}}}")
    listed = "\n".join(f"  {verb} = {{{', '.join(items)}}}," for verb, items in bindings.items())
    return f"local MESSAGES = {{\n{messages.lua()}\n}}\nlocal BINDINGS = {{\n{listed}\n}}\n"


class _Messages:
    """Numbers messages as they are met."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._lines: dict[int, str] = {}

    def number(self, message: Descriptor) -> int:
        """The message's number; 0 for one that may hold anything."""
        if message.full_name.startswith(_OPAQUE_PACKAGES):
            return 0
        known = self._numbers.get(message.full_name)
        if known is not None:
            return known
        number = self._numbers[message.full_name] = len(self._numbers) + 1
        if message.GetOptions().map_entry:
            self._lines[number] = f"{_quoted(message.name)}, nil, {self._of(message.fields_by_name['value'])}"
            return number
        fields = ", ".join(
            f"[{_quoted(name)}] = {self._of(field)}"
            for field in message.fields
            for name in dict.fromkeys((field.name, field.json_name))
        )
        self._lines[number] = f"{_quoted(message.name)}, {{{fields}}}"
        return number

    def lua(self) -> str:
        """The messages in the order of their numbers."""
        return "\n".join(f"  {{{self._lines[number]}}}," for number in sorted(self._lines))

    def _of(self, field: FieldDescriptor) -> int:
        return self.number(field.message_type) if field.message_type is not None else 0


def _bindings() -> Iterator[tuple[str, str, Descriptor | None, Descriptor | None]]:
    """Verb and Lua pattern of the path of every method, with the messages of its body and its query; None where there
    is none or it is not looked into."""
    for service in chain(control_services(), [prediction_service()]):
        for method in service.methods:
            for rule in _rules(method):
                verb = str(rule.WhichOneof("pattern"))
                if verb in _VERBS:
                    # Files are read piece by piece.
                    body = None if method.client_streaming else _body(method, rule.body)
                    query = None if rule.body == "*" else method.input_type
                    yield verb, _lua_pattern(getattr(rule, verb)), body, query


def _rules(method: MethodDescriptor) -> Iterator[http_pb2.HttpRule]:
    rule = method.GetOptions().Extensions[annotations_pb2.http]
    yield rule
    yield from rule.additional_bindings


def _body(method: MethodDescriptor, body: str) -> Descriptor | None:
    if body in ("", "*"):
        return method.input_type if body else None
    message: Descriptor | None = method.input_type.fields_by_name[body].message_type
    return message


def _lua_pattern(template: str) -> str:
    """`/v1/models/{name}:share` as a Lua pattern. Variables of our contracts are one segment each."""
    pieces = re.split(r"(\{[^}=]+\})", template)
    return "^" + "".join("[^/]+" if one.startswith("{") else _SPECIAL.sub(r"%\g<0>", one) for one in pieces) + "$"


def _quoted(text: str) -> str:
    return f'"{text}"'
