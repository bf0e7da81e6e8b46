"""What people are told of canaries: sentences with the figures, and the events that the monitor raises alerts by."""

import uuid
from collections.abc import Sequence
from datetime import datetime

from services.router.domain.canary import Canary
from services.router.domain.criteria import UNBOUNDED, CriterionResult, Verdict
from services.router.domain.rollouts import RolloutEvent, Severity

_EVENTS = uuid.UUID("7c3f5d0e-52a1-5f0c-9a55-3f1f0c6a0001")
_SHOWN_MAX = 3

BROKEN = "the new version behaves otherwise than the one before it; it stays deployed and can be asked by name"
GONE = "its deployment was deleted or failed, or its model server does not come back"
STARVED = "too few requests or outcomes, figures too near a limit, or no evidence from the monitor"


def breach_reason(canary: Canary, broken: Sequence[CriterionResult]) -> str:
    """Why it is rolled back: the limits that it broke."""
    said = "; ".join(_figures(result) for result in broken[:_SHOWN_MAX])
    return f"{canary.version} broke {said}, at {canary.percent} % of the traffic"


def starved_reason(canary: Canary, results: Sequence[CriterionResult] | None, *, requests: int) -> str:
    """Why it is rolled back: nothing was decided in time."""
    held = f"held for {canary.config.hold_s / 60:g} minutes and still not decided"
    return f"{canary.version} at {canary.percent} % of the traffic was {held}: {_missing(canary, results, requests)}"


def failed_event(canary: Canary, reason: str, now: datetime, *, cause: str, value: float = 0.0) -> RolloutEvent:
    """It was rolled back by itself."""
    return _event(
        canary,
        now,
        "canary_failed",
        Severity.CRITICAL,
        f"the canary of {canary.model_name} was rolled back: {reason}; the shares before it are back",
        cause=cause,
        undo=f"infermesh traffic undo {canary.model_name}",
        value=value,
    )


def held_event(
    canary: Canary, results: Sequence[CriterionResult] | None, now: datetime, *, requests: int
) -> RolloutEvent:
    """Its stage is over and nothing is decided."""
    ends = f"{canary.hold_ends_at:%Y-%m-%d %H:%M} UTC" if canary.hold_ends_at is not None else "never"
    return _event(
        canary,
        now,
        "canary_held",
        Severity.WARNING,
        f"the canary of {canary.model_name}, {canary.version}, is held at {canary.percent} %: "
        f"{_missing(canary, results, requests)}; it is rolled back at {ends} if nothing is decided until then",
        cause=STARVED,
        undo=f"infermesh canary abort {canary.model_name}",
    )


def freed_event(canary: Canary, why: str, now: datetime) -> RolloutEvent:
    """It is held no longer: the alert that said so is over."""
    return _event(
        canary,
        now,
        "canary_held",
        Severity.INFO,
        f"the canary of {canary.model_name}, {canary.version}, is held no longer at {canary.percent} %: {why}",
    )


def promoted_event(canary: Canary, why: str, now: datetime) -> RolloutEvent:
    """It has all traffic."""
    return _event(
        canary,
        now,
        "canary_promoted",
        Severity.INFO,
        f"the canary of {canary.model_name}, {canary.version}, has all traffic: {why}",
        undo=f"infermesh rollback {canary.model_name} {canary.baseline_version}",
    )


def aborted_event(canary: Canary, why: str, now: datetime) -> RolloutEvent:
    """Someone ended it."""
    return _event(
        canary,
        now,
        "rolled_back",
        Severity.INFO,
        f"the canary of {canary.model_name}, {canary.version}, was ended at {canary.percent} %: {why}",
    )


def _event(
    canary: Canary,
    now: datetime,
    kind: str,
    severity: Severity,
    summary: str,
    *,
    cause: str = "",
    undo: str = "",
    value: float = 0.0,
) -> RolloutEvent:
    # The same decision made twice is the same event.
    what = f"{canary.canary_id}/{kind}/{severity}/{canary.stage}/{canary.stage_started_at.isoformat()}"
    return RolloutEvent(
        event_id=str(uuid.uuid5(_EVENTS, what)),
        kind=kind,
        model_name=canary.model_name,
        version=canary.version,
        subject=canary.canary_id,
        severity=severity,
        summary=summary,
        time=now,
        probable_cause=cause,
        undo_command=undo,
        value=value,
    )


def _missing(canary: Canary, results: Sequence[CriterionResult] | None, requests: int) -> str:
    if results is None:
        return "there is no evidence from the monitor"
    least = canary.config.criteria.requests_min
    if requests < least:
        return f"{requests} requests were seen where at least {least} are needed"
    waiting = [result for result in results if result.verdict is not Verdict.PASSING]
    if not waiting:
        return "the evidence is not complete, or does not reach to the end of the stage"
    return "; ".join(_figures(result) for result in waiting[:_SHOWN_MAX])


def _figures(result: CriterionResult) -> str:
    low = f"{result.low:.4g}" if result.low > -UNBOUNDED else "anything"
    high = f"{result.high:.4g}" if result.high < UNBOUNDED else "anything"
    said = f"{result.criterion} {result.limit:g}: {result.measured:.4g} in {result.request_count:g} samples"
    if result.request_count:
        said += f", truly between {low} and {high}"
    return f"{said}; the version before has {result.baseline:.4g}" if result.baseline else said
