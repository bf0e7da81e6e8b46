"""From requests in the log to messages at receivers, over a real PostgreSQL: rules, channels, silences."""

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from google.protobuf import field_mask_pb2
from infermesh.monitor.v1 import alert_pb2, monitor_service_pb2

from services.common.errors import MeshError, Reason
from services.monitor.settings import MonitorSettings
from services.monitor.wiring import build
from tests.integration.monitor.conftest import RunningMonitor
from tests.support.batch_receivers import Received, Receiver, receiving
from tests.support.clock import ShiftedClock
from tests.support.monitor_log import group_message, message
from tests.support.waiting import eventually

SECRET = "very secret"
INTERNAL, ERROR = 13, 1


@pytest.fixture
def settings(settings: MonitorSettings) -> MonitorSettings:
    return settings.model_copy(
        update={"alert_period_s": 0.1, "webhook_private": True, "channel_key": type(settings.channel_key)("ab" * 32)}
    )


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as made:
        yield made


async def arrived(receiver: Receiver, count: int) -> list[Received]:
    async def enough() -> bool:
        return len(receiver.received) >= count

    await eventually(enough)
    assert len(receiver.received) == count
    return receiver.received


def rule(**changes: object) -> alert_pb2.AlertRule:
    made = alert_pb2.AlertRule(
        name="too-many-errors",
        model_name="digits",
        threshold=alert_pb2.ThresholdCondition(
            metric="error_rate", comparison=">", threshold=0.2, window_s=60, min_requests=10
        ),
        severity="critical",
        notification_channels=["hook"],
        enabled=True,
    )
    for name, value in changes.items():
        setattr(made, name, value)
    return made


async def with_hook(monitor: RunningMonitor, receiver: Receiver) -> alert_pb2.NotificationChannel:
    channel = alert_pb2.NotificationChannel(
        name="hook", webhook=alert_pb2.WebhookTarget(url=receiver.url(), signing_secret=SECRET)
    )
    request = monitor_service_pb2.CreateNotificationChannelRequest(notification_channel=channel, request_id="c1")
    return await monitor.metrics.CreateNotificationChannel(request)


class Site:
    """A monitor, its clock and a log that tests write into."""

    def __init__(self, monitor: RunningMonitor, clock: ShiftedClock) -> None:
        self.monitor = monitor
        self.calls = monitor.metrics
        self.clock = clock
        self._sequence = 0

    async def requests(self, *, failed: int, of: int, latency_us: int = 5000, version: str = "v1.0.0") -> None:
        self._sequence += 1
        codes = [INTERNAL] * failed + [0] * (of - failed)
        group = group_message(
            [latency_us] * of,
            at=self.clock.now(),
            codes=codes,
            reasons=[ERROR if code else 0 for code in codes],
            version=version,
        )
        assert await self.monitor.send(message(self._sequence, group)) == self._sequence

    async def alerts(self) -> list[alert_pb2.Alert]:
        answer = await self.calls.ListAlerts(monitor_service_pb2.ListAlertsRequest())
        return [alert for alert in answer.alerts if alert.rule_name == "too-many-errors"]

    async def only(self, status: str) -> alert_pb2.Alert:
        async def there() -> bool:
            return [alert.status for alert in await self.alerts()] == [status]

        await eventually(there)
        return (await self.alerts())[0]


@pytest.fixture
async def site(settings: MonitorSettings) -> AsyncIterator[Site]:
    clock = ShiftedClock()
    monitor = build(settings, clock=clock)
    await monitor.lifecycle.start()
    running = RunningMonitor(monitor)
    yield Site(running, clock)
    await running.stop()


