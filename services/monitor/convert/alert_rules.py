"""Between protobuf and alert rules, notification channels and silences. Secrets come in and never go out."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeVar

from google.protobuf import field_mask_pb2, json_format
from google.protobuf.message import Message
from infermesh.monitor.v1 import alert_pb2, monitor_service_pb2

from services.common.errors import invalid
from services.monitor.convert.alerts import alert_to_proto
from services.monitor.convert.moments import moment_from_proto
from services.monitor.domain.alerts import Alert
from services.monitor.domain.channels import Channel, ChannelSpec, Means, Silence
from services.monitor.domain.rules import BurnRate, Condition, DriftAtLeast, Happened, Rule, RuleSpec, Threshold
from services.monitor.ports_alerts import Told

M = TypeVar("M", bound=Message)

_GIVEN = ("etag", "created_at", "updated_at", "created_by", "name")
"""What an update takes no notice of: it names what is changed, or the mesh gives it."""


def rule_from_proto(message: alert_pb2.AlertRule) -> RuleSpec:
    """The rule that a message states; checked by `checked_rule`. Raises INVALID_FIELD where it has no condition."""
    return RuleSpec(
        name=message.name,
        condition=_condition(message),
        severity=message.severity,
        description=message.description,
        model=message.model_name,
        version=message.version,
        channels=tuple(message.notification_channels),
        action=message.rollout_action,
        enabled=message.enabled,
    )


def rule_to_proto(rule: Rule) -> alert_pb2.AlertRule:
    """The rule as the contract prints it."""
    message = spec_to_proto(rule.spec)
    message.etag = rule.etag
    message.created_by = rule.created_by
    message.created_at.FromDatetime(rule.created_at)
    message.updated_at.FromDatetime(rule.updated_at)
    return message


def spec_to_proto(spec: RuleSpec) -> alert_pb2.AlertRule:
    """What of a rule people word."""
    message = alert_pb2.AlertRule(
        name=spec.name,
        description=spec.description,
        model_name=spec.model,
        version=spec.version,
        severity=spec.severity,
        notification_channels=spec.channels,
        rollout_action=spec.action,
        enabled=spec.enabled,
    )
    condition = spec.condition
    if isinstance(condition, Threshold):
        message.threshold.CopyFrom(
            alert_pb2.ThresholdCondition(
                metric=condition.metric,
                comparison=condition.comparison,
                threshold=condition.threshold,
                window_s=condition.window_s,
                for_s=condition.for_s,
                min_requests=condition.min_requests,
            )
        )
    elif isinstance(condition, BurnRate):
        message.burn_rate.CopyFrom(
            alert_pb2.BurnRateCondition(
                objective=condition.objective,
                indicator=condition.indicator,
                latency_ms=condition.latency_ms,
                long_window_s=condition.long_window_s,
                short_window_s=condition.short_window_s,
                burn_rate=condition.burn_rate,
            )
        )
    elif isinstance(condition, DriftAtLeast):
        drift = alert_pb2.DriftCondition(min_severity=condition.min_severity, features=condition.features)
        message.drift.CopyFrom(drift)
    else:
        message.event.CopyFrom(alert_pb2.EventCondition(events=condition.events))
    return message


def rule_change(request: monitor_service_pb2.UpdateAlertRuleRequest) -> Callable[[RuleSpec], RuleSpec]:
    """What an update does to a rule. Raises INVALID_FIELD for a path that there is not."""
    sent, mask = request.alert_rule, request.update_mask
    _check_mask(mask, sent)

    def change(before: RuleSpec) -> RuleSpec:
        return rule_from_proto(_merged(spec_to_proto(before), sent, mask))

    return change


def channel_from_proto(message: alert_pb2.NotificationChannel) -> tuple[ChannelSpec, str]:
    """The channel that a message states, and its secret. Raises INVALID_FIELD where it has no target."""
    target = message.WhichOneof("target")
    if target is None:
        raise invalid("notification_channel", "no target", "one of slack, pager_duty, webhook and email")
    spec = ChannelSpec(
        name=message.name,
        means=Means(target),
        target=message.webhook.url,
        addresses=tuple(message.email.addresses),
        min_severity=message.min_severity,
    )
    secrets = {
        Means.SLACK: message.slack.webhook_url,
        Means.PAGER_DUTY: message.pager_duty.routing_key,
        Means.WEBHOOK: message.webhook.signing_secret,
        Means.EMAIL: "",
    }
    return spec, secrets[Means(target)]


def channel_to_proto(channel: Channel) -> alert_pb2.NotificationChannel:
    """The channel as the contract prints it, without its secret."""
    message = _target_to_proto(channel.spec)
    message.etag = channel.etag
    message.created_at.FromDatetime(channel.created_at)
    message.updated_at.FromDatetime(channel.updated_at)
    return message


def channel_change(
    request: monitor_service_pb2.UpdateNotificationChannelRequest,
) -> Callable[[ChannelSpec], tuple[ChannelSpec, str]]:
    """What an update does to a channel. Raises INVALID_FIELD for a path that there is not."""
    sent, mask = request.notification_channel, request.update_mask
    _check_mask(mask, sent)

    def change(before: ChannelSpec) -> tuple[ChannelSpec, str]:
        shown = _target_to_proto(before)
        # What answers show in a secret's place is none: sent back unchanged, it changes nothing.
        if before.means == Means.SLACK:
            shown.slack.webhook_url = ""
        spec, secret = channel_from_proto(_merged(shown, sent, mask))
        if spec.means == Means.SLACK == before.means:
            secret = "" if secret == before.target else secret
            return ChannelSpec(spec.name, spec.means, before.target, (), spec.min_severity), secret
        return spec, secret

    return change


def silence_from_proto(message: alert_pb2.Silence, *, now: datetime) -> Silence:
    """The silence that a message states; it begins now where it does not say when. Raises INVALID_FIELD."""
    start = moment_from_proto(message.start_time, given=message.HasField("start_time"), field="silence.start_time")
    end = moment_from_proto(message.end_time, given=message.HasField("end_time"), field="silence.end_time")
    if end is None:
        raise invalid("silence.end_time", "", "when the silence ends, at most 30 days after its start")
    return Silence("", message.rule_name, message.model_name, message.reason, start or now, end)


def silence_to_proto(silence: Silence) -> alert_pb2.Silence:
    """The silence as the contract prints it."""
    message = alert_pb2.Silence(
        silence_id=silence.silence_id,
        rule_name=silence.rule,
        model_name=silence.model,
        reason=silence.reason,
        created_by=silence.created_by,
    )
    message.start_time.FromDatetime(silence.start)
    message.end_time.FromDatetime(silence.end)
    return message


def told_to_proto(told: Told) -> alert_pb2.NotificationState:
    """How far a channel was told."""
    message = alert_pb2.NotificationState(
        channel=told.channel, status=told.status, attempt_count=told.attempts, error_message=told.problem
    )
    if told.attempted_at is not None:
        message.attempted_at.FromDatetime(told.attempted_at)
    return message


def seen_alert_to_proto(alert: Alert, *, silenced: bool, told: Sequence[Told]) -> alert_pb2.Alert:
    """The alert as the contract prints it, with who was told of it."""
    message = alert_to_proto(alert)
    message.silenced = silenced
    message.notifications.extend(told_to_proto(one) for one in told)
    return message


def alert_to_json(alert: Alert) -> bytes:
    """An alert as REST answers it."""
    return json_format.MessageToJson(
        alert_to_proto(alert),
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
        indent=None,
        ensure_ascii=False,
    ).encode()


def _condition(message: alert_pb2.AlertRule) -> Condition:
    kind = message.WhichOneof("condition")
    if kind == "threshold":
        threshold = message.threshold
        return Threshold(
            threshold.metric,
            threshold.comparison,
            threshold.threshold,
            threshold.window_s,
            threshold.for_s,
            threshold.min_requests,
        )
    if kind == "burn_rate":
        burn = message.burn_rate
        return BurnRate(
            burn.objective,
            burn.indicator,
            burn.latency_ms,
            burn.long_window_s,
            burn.short_window_s,
            burn.burn_rate,
        )
    if kind == "drift":
        return DriftAtLeast(message.drift.min_severity, tuple(message.drift.features))
    if kind == "event":
        return Happened(tuple(message.event.events))
    raise invalid("alert_rule", "no condition", "one of threshold, drift, burn_rate and event")


def _target_to_proto(spec: ChannelSpec) -> alert_pb2.NotificationChannel:
    message = alert_pb2.NotificationChannel(name=spec.name, min_severity=spec.min_severity)
    if spec.means == Means.SLACK:
        message.slack.webhook_url = spec.target
    elif spec.means == Means.PAGER_DUTY:
        message.pager_duty.SetInParent()
    elif spec.means == Means.WEBHOOK:
        message.webhook.url = spec.target
    else:
        message.email.addresses.extend(spec.addresses)
    return message


def _check_mask(mask: field_mask_pb2.FieldMask, message: Message) -> None:
    for path in mask.paths:
        if not _leads(message, path.split(".")):
            names = ", ".join(field.name for field in message.DESCRIPTOR.fields if field.name not in _GIVEN)
            raise invalid("update_mask", path, f"paths of {names}")


def _leads(message: Message, names: Sequence[str]) -> bool:
    """Whether the message has a field of that path."""
    descriptor = message.DESCRIPTOR
    for place, name in enumerate(names):
        field = descriptor.fields_by_name.get(name)
        if field is None:
            return False
        if field.message_type is None:
            return place == len(names) - 1
        descriptor = field.message_type
    return True


def _merged(before: M, sent: M, mask: field_mask_pb2.FieldMask) -> M:
    paths = [path for path in mask.paths if path not in _GIVEN]
    if not mask.paths:
        merged = type(before)()
        merged.CopyFrom(sent)
        return merged
    field_mask_pb2.FieldMask(paths=paths).MergeMessage(
        sent, before, replace_message_field=True, replace_repeated_field=True
    )
    return before
