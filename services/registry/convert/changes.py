"""Changes, searches and aliases between their protobuf and domain forms."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from google.protobuf import field_mask_pb2
from infermesh.registry.v1 import model_pb2, model_version_pb2, registry_service_pb2

from services.common.errors import invalid
from services.registry.convert.values import timestamp
from services.registry.domain.alias import Alias, AliasMove
from services.registry.domain.lineage import parse_nodes
from services.registry.domain.metadata import check_tags
from services.registry.domain.registration import DESCRIPTION_LENGTH_MAX, check_card
from services.registry.domain.search import Search, parse_comparisons, parse_order
from services.registry.domain.version import Model, Version
from services.registry.domain.violations import Violations
from services.registry.engines.reading import Comparison

_MODEL_FIELDS = ("description", "tags", "model_card")


def model_change_from_proto(message: registry_service_pb2.UpdateModelRequest) -> Callable[[Model], Model]:
    """What an update makes of the current model. Raises INVALID_FIELD."""
    sent, found = message.model, Violations()
    paths = _paths(message.update_mask, [field.name for field, _ in sent.ListFields()], _MODEL_FIELDS)
    if "description" in paths:
        found.at_most("model.description", sent.description, DESCRIPTION_LENGTH_MAX)
    if "model_card" in paths:
        check_card(sent.model_card, found)
    if "tags" in paths:
        found.check(lambda: check_tags(sent.tags, "model.tags"))
    found.raise_if_any()

    def change(current: Model) -> Model:
        return replace(
            current,
            description=sent.description if "description" in paths else current.description,
            tags=check_tags(sent.tags, "model.tags") if "tags" in paths else current.tags,
            model_card=sent.model_card if "model_card" in paths else current.model_card,
        )

    return change


def card_change_from_proto(message: registry_service_pb2.UpdateModelVersionRequest) -> Callable[[Version], Version]:
    """What an update makes of the current version. Raises INVALID_FIELD."""
    _paths(message.update_mask, (), ("model_card",))
    found = Violations()
    check_card(message.model_version.model_card, found)
    found.raise_if_any()
    return lambda current: replace(current, model_card=message.model_version.model_card)


def search_from_proto(message: registry_service_pb2.SearchModelsRequest) -> Search:
    """What a search asks for. Raises INVALID_FIELD."""
    return Search(
        words=tuple(message.query.split()),
        prefix=message.name_prefix,
        tags=tuple(message.tags),
        framework=message.framework,
        stage=message.stage,
        of_team=message.team,
        alias=message.alias,
        metrics=parse_comparisons(message.metrics),
        lineage=parse_nodes(message.lineage),
        latest_only=message.latest_only,
        order=parse_order(message.order_by),
    )


def comparison_to_proto(comparison: Comparison) -> registry_service_pb2.CompareSchemasResponse:
    """The wire form of how two schemas differ."""
    changes = [
        model_version_pb2.SchemaChange(
            side=one.side,
            name=one.name,
            kind=one.kind,
            before=one.before,
            after=one.after,
            breaking=one.breaking,
            advice=one.advice,
        )
        for one in comparison.differences
    ]
    compatible = not any(one.breaking for one in comparison.differences)
    return registry_service_pb2.CompareSchemasResponse(
        base_version=comparison.base_version, compatible=compatible, changes=changes
    )


def alias_to_proto(alias: Alias) -> model_pb2.Alias:
    """The wire form of an alias."""
    return model_pb2.Alias(
        model_name=alias.model_name,
        alias=alias.alias,
        version=alias.version,
        updated_by=alias.updated_by,
        updated_at=timestamp(alias.updated_at),
        etag=alias.etag,
    )


def alias_move_to_proto(move: AliasMove) -> model_pb2.AliasMove:
    """The wire form of a move."""
    return model_pb2.AliasMove(
        from_version=move.from_version,
        to_version=move.to_version,
        reason=move.reason,
        moved_by=move.moved_by,
        moved_at=timestamp(move.moved_at),
    )


def _paths(mask: field_mask_pb2.FieldMask, filled: Sequence[str], allowed: Sequence[str]) -> Sequence[str]:
    """The fields to take: those that the mask names, or without one those that are filled."""
    for path in mask.paths:
        if path not in allowed:
            raise invalid("update_mask", path, "paths of " + ", ".join(allowed))
    return list(mask.paths) or [name for name in filled if name in allowed]
