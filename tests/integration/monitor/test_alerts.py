"""From events of rollouts to alerts that people list, acknowledge and follow; and shadow reports."""

import asyncio
from datetime import datetime, timedelta

import pytest
from infermesh.monitor.v1 import monitor_service_pb2, prediction_log_pb2, rollout_event_pb2

from services.common.errors import MeshError, Reason
from tests.integration.monitor.conftest import RunningMonitor, StartMonitor
from tests.support.monitor_events import event_message
from tests.support.monitor_log import group_message, message

EVENTS = rollout_event_pb2.ReportEventsRequest


async def test_events_become_alerts(monitor: RunningMonitor, now: datetime) -> None:
    sent = [
        event_message("1", "canary_held", severity="warning", at=now),
        event_message("2", "canary_failed", at=now + timedelta(seconds=1)),
        event_message("3", "ab_test_ended", severity="info", subject="clicks", at=now),
        event_message("4", "canary_failed", subject="canary-9", model="other", at=now - timedelta(hours=1)),
    ]
    for _ in range(2):
        await monitor.events.ReportEvents(EVENTS(events=sent))
    listed = (await monitor.metrics.ListAlerts(monitor_service_pb2.ListAlertsRequest(page_size=2))).alerts
    assert [(alert.rule_name, alert.status) for alert in listed] == [
        ("canary_failed", "firing"),
        ("canary_held", "resolved"),
    ]
    pages, token = 0, ""
    while pages == 0 or token:
        request = monitor_service_pb2.ListAlertsRequest(
            min_severity="critical", status="firing", page_size=1, page_token=token
        )
        answer = await monitor.metrics.ListAlerts(request)
        pages, token = pages + 1, answer.next_page_token
        assert len(answer.alerts) == 1
    assert pages == 2

    alert_id = listed[0].alert_id
    alert = await monitor.metrics.AcknowledgeAlert(
        monitor_service_pb2.AcknowledgeAlertRequest(alert_id=alert_id, note="on it"),
        metadata=[("x-infermesh-user", "kim")],
    )
    assert (alert.status, alert.acknowledged_by, alert.acknowledgement_note) == ("acknowledged", "kim", "on it")
    assert await monitor.metrics.GetAlert(monitor_service_pb2.GetAlertRequest(alert_id=alert_id)) == alert
    with pytest.raises(MeshError) as caught:
        await monitor.metrics.GetAlert(monitor_service_pb2.GetAlertRequest(alert_id="no-such"))
    assert caught.value.reason is Reason.ALERT_NOT_FOUND


async def test_one_wrong_event_refuses_all(monitor: RunningMonitor) -> None:
    with pytest.raises(MeshError) as caught:
        await monitor.events.ReportEvents(EVENTS(events=[event_message("1"), event_message("2", "canary_bored")]))
    assert [violation.field for violation in caught.value.violations] == ["events[1].kind"]
    assert not (await monitor.metrics.ListAlerts(monitor_service_pb2.ListAlertsRequest())).alerts


async def test_alerts_are_followed_wherever_they_change(start_monitor: StartMonitor) -> None:
    one, other = await start_monitor(), await start_monitor()
    await other.events.ReportEvents(EVENTS(events=[event_message("1")]))
    seen: list[str] = []

    async def follow() -> None:
        request = monitor_service_pb2.WatchAlertsRequest(model_name="digits")
        async for alert in one.metrics.WatchAlerts(request, timeout=20):
            seen.append(alert.status)
            if len(seen) == 1:
                promoted = event_message("2", "canary_promoted", severity="info", subject="canary-2")
                await other.events.ReportEvents(EVENTS(events=[promoted]))
            if len(seen) == 2:
                return

    await asyncio.wait_for(follow(), timeout=15)
    assert seen == ["firing", "resolved"]


async def test_answers_of_shadow_copies_are_reported(monitor: RunningMonitor, now: datetime) -> None:
    group = group_message([700] * 4, at=now, version="v2.0.0")
    group.request_kinds.extend([2] * 4)
    for primary, disagreed in (("v1.0.0", 1), ("v1.5.0", 0)):
        compared = prediction_log_pb2.ShadowComparisons(
            primary_version=primary,
            compared_count=40,
            disagreed_count=disagreed,
            failed_by_reason={"MODEL_FAILED": 2},
            dropped_count=5,
        )
        for place in range(disagreed):
            compared.examples.add(
                request_id=f"req_{place}",
                time_us=int(now.timestamp() * 1e6),
                row=2,
                primary_output='{"label":"3"}',
                shadow_output='{"label":"8"}',
                difference=0.5,
            )
        group.shadow_comparisons.append(compared)
    await monitor.send(message(1, group))
    request = monitor_service_pb2.ListShadowReportsRequest(model_name="digits", page_size=1)
    request.end_time.FromDatetime(now + timedelta(minutes=1))
    first = await monitor.metrics.ListShadowReports(request)
    [report] = first.shadow_reports
    assert (report.shadow_version, report.primary_version) == ("v2.0.0", "v1.0.0")
    assert (report.compared_count, report.disagreed_count, report.dropped_count) == (40, 1, 5)
    assert report.disagreement_low < report.disagreement_rate == 0.025 < report.disagreement_high
    assert dict(report.failed_by_reason) == {"MODEL_FAILED": 2}
    [example] = report.examples
    assert (example.request_id, example.row, example.difference) == ("req_0", 2, 0.5)
    assert example.time.ToDatetime() == now.replace(tzinfo=None)
    request.page_token = first.next_page_token
    rest = await monitor.metrics.ListShadowReports(request)
    assert [(found.primary_version, found.disagreed_count) for found in rest.shadow_reports] == [("v1.5.0", 0)]
    assert rest.next_page_token == ""