async def test_a_rule_fires_is_told_once_and_told_when_it_is_over(site: Site, receiver: Receiver) -> None:
    channel = await with_hook(site.monitor, receiver)
    assert channel.webhook.signing_secret == ""
    await site.calls.CreateAlertRule(monitor_service_pb2.CreateAlertRuleRequest(alert_rule=rule()))
    await site.requests(failed=30, of=100)
    (fired,) = await arrived(receiver, 1)
    body = json.loads(fired.body)
    alert = await site.only("firing")
    assert (body["alert_id"], body["rule_name"], body["status"], body["severity"]) == (
        alert.alert_id,
        "too-many-errors",
        "firing",
        "critical",
    )
    assert body["summary"] == "digits v1.0.0: the share of failed requests is 30 % over 60 s, above 20 %"
    assert (alert.model_name, alert.version, alert.value) == ("digits", "v1.0.0", 0.3)
    # Neither the router nor the registry runs here: the alert says so instead of waiting for them.
    assert alert.probable_cause.startswith("not known")
    stamp, _, signed = fired.headers["x-infermesh-signature"].partition(",")
    expected = hmac.new(SECRET.encode(), stamp.removeprefix("t=").encode() + b"." + fired.body, hashlib.sha256)
    assert signed == f"v1={expected.hexdigest()}"

    async def told() -> bool:
        return [(one.channel, one.status) for one in (await site.only("firing")).notifications] == [("hook", "sent")]

    await eventually(told)
    # Three minutes later the window has the good requests alone.
    site.clock.ahead += timedelta(minutes=3)
    await site.requests(failed=0, of=100)
    await asyncio.sleep(1.0)
    assert len(receiver.received) == 1, "it ends only once it was over for a minute"
    site.clock.ahead += timedelta(seconds=61)
    # The earlier ones are in the window no more where a minute ended meanwhile, and no requests decide nothing.
    await site.requests(failed=0, of=100)
    (_, ended) = await arrived(receiver, 2)
    assert json.loads(ended.body)["status"] == "resolved"
    assert (await site.only("resolved")).alert_id == alert.alert_id


async def test_a_silence_keeps_quiet_and_its_end_tells(site: Site, receiver: Receiver) -> None:
    await with_hook(site.monitor, receiver)
    await site.calls.CreateAlertRule(monitor_service_pb2.CreateAlertRuleRequest(alert_rule=rule()))
    silence = alert_pb2.Silence(rule_name="too-many-errors", reason="deploying")
    silence.end_time.FromDatetime(site.clock.now() + timedelta(hours=1))
    made = await site.calls.CreateSilence(monitor_service_pb2.CreateSilenceRequest(silence=silence))
    await site.requests(failed=30, of=100)
    alert = await site.only("firing")
    assert (alert.silenced, list(alert.notifications)) == (True, [])
    listed = await site.calls.ListSilences(monitor_service_pb2.ListSilencesRequest())
    assert list(listed.silences) == [made]
    assert receiver.received == []
    await site.calls.DeleteSilence(monitor_service_pb2.DeleteSilenceRequest(silence_id=made.silence_id))
    (told,) = await arrived(receiver, 1)
    assert json.loads(told.body)["alert_id"] == alert.alert_id
    assert not (await site.only("firing")).silenced
    with pytest.raises(MeshError) as caught:
        await site.calls.DeleteSilence(monitor_service_pb2.DeleteSilenceRequest(silence_id=made.silence_id))
    assert caught.value.reason is Reason.SILENCE_NOT_FOUND


async def test_an_acknowledged_alert_is_told_to_programs_and_a_deleted_rule_ends_it(
    site: Site, receiver: Receiver
) -> None:
    await with_hook(site.monitor, receiver)
    await site.calls.CreateAlertRule(monitor_service_pb2.CreateAlertRuleRequest(alert_rule=rule()))
    await site.requests(failed=30, of=100)
    await arrived(receiver, 1)
    alert = await site.only("firing")
    await site.calls.AcknowledgeAlert(monitor_service_pb2.AcknowledgeAlertRequest(alert_id=alert.alert_id))
    assert json.loads((await arrived(receiver, 2))[1].body)["status"] == "acknowledged"
    with pytest.raises(MeshError) as caught:
        await site.calls.DeleteNotificationChannel(monitor_service_pb2.DeleteNotificationChannelRequest(name="hook"))
    assert caught.value.reason is Reason.RESOURCE_IN_USE
    await site.calls.DeleteAlertRule(monitor_service_pb2.DeleteAlertRuleRequest(name="too-many-errors"))
    assert json.loads((await arrived(receiver, 3))[2].body)["status"] == "resolved"
    await site.calls.DeleteNotificationChannel(monitor_service_pb2.DeleteNotificationChannelRequest(name="hook"))


