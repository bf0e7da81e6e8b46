"""What rollouts' events mean for alerts: which one fires, which ones are over.

An event of severity "info" raises nothing. Any other fires an alert of each rule that waits for its kind; where that
one fires for the same subject already it is the same alert, with the newest words. An event ends the alerts of its
subject that have another kind, and a promoted canary ends all of its model but those of deployments: a version has
taken all traffic, so what failed before is past. What happened and is over (a failed canary, a rollback, an ended test)
has no event that follows by itself: its alert ends a day after it last fired. That of a canary on hold lasts until the
canary is promoted, fails or is ended, that of a deployment until it answers or is removed. Alerts that figures raise
know nothing of events.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

SEVERITIES = ("info", "warning", "critical")
"""From the least to the most severe."""
EVENT_KINDS = ("canary_failed", "canary_held", "canary_promoted", "rolled_back", "ab_test_ended")
"""Events that rollouts report."""
FIRING, ACKNOWLEDGED, RESOLVED = "firing", "acknowledged", "resolved"
STATUSES = (FIRING, ACKNOWLEDGED, RESOLVED)
DEPLOYMENT_FAILED, DEPLOYMENT_RECOVERED = "deployment_failed", "deployment_recovered"
"""Events of deployments, which the monitor makes of what the deployer shows."""
RAISING_KINDS = ("canary_failed", "canary_held", "rolled_back", "ab_test_ended", DEPLOYMENT_FAILED)
"""Events that raise alerts; each has a rule of its name from the start."""
_PROMOTED = "canary_promoted"
_LASTING = ("canary_held", DEPLOYMENT_FAILED)
"""What goes on until an event says that it is over."""
PAST_LASTS = timedelta(days=1)
"""How long the alert of something that is over stays."""
HELD_LASTS = timedelta(days=30)
"""How long an alert stays that something is held or does not answer, where no more is ever heard of it."""
_NAMES = uuid.UUID("6f1b7a52-0f4c-4c58-9d0e-2f3f6c0a9b11")


@dataclass(frozen=True)
class RolloutEvent:
    """Something that happened in a rollout."""

    event_id: str
    kind: str
    model: str
    version: str
    subject: str
    severity: str
    summary: str
    probable_cause: str
    undo_command: str
    value: float
    time: datetime


@dataclass(frozen=True)
class Alert:
    """Something that is wrong, or was; the same finding is one alert as long as it lasts."""

    alert_id: str
    rule: str
    """The name of the rule that found it."""
    subject: str
    model: str
    version: str
    severity: str
    status: str
    summary: str
    probable_cause: str
    undo_command: str
    value: float
    started_at: datetime
    fired_at: datetime
    resolved_at: datetime | None = None
    acknowledged_by: str = ""
    acknowledged_at: datetime | None = None
    note: str = ""
    kind: str = ""
    """The kind of the events that raise it. Empty: figures do."""
    told: Mapping[str, str] = field(default_factory=dict)
    """How far each channel is told: the last stage that was written to it."""
    done: str = ""
    """What became of what the rule does to a canary, as a sentence. Empty: nothing yet, or nothing is to be done."""

    @property
    def is_open(self) -> bool:
        """Whether it lasts."""
        return self.status != RESOLVED

    def expires_at(self) -> datetime:
        """When it ends where no more is heard."""
        return self.fired_at + (HELD_LASTS if self.kind in _LASTING else PAST_LASTS)


@dataclass(frozen=True, slots=True)
class Raising:
    """A rule that waits for events, as far as they are concerned."""

    rule: str
    kinds: Sequence[str]
    severity: str
    model: str = ""
    version: str = ""

    def waits_for(self, event: RolloutEvent) -> bool:
        """Whether the event raises an alert of it."""
        return event.kind in self.kinds and self.model in ("", event.model) and self.version in ("", event.version)


FROM_THE_START = tuple(Raising(kind, (kind,), SEVERITIES[-1]) for kind in RAISING_KINDS)
"""The rules that there are from the start."""


def changed_by(
    event: RolloutEvent, open_alerts: Sequence[Alert], rules: Sequence[Raising] = FROM_THE_START
) -> list[Alert]:
    """The alerts as they are after the event: those of `open_alerts`, all of the event's model, that it changes, and
    those that it raises, one of each rule that waits for it.
    """
    changed = []
    same: dict[str, Alert] = {}
    for alert in open_alerts:
        if not alert.kind:
            # Figures raised it, and figures end it.
            continue
        if alert.subject == event.subject and alert.kind == event.kind:
            same[alert.rule] = alert
        elif alert.subject == event.subject or (event.kind == _PROMOTED and alert.kind != DEPLOYMENT_FAILED):
            changed.append(resolved(alert, event.time))
    if event.severity == SEVERITIES[0]:
        # What is merely worth knowing now is no longer wrong.
        return [*changed, *(resolved(alert, event.time) for alert in same.values())]
    return [*changed, *(_raised(event, rule, same.get(rule.rule)) for rule in rules if rule.waits_for(event))]


def resolved(alert: Alert, moment: datetime) -> Alert:
    """The alert, over since `moment`."""
    return replace(alert, status=RESOLVED, resolved_at=max(moment, alert.fired_at))


def acknowledged(alert: Alert, *, by: str, note: str, now: datetime) -> Alert:
    """The alert, looked after by someone; whoever was first stays. What is over stays over."""
    if alert.acknowledged_at is not None:
        return alert
    status = ACKNOWLEDGED if alert.is_open else alert.status
    return replace(alert, status=status, acknowledged_by=by, acknowledged_at=now, note=note)


def at_least(min_severity: str) -> tuple[str, ...]:
    """The severities from that one on; all for ""."""
    return SEVERITIES[SEVERITIES.index(min_severity) :] if min_severity else SEVERITIES


def _raised(event: RolloutEvent, rule: Raising, same: Alert | None) -> Alert:
    fresh = Alert(
        alert_id=str(uuid.uuid5(_NAMES, _found_by(event, rule))),
        rule=rule.rule,
        subject=event.subject,
        model=event.model,
        version=event.version,
        # As bad as the rule says, but never worse than what happened.
        severity=min(event.severity, rule.severity, key=SEVERITIES.index),
        status=FIRING,
        summary=event.summary,
        probable_cause=event.probable_cause,
        undo_command=event.undo_command,
        value=event.value,
        started_at=event.time,
        fired_at=event.time,
        kind=event.kind,
    )
    if same is None:
        return fresh
    return replace(
        fresh,
        alert_id=same.alert_id,
        status=same.status,
        started_at=same.started_at,
        fired_at=max(same.fired_at, event.time),
        acknowledged_by=same.acknowledged_by,
        acknowledged_at=same.acknowledged_at,
        note=same.note,
        told=same.told,
        done=same.done,
    )


def _found_by(event: RolloutEvent, rule: Raising) -> str:
    return event.event_id if rule.rule == event.kind else f"{event.event_id}/{rule.rule}"


def found_alert_id(rule: str, model: str, version: str, since: datetime) -> str:
    """The id of what a rule found: whoever finds the same has the same one."""
    return str(uuid.uuid5(_NAMES, f"{rule}/{model}/{version}/{since.isoformat()}"))
