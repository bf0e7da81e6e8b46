"""What becomes of a canary: pure functions of how it is, what was seen of it, and what time it is.

A stage passes when its time is over and every limit is shown to be kept, by evidence that reaches to its end. A limit
that is shown to be broken ends the canary at any moment. What is neither is held, and after a time rolled back: nothing
passes or fails for the want of evidence without being said. While nothing can be judged the shares stay as they are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import inf

from services.common.errors import MeshError, Reason
from services.router.domain.canary import (
    EVIDENCE_LAG,
    Canary,
    CanaryConfig,
    CanaryStatus,
    StageOutcome,
    StageRecord,
)
from services.router.domain.canary_words import (
    BROKEN,
    GONE,
    STARVED,
    aborted_event,
    breach_reason,
    failed_event,
    freed_event,
    held_event,
    promoted_event,
    starved_reason,
)
from services.router.domain.criteria import CriterionResult, SuccessCriteria, Verdict
from services.router.domain.rollouts import RolloutEvent
from services.router.domain.rules import Split, with_weights

UNREADY_GRACE_S = 10.0
"""How long the version that is tried may be away, for a restart of its model server, before the canary ends."""
FOLLOWED_MIN_S = 60.0
"""How long a router must have asked for evidence itself before it ends a canary for the want of it: one that has just
begun to lead, maybe with the whole mesh, knows nothing yet."""


@dataclass(frozen=True, slots=True)
class Look:
    """What is known of a canary at a moment."""

    now: datetime
    results: Sequence[CriterionResult] | None = None
    """How it stands against each limit in its stage. None: nothing is judged at the moment."""
    requests: int = 0
    """How many requests of its stage were seen."""
    complete: bool = True
    """Whether nothing that matters is missing from the evidence: what is incomplete condemns, and proves nothing."""
    seen_until: datetime | None = None
    """How far the evidence for that reaches."""
    unready_s: float = 0.0
    """For how long its version has not been ready."""
    followed_s: float = inf
    """For how long whoever looks has asked for evidence on its stage."""


@dataclass(frozen=True, slots=True)
class Step:
    """What happens next."""

    canary: Canary
    shares: Mapping[str, int] | None = None
    """What the model's shares become, in their order. None: they stay. See `split_after`."""
    why: str = ""
    """For the history of the traffic."""
    results: tuple[CriterionResult, ...] | None = None
    """What it shows from then on. None: what it showed."""
    events: tuple[RolloutEvent, ...] = ()


def started(
    *,
    canary_id: str,
    model_name: str,
    deployment_name: str,
    version: str,
    config: CanaryConfig,
    split: Split,
    labels: bool,
    now: datetime,
    reason: str = "",
) -> Step:
    """A canary of `version` and its first stage; `split` is what holds. Raises ROLLOUT_STATE_INVALID where there is no
    other version to take traffic from."""
    others = {name: share for name, share in split.positive.items() if name != version}
    if not others:
        raise MeshError(
            Reason.ROLLOUT_STATE_INVALID,
            f"{version} has all traffic of model {model_name!r} already, so there is nothing to try it against; give "
            "another version the traffic first, or deploy the version to try",
            metadata={"model_name": model_name, "version": version},
        )
    canary = Canary(
        canary_id=canary_id,
        name=f"canary-{canary_id[:8]}",
        model_name=model_name,
        deployment_name=deployment_name,
        version=version,
        baseline_version=max(others, key=lambda name: others[name]),
        config=config,
        shares_before=dict(split.weights),
        places_before=split.runs,
        stage_started_at=now,
        status_reason=reason or f"{version} is tried",
        labels_before=labels,
    )
    step = Step(canary, stage_shares(canary), reason or _stage_sentence(canary), results=())
    return _promoted_at_once(step, now) or step


def decided(canary: Canary, look: Look) -> Step | None:
    """What happens to it now by itself; None: nothing."""
    if not canary.running:
        return None
    if look.unready_s >= UNREADY_GRACE_S:
        reason = (
            f"{canary.version} has not been ready for {look.unready_s:.0f} s, so it could not answer its share of "
            f"{canary.percent} %"
        )
        return _rolled_back(canary, look, StageOutcome.ROLLED_BACK, reason, cause=GONE)
    broken = [result for result in look.results or () if result.verdict is Verdict.BREACHED]
    if broken:
        reason = breach_reason(canary, broken)
        return _rolled_back(canary, look, StageOutcome.BREACHED, reason, cause=BROKEN, value=broken[0].measured)
    if canary.status is CanaryStatus.PAUSED or look.now < canary.stage_ends_at:
        return None
    if _proven(canary, look):
        return _passed(canary, look)
    if canary.held_since is None:
        late = look.now >= canary.stage_ends_at + EVIDENCE_LAG and look.followed_s >= EVIDENCE_LAG.total_seconds()
        return _held(canary, look) if late else None
    if canary.hold_ends_at is not None and look.now >= canary.hold_ends_at and look.followed_s >= FOLLOWED_MIN_S:
        reason = starved_reason(canary, look.results, requests=look.requests)
        return _rolled_back(canary, look, StageOutcome.NOT_ENOUGH_DATA, reason, cause=STARVED)
    return None