async def test_rules_are_read_changed_by_etag_and_there_from_the_start(site: Site, receiver: Receiver) -> None:
    listed = await site.calls.ListAlertRules(monitor_service_pb2.ListAlertRulesRequest())
    names = [one.name for one in listed.alert_rules]
    assert names == sorted(names)
    assert {"error-rate", "latency-p95", "low-confidence", "unusual-traffic", "canary_failed"} <= set(names)
    await with_hook(site.monitor, receiver)
    request = monitor_service_pb2.CreateAlertRuleRequest(alert_rule=rule(), request_id="r1")
    made = await site.calls.CreateAlertRule(request)
    assert await site.calls.CreateAlertRule(request) == made
    assert (made.threshold.window_s, made.rollout_action) == (60, "none")
    changed = alert_pb2.AlertRule(name=made.name, etag=made.etag)
    changed.threshold.threshold = 0.5
    mask = field_mask_pb2.FieldMask(paths=["threshold.threshold"])
    update = monitor_service_pb2.UpdateAlertRuleRequest(alert_rule=changed, update_mask=mask)
    updated = await site.calls.UpdateAlertRule(update)
    assert (updated.threshold.threshold, updated.threshold.metric, updated.severity) == (0.5, "error_rate", "critical")
    with pytest.raises(MeshError) as caught:
        await site.calls.UpdateAlertRule(update)
    assert caught.value.reason is Reason.ETAG_MISMATCH
    with pytest.raises(MeshError) as caught:
        await site.calls.CreateAlertRule(monitor_service_pb2.CreateAlertRuleRequest(alert_rule=rule()))
    assert caught.value.reason is Reason.ALERT_RULE_EXISTS
    with pytest.raises(MeshError) as caught:
        await site.calls.CreateAlertRule(
            monitor_service_pb2.CreateAlertRuleRequest(alert_rule=rule(name="x", severity="dire"))
        )
    assert [violation.field for violation in caught.value.violations] == ["alert_rule.severity"]


async def test_two_monitors_fire_one_alert_and_tell_it_once(
    site: Site, settings: MonitorSettings, receiver: Receiver
) -> None:
    other = build(settings, clock=site.clock)
    await other.lifecycle.start()
    try:
        await with_hook(site.monitor, receiver)
        await site.calls.CreateAlertRule(monitor_service_pb2.CreateAlertRuleRequest(alert_rule=rule()))
        await site.requests(failed=30, of=100)
        await site.only("firing")
        await arrived(receiver, 1)
        await asyncio.sleep(2.0)
        assert (len(receiver.received), len(await site.alerts())) == (1, 1)
    finally:
        await other.lifecycle.stop()


async def test_a_channel_is_tried_at_once(site: Site, receiver: Receiver) -> None:
    await with_hook(site.monitor, receiver)
    test = monitor_service_pb2.TestNotificationChannelRequest(name="hook")
    state = await site.calls.TestNotificationChannel(test)
    assert (state.status, state.error_message, state.attempt_count) == ("sent", "", 1)
    assert json.loads(receiver.received[0].body)["rule_name"] == "test"
    receiver.status = 404
    state = await site.calls.TestNotificationChannel(test)
    assert (state.status, state.error_message) == ("failed", "127.0.0.1 answered 404")
