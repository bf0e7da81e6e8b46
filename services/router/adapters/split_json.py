"""Splits as JSON, the way rules and their history keep them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from services.router.domain.conditions import RouteCondition
from services.router.domain.places import PLACES, Runs, reassigned
from services.router.domain.routing import Share
from services.router.domain.rules import Split, Strategy
from services.router.domain.shadows import Comparison, Shadow


def split_to_json(split: Split) -> dict[str, object]:
    """A split as an object; `split_from_json` reads it."""
    return {
        "version_weights": dict(split.positive),
        "version_order": list(split.weights),
        "places": [[run.version, run.percent] for run in split.runs],
        "routing_strategy": split.strategy.value,
        "sticky_key_header": split.sticky_header,
        "conditions": [asdict(condition) for condition in split.conditions],
        "shadows": [asdict(shadow) for shadow in split.shadows],
    }


def split_from_json(value: Mapping[str, Any]) -> Split:
    """The split; `value` has the columns of `traffic_rules`, or their names as keys."""
    stored: Mapping[str, int] = value["version_weights"]
    # PostgreSQL orders the keys of an object as it likes.
    weights = {version: stored.get(version, 0) for version in (*value["version_order"], *stored)}
    return Split(
        weights=weights,
        strategy=Strategy(value["routing_strategy"]),
        sticky_header=value["sticky_key_header"],
        runs=_runs(value.get("places") or (), weights),
        conditions=conditions_from_json(value.get("conditions") or ()),
        shadows=tuple(_shadow(one) for one in value.get("shadows") or ()),
    )


def conditions_from_json(value: Sequence[Mapping[str, Any]]) -> tuple[RouteCondition, ...]:
    """Conditions of routing."""
    return tuple(
        RouteCondition(
            attribute=one["attribute"], values=tuple(one["values"]), version=one["version"], prefix=one["prefix"]
        )
        for one in value
    )


def _runs(value: Sequence[Sequence[Any]], weights: Mapping[str, int]) -> Runs:
    """Who owns which place. () where none are kept, as from before they were: they are then those of the order. Where
    the weights were changed without them, by an older router or by hand, as few as possible change hands."""
    runs = tuple(Share(version, percent) for version, percent in value)
    whole = sum(run.percent for run in runs) == PLACES == sum(weights.values())
    return reassigned(runs, weights) if whole else ()


def _shadow(value: Mapping[str, Any]) -> Shadow:
    return Shadow(value["version"], value["percent"], Comparison(**value["comparison"]))