def split_after(step: Step, split: Split) -> Split:
    """The model's split after a step; all but the shares stays as it is."""
    if step.shares is None:
        return split
    if step.canary.running or step.canary.status is CanaryStatus.PROMOTED:
        return with_weights(split, step.shares)
    order = (*split.weights, *(version for version in step.shares if version not in split.weights))
    weights = {version: step.shares.get(version, 0) for version in order}
    return replace(split, weights=weights, runs=step.canary.places_before)


def next_look_s(canary: Canary, now: datetime, *, most_s: float) -> float:
    """Seconds until time alone may change something, at most `most_s`."""
    moments = [canary.stage_ends_at, canary.stage_ends_at + EVIDENCE_LAG, canary.hold_ends_at]
    ahead = [(moment - now).total_seconds() for moment in moments if moment is not None and moment > now]
    return min([most_s, *ahead])


def paused(canary: Canary, *, now: datetime, actor: str, reason: str) -> Step:
    """Keeps its share; limits are still watched. A paused one stays as it is. Raises ROLLOUT_STATE_INVALID."""
    _check_running(canary, "paused")
    if canary.status is CanaryStatus.PAUSED:
        return Step(canary)
    why = _by_hand("paused", actor, reason)
    stopped = replace(canary, status=CanaryStatus.PAUSED, status_reason=why, held_since=None)
    return Step(stopped, why=why, events=_freed(canary, why, now))


def resumed(canary: Canary, *, now: datetime, actor: str, reason: str, results: Sequence[CriterionResult] = ()) -> Step:
    """Its stage begins anew. One that is not paused stays as it is. Raises ROLLOUT_STATE_INVALID."""
    _check_running(canary, "resumed")
    if canary.status is CanaryStatus.RUNNING:
        return Step(canary)
    why = _by_hand("resumed", actor, reason)
    anew = _recorded(canary, now, StageOutcome.RESTARTED, results)
    running = replace(anew, status=CanaryStatus.RUNNING, status_reason=why, stage_started_at=now)
    return Step(running, why=why, results=())


def promoted(
    canary: Canary, *, now: datetime, actor: str, reason: str, results: Sequence[CriterionResult] = ()
) -> Step:
    """Gives it all traffic. Raises ROLLOUT_STATE_INVALID."""
    _check_running(canary, "promoted")
    why = _by_hand("promoted", actor, reason)
    return _promoted(canary, now, StageOutcome.PROMOTED, why, results)


def aborted(canary: Canary, *, now: datetime, actor: str, reason: str, results: Sequence[CriterionResult] = ()) -> Step:
    """Ends it; the shares before it come back. Raises ROLLOUT_STATE_INVALID."""
    _check_running(canary, "aborted")
    why = _by_hand("aborted", actor, reason)
    ended = _ended(canary, now, StageOutcome.ABORTED, results, status=CanaryStatus.ABORTED, why=why)
    return Step(ended, canary.shares_before, why, tuple(results), (aborted_event(canary, why, now),))


def overtaken(canary: Canary, *, now: datetime, reason: str, results: Sequence[CriterionResult] = ()) -> Step:
    """Ends it because someone else decided the model's shares meanwhile; those stay."""
    ended = _ended(canary, now, StageOutcome.ABORTED, results, status=CanaryStatus.ABORTED, why=reason)
    return Step(ended, None, reason, tuple(results), (aborted_event(canary, reason, now),))


