"""What callers want of a model's traffic: shares, how a version is chosen within them, and what may be asked for."""

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from services.common.errors import MeshError, Reason, invalid
from services.common.names import check_version
from services.router.domain.places import Runs, counted, in_order, reassigned

SPLIT_RULE = "split"
"""Name and type of the rule that holds a model's plain shares."""
STICKY_HEADER_DEFAULT = "x-user-id"
VERSIONS_MAX = 32
"""The most versions that one split may name."""
_HEADER = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_SHOWN_MAX = 200


class Strategy(StrEnum):
    """How the version of a request is chosen within the shares."""

    RANDOM = "random"
    STICKY = "sticky"


@dataclass(frozen=True, slots=True)
class Split:
    """What is wanted of a model's traffic. `with_weights` changes its shares and moves as few keys as can be."""

    weights: Mapping[str, int]
    """Whole percent by version, adding up to 100, in order of precedence (see `places`); a version with 0 keeps its
    place in it."""
    strategy: Strategy = Strategy.RANDOM
    sticky_header: str = ""
    runs: Runs = ()
    """Who owns which place. () when it is made: each version has one run, in the order of `weights`."""

    def __post_init__(self) -> None:
        """Raises ValueError where weights and places contradict each other."""
        if not self.runs:
            object.__setattr__(self, "runs", in_order(self.weights))
        elif counted(self.runs) != self.positive:
            raise ValueError(f"the places {self.runs} are not those of the weights {self.weights}")

    @property
    def positive(self) -> Mapping[str, int]:
        """The versions that have a share."""
        return {version: weight for version, weight in self.weights.items() if weight}

    def same_as(self, other: "Split | None") -> bool:
        """Whether both do the same, to every key."""
        return other is not None and replace(self, weights=self.positive) == replace(other, weights=other.positive)


def with_weights(before: Split, weights: Mapping[str, int]) -> Split:
    """`before` with other shares; everything else stays, and as few places as possible change hands.

    `weights` are whole percent by canonical version that add up to 100; versions that it does not name get none. New
    versions precede those that were there (of several, the lower version); who had a share once keeps its rank.
    """
    new = sorted(version for version in weights if version not in before.weights)
    rank = {version: weights.get(version, 0) for version in (*new, *before.weights)}
    # Whoever has had nothing for longest is forgotten first: it stands furthest behind.
    idle = [version for version in rank if version not in weights and not before.weights.get(version)]
    for version in idle[::-1][: max(0, len(rank) - VERSIONS_MAX)]:
        del rank[version]
    return replace(before, weights=rank, runs=reassigned(before.runs, rank))


@dataclass(frozen=True, slots=True)
class Rule:
    """The split that is kept for a model."""

    rule_id: str
    model_name: str
    deployment_name: str
    split: Split
    generation: int
    """How often it was changed; begins at 1."""
    created_by: str
    created_at: datetime
    updated_by: str
    updated_at: datetime
    reason: str = ""
    governing: str = ""
    """The name of the rollout, a canary or an A/B test, that decides the shares at the moment; empty: none does."""
    log_labels: bool = False
    """Whether batchers must log what was predicted, because outcomes are waited for."""

    @property
    def etag(self) -> str:
        """Changes with every change."""
        return etag_of(self.generation)


def etag_of(generation: int) -> str:
    """The etag of a rule; generation 0 is that of a model without one."""
    return f"g{generation}"


@dataclass(frozen=True, slots=True)
class Change:
    """A change of a rule that happened."""

    change_id: int
    model_name: str
    deployment_name: str
    time: datetime
    action: str
    actor: str
    reason: str
    before: Split
    after: Split
    etag: str


@dataclass(frozen=True, slots=True)
class NewChange:
    """A change that is wanted."""

    model_name: str
    deployment_name: str
    action: str
    actor: str
    reason: str
    before: Split
    """What held, the default included."""
    after: Split
    request_id: str = ""
    """Empty: the call cannot be repeated safely."""
    request_digest: str = ""
    """Tells whether a repeated call asks for the same."""
    governing: str = ""
    """See `Rule.governing`."""
    log_labels: bool = False
    """See `Rule.log_labels`."""


