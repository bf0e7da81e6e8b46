"""Feature views between their domain and protobuf forms."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct
from infermesh.common.v1 import feature_pb2

from services.common.errors import invalid
from services.common.feature_view import FeatureStoreKind, FeatureView, OnMissing

W = TypeVar("W", FeatureStoreKind, OnMissing)


def views_to_proto(views: Iterable[FeatureView]) -> list[feature_pb2.FeatureView]:
    """The wire form of views."""
    return [_to_proto(view) for view in views]


def views_from_proto(messages: Sequence[feature_pb2.FeatureView]) -> tuple[FeatureView, ...]:
    """The domain form of views, in alphabetical order. Raises INVALID_FIELD where a word is none that we know."""
    views = [_from_proto(message, f"feature_views[{place}]") for place, message in enumerate(messages)]
    return tuple(sorted(views, key=lambda view: view.name))


def _to_proto(view: FeatureView) -> feature_pb2.FeatureView:
    message = feature_pb2.FeatureView(
        name=view.name,
        entity=view.entity,
        features=view.features,
        store=view.store,
        on_missing=view.on_missing,
        max_age_s=view.max_age_s,
    )
    if view.defaults:
        defaults = Struct()
        defaults.update(dict(view.defaults))  # type: ignore[arg-type]
        message.defaults.CopyFrom(defaults)
    return message


def _from_proto(message: feature_pb2.FeatureView, field: str) -> FeatureView:
    try:
        defaults = json_format.MessageToDict(message.defaults)
    except (ValueError, json_format.Error):
        raise invalid(f"{field}.defaults", "a number that is not finite", "finite numbers") from None
    return FeatureView(
        name=message.name,
        entity=message.entity,
        features=dict(message.features),
        store=_word(FeatureStoreKind, message.store or FeatureStoreKind.REDIS, f"{field}.store"),
        on_missing=_word(OnMissing, message.on_missing or OnMissing.ERROR, f"{field}.on_missing"),
        defaults=defaults,
        max_age_s=message.max_age_s,
    )


def _word(kind: type[W], value: str, field: str) -> W:
    try:
        return kind(value)
    except ValueError:
        raise invalid(field, value, "one of " + ", ".join(kind)) from None
