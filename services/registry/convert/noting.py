"""Resources as the audit log keeps them: the JSON of the contract, without where this host has its files."""

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from services.registry.convert.changes import alias_to_proto
from services.registry.convert.versions import model_to_proto, version_to_proto
from services.registry.domain.alias import Alias
from services.registry.domain.changes import noted
from services.registry.domain.version import JsonObject, Model, Version

_OF_THE_HOST = ("artifact_path", "stored_uri")


def noted_version(version: Version) -> JsonObject:
    """A version."""
    return noted_message(version_to_proto(version, lambda _digest: ""))


def noted_model(model: Model) -> JsonObject:
    """A model."""
    return noted_message(model_to_proto(model))


def noted_alias(alias: Alias) -> JsonObject:
    """An alias."""
    return noted_message(alias_to_proto(alias))


def noted_message(message: Message) -> JsonObject:
    """Any resource; the caller has left out its secrets."""
    fields = MessageToDict(message, preserving_proto_field_name=True)
    return noted({name: value for name, value in fields.items() if name not in _OF_THE_HOST})