@dataclass(frozen=True, slots=True)
class SplitWish:
    """What a call asks for; empty fields stay as they are."""

    weights: Mapping[str, int] = field(default_factory=dict)
    strategy: str = ""
    sticky_header: str = ""


def wanted_split(wish: SplitWish, before: Split) -> Split:
    """The split that `wish` makes of `before`. Raises WEIGHTS_INVALID, INVALID_FIELD or NOT_IMPLEMENTED."""
    if not wish.weights and not wish.strategy and not wish.sticky_header:
        raise MeshError(
            Reason.WEIGHTS_INVALID,
            "traffic_split is empty; give whole percentages by version that add up to 100, "
            'for instance {"v1.0.0": 90, "v1.1.0": 10}',
        )
    strategy = _strategy(wish.strategy) if wish.strategy else before.strategy
    header = wish.sticky_header
    if header and strategy is not Strategy.STICKY:
        raise invalid("sticky_key_header", header, 'a header only with the routing_strategy "sticky"')
    if header and _HEADER.fullmatch(header) is None:
        raise invalid("sticky_key_header", header, "1 to 64 of a-z, 0-9 and '-', such as \"x-user-id\"")
    if strategy is Strategy.STICKY:
        header = header or before.sticky_header or STICKY_HEADER_DEFAULT
    weights = checked_weights(wish.weights) if wish.weights else before.weights
    return with_weights(replace(before, strategy=strategy, sticky_header=header), weights)


def checked_weights(weights: Mapping[str, int]) -> Mapping[str, int]:
    """`weights` by canonical version. Raises WEIGHTS_INVALID or INVALID_FIELD."""
    if len(weights) > VERSIONS_MAX:
        raise invalid("traffic_split", f"{len(weights)} versions", f"at most {VERSIONS_MAX} versions")
    checked: dict[str, int] = {}
    for text, weight in weights.items():
        version = check_version(text, f"traffic_split[{text!r}]")
        if version in checked:
            raise invalid("traffic_split", text, f"each version once; it names {version} twice")
        checked[version] = weight
    if sum(checked.values()) != 100 or any(not 0 <= weight <= 100 for weight in checked.values()):
        shown = str(dict(weights))[:_SHOWN_MAX]
        raise MeshError(
            Reason.WEIGHTS_INVALID,
            f"traffic_split is {shown}, which adds up to {sum(checked.values())}; "
            "give whole percentages from 0 to 100 that add up to 100",
        )
    return checked


def check_ready(weights: Mapping[str, int], ready: Collection[str], model_name: str) -> None:
    """Raises VERSION_NOT_DEPLOYED where a version of `weights` is not ready; also where its share is 0, because a name
    that nobody knows is a mistake."""
    missing = [version for version in weights if version not in ready]
    if missing:
        raise MeshError(
            Reason.VERSION_NOT_DEPLOYED,
            f"traffic_split names {', '.join(missing)}, of which no deployment of model {model_name!r} is ready; "
            f"ready are {', '.join(ready)}; deploy it and wait until it is active",
            metadata={"model_name": model_name, "version": missing[0]},
        )


def _strategy(text: str) -> Strategy:
    if text == "round_robin":
        raise MeshError(
            Reason.NOT_IMPLEMENTED,
            'routing_strategy "round_robin" is not built yet; "random" gives the same shares over many requests',
        )
    if text not in tuple(Strategy):
        raise invalid("routing_strategy", text, ", ".join((*Strategy, "round_robin")))
    return Strategy(text)


def request_digest(action: str, model_name: str, wish: SplitWish) -> str:
    """Equal for calls that ask for the same."""
    asked = [action, model_name, sorted(wish.weights.items()), wish.strategy, wish.sticky_header]
    return hashlib.sha256(json.dumps(asked, separators=(",", ":")).encode()).hexdigest()
