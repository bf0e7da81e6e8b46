"""Who is to be told of what, out of how alerts stand and what was written to whom before.

The decision looks at states and not at what happened, so nothing is lost with a process: whatever was not written yet
is written at the next look. What is written is recorded with the alert, in the same transaction, so nothing is written
twice.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from services.monitor.domain.alerts import ACKNOWLEDGED, FIRING, SEVERITIES, Alert
from services.monitor.domain.channels import FOLLOWED, ChannelSpec, Silence, silenced
from services.monitor.domain.rules import NO_ACTION, RuleSpec

GROUP_MAX = 50
"""The most alerts in one message."""
ROLLOUT = "rollout"
"""The means by which a canary is held or rolled back. No channel is called so: it has none."""
_ACTION = "!rollout"


class Stage(StrEnum):
    """What a channel is told of an alert."""

    FIRED = "fired"
    DONE = "done"
    """What the rule does to a canary is done, or cannot be."""
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"


@dataclass(frozen=True)
class Message:
    """One stage of some alerts of one rule, to be written to one channel; or what is to be done to a canary."""

    channel: str
    means: str
    stage: str
    alerts: tuple[Alert, ...]


def due(
    alerts: Iterable[Alert],
    *,
    rules: Mapping[str, RuleSpec],
    channels: Mapping[str, ChannelSpec],
    silences: Sequence[Silence],
    now: datetime,
) -> tuple[list[Message], list[Alert]]:
    """What is to be written now, and the alerts with that recorded. What is told to people in one look, of one rule, is
    one message."""
    messages: list[Message] = []
    changed: list[Alert] = []
    for alert in alerts:
        rule = rules.get(alert.rule)
        told = dict(alert.told)
        if rule is not None and alert.is_open and rule.action != NO_ACTION and alert.model and _ACTION not in told:
            told[_ACTION] = rule.action
            messages.append(Message("", ROLLOUT, rule.action, (alert,)))
        names = rule.channels if rule is not None and alert.is_open else tuple(alert.told)
        quiet = silenced(alert, silences, now)
        for name in names:
            channel = channels.get(name)
            if channel is None:
                continue
            stage = _stage(alert, told.get(name), channel, quiet=quiet)
            if stage is not None:
                told[name] = stage
                messages.append(Message(name, channel.means, stage, (replace(alert, told={}),)))
        if told != dict(alert.told):
            changed.append(replace(alert, told=told))
    return _grouped(messages), changed


def _stage(alert: Alert, before: str | None, channel: ChannelSpec, *, quiet: bool) -> Stage | None:
    if not alert.is_open:
        # Also while it is silenced: whoever was woken hears that it is over.
        return Stage.RESOLVED if before not in (None, Stage.RESOLVED) else None
    if quiet or SEVERITIES.index(alert.severity) < SEVERITIES.index(channel.min_severity):
        return None
    if before is None:
        return Stage.FIRED if alert.status == FIRING else None
    if alert.done and before == Stage.FIRED:
        return Stage.DONE
    if alert.status == ACKNOWLEDGED and before in (Stage.FIRED, Stage.DONE) and channel.means in FOLLOWED:
        return Stage.ACKNOWLEDGED
    return None


def _grouped(messages: Sequence[Message]) -> list[Message]:
    groups: dict[tuple[str, ...], list[Message]] = {}
    for place, message in enumerate(messages):
        alone = message.means in FOLLOWED or message.means == ROLLOUT
        rule = message.alerts[0].rule
        key = (message.channel, message.stage, rule, str(place)) if alone else (message.channel, message.stage, rule)
        groups.setdefault(key, []).append(message)
    made = []
    for found in groups.values():
        alerts = [alert for message in found for alert in message.alerts]
        made += [
            replace(found[0], alerts=tuple(alerts[start : start + GROUP_MAX]))
            for start in range(0, len(alerts), GROUP_MAX)
        ]
    return made
