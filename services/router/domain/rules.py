"""The rule of a model: what is wanted of its traffic, and how that changed."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from services.router.domain.conditions import RouteCondition
from services.router.domain.places import Runs, counted, in_order, reassigned
from services.router.domain.shadows import Shadow

SPLIT_RULE = "split"
"""Name and type of the rule that holds a model's plain shares."""
SHADOW_RULE = "shadow"
"""Name and type under which the shadows of that rule are shown."""
STICKY_HEADER_DEFAULT = "x-user-id"
VERSIONS_MAX = 32
"""The most versions that one split may name."""


class Strategy(StrEnum):
    """How the version of a request is chosen within the shares."""

    RANDOM = "random"
    WEIGHTED = "weighted"
    """The same by another name."""
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
    conditions: tuple[RouteCondition, ...] = ()
    """The first that matches decides, before the shares."""
    shadows: tuple[Shadow, ...] = ()

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
class ChangeMark:
    """That a rule was changed."""

    change_id: int
    model_name: str
    generation: int
    """Of the rule, after it."""


@dataclass(frozen=True, slots=True)
class ShownRule:
    """A rule as those see it who list a model's rules: its split, its shadows, and every rollout it had."""

    rule_id: str
    model_name: str
    rule_name: str
    rule_type: str
    """"split", "shadow", "canary" or "ab_test"."""
    weights: Mapping[str, int]
    """Whole percent by version; of shadows what is copied to each."""
    strategy: str
    sticky_header: str
    conditions: tuple[RouteCondition, ...]
    start_time: datetime
    end_time: datetime | None
    status: str
    """"active", "paused" or "completed"."""
    success_criteria: str
    """A JSON object, `infermesh.router.v1.SuccessCriteria`; empty: none."""
    auto_promote: bool
    created_by: str
    created_at: datetime
    updated_at: datetime


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
