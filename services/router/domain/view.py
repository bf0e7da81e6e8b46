"""What callers are shown of a model's traffic."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.router.domain.merge import ModelState
from services.router.domain.places import counted
from services.router.domain.rules import Rule, Split, Strategy, etag_of


@dataclass(frozen=True, slots=True)
class StatusCondition:
    """One thing that is so about a rule now."""

    kind: str
    holds: bool
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class TrafficView:
    """The traffic of a model."""

    model_name: str
    split: Mapping[str, int]
    effective: Mapping[str, int]
    strategy: Strategy
    sticky_header: str
    ready: tuple[str, ...]
    rule: Rule | None
    conditions: tuple[StatusCondition, ...]
    revision: int

    @property
    def etag(self) -> str:
        """The etag of the rule."""
        return etag_of(self.rule.generation if self.rule is not None else 0)


def split_in_force(rule: Rule | None, state: ModelState | None) -> Split:
    """The split that holds: the rule's, else all for the default."""
    if rule is not None:
        return rule.split
    return Split({state.serving.default_version: 100} if state is not None else {})


def traffic_view(
    model_name: str, rule: Rule | None, state: ModelState | None, *, revision: int, behind: Sequence[str]
) -> TrafficView:
    """How the model stands. `behind`: who has not acknowledged `revision` yet."""
    split = split_in_force(rule, state)
    conditions = [] if rule is None else [_honoured(rule, state)]
    return TrafficView(
        model_name=model_name,
        split=split.positive,
        effective=counted(state.routes.shares) if state is not None else {},
        strategy=split.strategy,
        sticky_header=split.sticky_header,
        ready=state.routes.versions if state is not None else (),
        rule=rule,
        conditions=(*conditions, _propagated(behind)),
        revision=revision,
    )


def moved_percent(before: Mapping[str, int], after: Mapping[str, int]) -> int:
    """How much of the traffic gets another version."""
    return sum(max(0, weight - before.get(version, 0)) for version, weight in after.items())


def change_sentences(before: Split, after: Split) -> Sequence[str]:
    """One sentence for each thing that is different."""
    said = [
        f"{version} goes from {before.weights.get(version, 0)} % to {after.weights.get(version, 0)} %"
        for version in sorted({*before.weights, *after.weights})
        if before.weights.get(version, 0) != after.weights.get(version, 0)
    ]
    if before.strategy is not after.strategy:
        said.append(f"the version is chosen by {after.strategy!s} instead of {before.strategy!s}")
    if before.sticky_header != after.sticky_header and after.sticky_header:
        said.append(f"the header {after.sticky_header} decides")
    return said


def _honoured(rule: Rule, state: ModelState | None) -> StatusCondition:
    if state is None:
        return StatusCondition("Honoured", False, "ModelNotServed", "nothing of the model is ready; the rule is kept")
    if not state.displaced:
        return StatusCondition("Honoured", True, "AsAsked", "gateways use the shares that were asked for")
    gone = ", ".join(f"{version} ({rule.split.weights[version]} %)" for version in state.displaced)
    taken = ", ".join(f"{version} {percent} %" for version, percent in counted(state.routes.shares).items())
    return StatusCondition(
        "Honoured",
        False,
        "VersionNotReady",
        f"{gone} has a share but is not ready; until it is, the shares are {taken}",
    )


def _propagated(behind: Sequence[str]) -> StatusCondition:
    if not behind:
        return StatusCondition("Propagated", True, "Acknowledged", "every connected batcher and gateway has it")
    return StatusCondition(
        "Propagated", False, "NotAcknowledged", f"not acknowledged yet by {', '.join(sorted(behind))}"
    )
