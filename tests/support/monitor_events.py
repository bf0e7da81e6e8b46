"""Makes events of rollouts for the monitor's tests."""

from datetime import datetime, timedelta

from infermesh.monitor.v1 import rollout_event_pb2

from services.monitor.domain.alerts import RolloutEvent
from tests.support.clock import NOON


def event(
    event_id: str,
    kind: str = "canary_failed",
    *,
    severity: str = "critical",
    subject: str = "canary-1",
    model: str = "digits",
    summary: str = "it failed",
    after_s: float = 0.0,
) -> RolloutEvent:
    """An event as the domain has it."""
    return RolloutEvent(
        event_id=event_id,
        kind=kind,
        model=model,
        version="v2.0.0",
        subject=subject,
        severity=severity,
        summary=summary,
        probable_cause="v2.0.0 has a bug",
        undo_command="infermesh traffic undo digits",
        value=0.25,
        time=NOON + timedelta(seconds=after_s),
    )


def event_message(
    event_id: str,
    kind: str = "canary_failed",
    *,
    severity: str = "critical",
    subject: str = "canary-1",
    model: str = "digits",
    at: datetime = NOON,
) -> rollout_event_pb2.RolloutEvent:
    """An event as it is sent."""
    message = rollout_event_pb2.RolloutEvent(
        event_id=event_id,
        kind=kind,
        model_name=model,
        version="v2.0.0",
        subject=subject,
        severity=severity,
        summary=f"{kind} of {model}",
        undo_command="infermesh traffic undo digits",
        value=0.25,
    )
    message.time.FromDatetime(at)
    return message
