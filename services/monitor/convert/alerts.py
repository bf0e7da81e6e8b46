"""Between protobuf, events of rollouts and alerts."""

import math
from datetime import datetime

from infermesh.monitor.v1 import alert_pb2, rollout_event_pb2

from services.common.errors import invalid
from services.common.names import check_model_name, check_version
from services.monitor.convert.moments import moment_from_proto
from services.monitor.domain.alerts import EVENT_KINDS, SEVERITIES, Alert, RolloutEvent

_NAME_MAX = 256
_TEXT_MAX = 4000


def event_from_proto(message: rollout_event_pb2.RolloutEvent, *, field: str, now: datetime) -> RolloutEvent:
    """The event that a message states. Raises INVALID_FIELD with the path below `field` of what is wrong."""
    for name, value in (("event_id", message.event_id), ("subject", message.subject)):
        if not 1 <= len(value) <= _NAME_MAX or "\0" in value:
            raise invalid(f"{field}.{name}", value, f"1 to {_NAME_MAX} characters")
    if message.kind not in EVENT_KINDS:
        raise invalid(f"{field}.kind", message.kind, ", ".join(EVENT_KINDS))
    if message.severity not in SEVERITIES:
        raise invalid(f"{field}.severity", message.severity, ", ".join(SEVERITIES))
    if not message.summary:
        raise invalid(f"{field}.summary", "", "what happened, in one sentence")
    if not math.isfinite(message.value):
        raise invalid(f"{field}.value", message.value, "a finite number")
    time = moment_from_proto(message.time, given=message.HasField("time"), field=f"{field}.time")
    return RolloutEvent(
        event_id=message.event_id,
        kind=message.kind,
        model=check_model_name(message.model_name, f"{field}.model_name"),
        version=check_version(message.version, f"{field}.version") if message.version else "",
        subject=message.subject,
        severity=message.severity,
        summary=_text(message.summary),
        probable_cause=_text(message.probable_cause),
        undo_command=_text(message.undo_command),
        value=message.value,
        time=time or now,
    )


def alert_to_proto(alert: Alert) -> alert_pb2.Alert:
    """The alert as the contract prints it."""
    message = alert_pb2.Alert(
        alert_id=alert.alert_id,
        rule_name=alert.rule,
        model_name=alert.model,
        version=alert.version,
        severity=alert.severity,
        status=alert.status,
        summary=". ".join(part for part in (alert.summary, alert.done) if part),
        probable_cause=alert.probable_cause,
        undo_command=alert.undo_command,
        value=alert.value,
        acknowledged_by=alert.acknowledged_by,
        acknowledgement_note=alert.note,
    )
    message.started_at.FromDatetime(alert.started_at)
    message.fired_at.FromDatetime(alert.fired_at)
    if alert.resolved_at is not None:
        message.resolved_at.FromDatetime(alert.resolved_at)
    if alert.acknowledged_at is not None:
        message.acknowledged_at.FromDatetime(alert.acknowledged_at)
    return message


def _text(value: str) -> str:
    return value[:_TEXT_MAX].replace("\0", "\ufffd")
