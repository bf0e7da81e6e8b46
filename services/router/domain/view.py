"""What callers are shown of a model's traffic."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.router.domain.conditions import RouteCondition
from services.router.domain.merge import ModelState
from services.router.domain.places import counted, moved_places
from services.router.domain.rules import Rule, Split, Strategy, etag_of
from services.router.domain.shadows import Shadow


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
    """What is so about the rule; those of routing are `route_conditions`."""
    revision: int
    route_conditions: tuple[RouteCondition, ...] = ()
    shadows: tuple[Shadow, ...] = ()

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
        route_conditions=split.conditions,
        shadows=split.shadows,
    )


def moved_percent(before: Split, after: Split) -> int:
    """How much of the traffic gets another version. Of sticky traffic: how much of the keys, out of their places."""
    if Strategy.STICKY in (before.strategy, after.strategy) and before.runs and after.runs:
        return moved_places(before.runs, after.runs)
    return sum(max(0, weight - before.positive.get(version, 0)) for version, weight in after.positive.items())


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
    if after.sticky_header:
        said.append(_keys(before, after))
    return [sentence for sentence in (*said, *_of_conditions(before, after), *_of_shadows(before, after)) if sentence]


def _keys(before: Split, after: Split) -> str:
    if before.sticky_header not in ("", after.sticky_header):
        return f"keys of {after.sticky_header} count in place of those of {before.sticky_header}, so all are dealt anew"
    if before.sticky_header and before.runs and before.runs != after.runs:
        moved = moved_places(before.runs, after.runs)
        return f"{moved} % of the keys of {after.sticky_header} move to another version, {100 - moved} % stay"
    return ""


def _of_conditions(before: Split, after: Split) -> Sequence[str]:
    if before.conditions == after.conditions:
        return ()
    gone = [f"no longer: {one}" for one in before.conditions if one not in after.conditions]
    new = [f"condition {place}: {one}" for place, one in enumerate(after.conditions, 1) if one not in before.conditions]
    return [*gone, *new] or ["the conditions are asked in another order"]


def _of_shadows(before: Split, after: Split) -> Sequence[str]:
    was = {shadow.version: shadow for shadow in before.shadows}
    now = {shadow.version: shadow for shadow in after.shadows}
    said = [f"{version} gets no copies any more" for version in was if version not in now]
    for version, shadow in now.items():
        known = was.get(version)
        if known is None or known.percent != shadow.percent:
            said.append(f"{shadow} instead of {known.percent if known is not None else 0} %")
        if known is not None and known.comparison != shadow.comparison:
            said.append(f"the answers of {version} to copies are compared in another way")
    return said


def _honoured(rule: Rule, state: ModelState | None) -> StatusCondition:
    if state is None:
        return StatusCondition("Honoured", False, "ModelNotServed", "nothing of the model is ready; the rule is kept")
    said = [*_displaced(rule, state), *_skipped(rule.split, state.routes.versions)]
    if not said:
        return StatusCondition("Honoured", True, "AsAsked", "gateways use the shares that were asked for")
    return StatusCondition("Honoured", False, "VersionNotReady", "; ".join(said))


def _displaced(rule: Rule, state: ModelState) -> Sequence[str]:
    if not state.displaced:
        return ()
    gone = ", ".join(f"{version} ({rule.split.weights[version]} %)" for version in state.displaced)
    taken = ", ".join(f"{version} {percent} %" for version, percent in counted(state.routes.shares).items())
    return [f"{gone} has a share but is not ready; until it is, the shares are {taken}"]


def _skipped(split: Split, ready: Sequence[str]) -> Sequence[str]:
    return [
        *(
            f"condition {place} is skipped while {one.version} is not ready"
            for place, one in enumerate(split.conditions, 1)
            if one.version not in ready
        ),
        *(f"{one.version} gets no copies while it is not ready" for one in split.shadows if one.version not in ready),
    ]


def _propagated(behind: Sequence[str]) -> StatusCondition:
    if not behind:
        return StatusCondition("Propagated", True, "Acknowledged", "every connected batcher and gateway has it")
    return StatusCondition(
        "Propagated", False, "NotAcknowledged", f"not acknowledged yet by {', '.join(sorted(behind))}"
    )