def stage_shares(canary: Canary) -> Mapping[str, int]:
    """The shares of its stage: its own, and what is left for the others in proportion to what they had before. What
    rounding leaves over goes to the version that it replaces."""
    left = 100 - canary.config.stages[canary.stage].percent
    others = {name: share for name, share in canary.shares_before.items() if name != canary.version}
    total = sum(others.values())
    shares = {name: share * left // total for name, share in others.items()}
    shares[canary.baseline_version] += left - sum(shares.values())
    own = {canary.version: canary.config.stages[canary.stage].percent}
    # A version that was in the split keeps its place in the order; one that was not comes first.
    order = canary.shares_before if canary.version in canary.shares_before else (canary.version, *canary.shares_before)
    return {name: {**shares, **own}[name] for name in order}


def stage_criteria(canary: Canary) -> SuccessCriteria:
    """What its stage is judged by. With all traffic there is nothing left to compare with: limits relative to the other
    version, and to what shadows of it answer, were shown to be kept before."""
    criteria = canary.config.criteria
    if canary.config.stages[canary.stage].percent < 100:
        return criteria
    return replace(criteria.absolute, shadow_disagreement_max=None)


def _proven(canary: Canary, look: Look) -> bool:
    if look.results is None or look.seen_until is None or not look.complete:
        return False
    if look.requests < canary.config.criteria.requests_min:
        return False
    # Evidence is to the second.
    seen_to_the_end = look.seen_until >= canary.stage_ends_at - timedelta(seconds=1)
    return seen_to_the_end and all(result.verdict is Verdict.PASSING for result in look.results)


def _passed(canary: Canary, look: Look) -> Step:
    results = tuple(look.results or ())
    if canary.last_stage:
        why = f"{canary.version} kept its limits in all stages"
        return _promoted(canary, look.now, StageOutcome.PASSED, why, results)
    done = _recorded(canary, look.now, StageOutcome.PASSED, results)
    following = replace(done, stage=canary.stage + 1, stage_started_at=look.now)
    why = f"{canary.version} kept its limits at {canary.percent} %; {_stage_sentence(following)}"
    step = Step(replace(following, status_reason=why), stage_shares(following), why, (), _freed(canary, why, look.now))
    return _promoted_at_once(step, look.now, results) or step


def _promoted_at_once(step: Step, now: datetime, results: Sequence[CriterionResult] = ()) -> Step | None:
    """A last stage without duration proves nothing more: it is the promotion."""
    canary = step.canary
    if not canary.last_stage or canary.config.stages[canary.stage].duration_s:
        return None
    why = f"{canary.version} kept its limits in all stages" if canary.stage else step.why
    return _promoted(canary, now, StageOutcome.PROMOTED, why, results)


def _promoted(
    canary: Canary, now: datetime, outcome: StageOutcome, why: str, results: Sequence[CriterionResult]
) -> Step:
    ended = _ended(canary, now, outcome, results, status=CanaryStatus.PROMOTED, why=why)
    shares = {**dict.fromkeys(stage_shares(canary), 0), canary.version: 100}
    return Step(ended, shares, why, tuple(results), (promoted_event(canary, why, now),))


def _held(canary: Canary, look: Look) -> Step:
    held = replace(canary, held_since=look.now)
    return Step(
        held,
        results=tuple(look.results or ()),
        events=(held_event(held, look.results, look.now, requests=look.requests),),
    )


def _freed(canary: Canary, why: str, now: datetime) -> tuple[RolloutEvent, ...]:
    return (freed_event(canary, why, now),) if canary.held_since is not None else ()


def _rolled_back(
    canary: Canary, look: Look, outcome: StageOutcome, reason: str, *, cause: str, value: float = 0.0
) -> Step:
    results = tuple(look.results or ())
    ended = _ended(canary, look.now, outcome, results, status=CanaryStatus.ROLLED_BACK, why=reason)
    event = failed_event(canary, reason, look.now, cause=cause, value=value)
    return Step(ended, canary.shares_before, reason, results, (event,))


def _ended(
    canary: Canary,
    now: datetime,
    outcome: StageOutcome,
    results: Sequence[CriterionResult],
    *,
    status: CanaryStatus,
    why: str,
) -> Canary:
    return replace(_recorded(canary, now, outcome, results), status=status, status_reason=why)


def _recorded(canary: Canary, now: datetime, outcome: StageOutcome, results: Sequence[CriterionResult]) -> Canary:
    percent = canary.config.stages[canary.stage].percent
    record = StageRecord(canary.stage, percent, canary.stage_started_at, now, outcome, tuple(results))
    return replace(canary, history=(*canary.history, record), held_since=None)


def _check_running(canary: Canary, wish: str) -> None:
    if not canary.running:
        raise MeshError(
            Reason.ROLLOUT_STATE_INVALID,
            f"the last canary of model {canary.model_name!r} is {canary.status} and cannot be {wish}; start another "
            "one with UpdateTraffic and canary_config",
            metadata={"model_name": canary.model_name, "status": canary.status},
        )


def _stage_sentence(canary: Canary) -> str:
    stages = canary.config.stages
    return f"stage {canary.stage + 1} of {len(stages)} gives it {stages[canary.stage].percent} %"


def _by_hand(what: str, actor: str, reason: str) -> str:
    said = f"{what} by {actor or 'hand'}"
    return f"{said}: {reason}" if reason else said
