"""What events mean for alerts, and what watchers are told."""

import asyncio
from contextlib import aclosing
from datetime import timedelta

import pytest

from services.common.access.book import Sight
from services.common.clock import LoopClock
from services.common.errors import MeshError, Reason
from services.monitor.convert.alerts import alert_to_proto, event_from_proto
from services.monitor.domain.alerts import Alert, acknowledged, at_least, changed_by, resolved
from services.monitor.engines.alerts import Alerts
from tests.support.clock import NOON, FakeClock
from tests.support.monitor_alerts import MemoryAlertStore
from tests.support.monitor_events import event, event_message
from tests.support.monitor_stores import SilentBoard


def raised(
    event_id: str = "1", kind: str = "canary_held", *, severity: str = "warning", subject: str = "canary-1"
) -> Alert:
    [alert] = changed_by(event(event_id, kind, severity=severity, subject=subject), [])
    return alert


def test_an_event_raises_an_alert_with_all_that_it_says() -> None:
    shown = alert_to_proto(raised(kind="canary_failed", severity="critical"))
    assert (shown.rule_name, shown.severity, shown.status) == ("canary_failed", "critical", "firing")
    assert (shown.model_name, shown.version, shown.summary) == ("digits", "v2.0.0", "it failed")
    assert (shown.probable_cause, shown.undo_command, shown.value) == (
        "v2.0.0 has a bug",
        "infermesh traffic undo digits",
        0.25,
    )
    assert shown.fired_at.ToDatetime() == NOON.replace(tzinfo=None)
    assert not shown.HasField("resolved_at")


def test_what_is_merely_worth_knowing_raises_none() -> None:
    assert changed_by(event("1", severity="info"), []) == []


def test_a_later_event_of_the_subject_ends_the_alert() -> None:
    held = raised()
    ended, failed = changed_by(event("2", "canary_failed", after_s=60), [held])
    assert ended == resolved(held, NOON + timedelta(seconds=60))
    assert (failed.rule, failed.status) == ("canary_failed", "firing")
    assert changed_by(event("3", "rolled_back", severity="info", after_s=60), [held]) == [ended]
    other = raised(subject="canary-2")
    assert changed_by(event("4", "canary_failed", after_s=60), [other]) == [
        changed_by(event("4", "canary_failed", after_s=60), [])[0]
    ]


def test_a_promoted_canary_ends_all_alerts_of_its_model() -> None:
    found = [raised("1", "canary_failed", subject="canary-1"), raised("2", "rolled_back", subject="canary-2")]
    changed = changed_by(event("3", "canary_promoted", severity="info", subject="canary-3"), found)
    assert [alert.status for alert in changed] == ["resolved", "resolved"]


def test_the_same_finding_is_one_alert() -> None:
    first = acknowledged(raised(), by="kim", note="on it", now=NOON)
    [again] = changed_by(event("2", "canary_held", severity="critical", summary="still held", after_s=60), [first])
    assert (again.alert_id, again.status, again.acknowledged_by) == (first.alert_id, "acknowledged", "kim")
    assert (again.summary, again.severity) == ("still held", "critical")
    assert (again.started_at, again.fired_at) == (NOON, NOON + timedelta(seconds=60))


def test_who_was_first_stays_and_what_is_over_stays_over() -> None:
    once = acknowledged(raised(), by="kim", note="mine", now=NOON)
    assert acknowledged(once, by="lee", note="no, mine", now=NOON) is once
    over = acknowledged(resolved(raised(), NOON), by="lee", note="seen", now=NOON)
    assert (over.status, over.acknowledged_by) == ("resolved", "lee")


def test_how_long_alerts_last_where_no_more_is_heard() -> None:
    assert raised(kind="canary_failed").expires_at() == NOON + timedelta(days=1)
    assert raised(kind="canary_held").expires_at() == NOON + timedelta(days=30)
    assert at_least("warning") == ("warning", "critical")
    assert at_least("") == ("info", "warning", "critical")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"event_id": ""}, "events[7].event_id"),
        ({"subject": "x" * 300}, "events[7].subject"),
        ({"kind": "canary_bored"}, "events[7].kind"),
        ({"severity": "dire"}, "events[7].severity"),
        ({"summary": ""}, "events[7].summary"),
        ({"model_name": "No Name"}, "events[7].model_name"),
        ({"version": "two"}, "events[7].version"),
        ({"value": float("nan")}, "events[7].value"),
    ],
)
def test_a_wrong_event_is_refused_by_field(change: dict[str, object], field: str) -> None:
    message = event_message("1")
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(MeshError) as caught:
        event_from_proto(message, field="events[7]", now=NOON)
    assert [violation.field for violation in caught.value.violations] == [field]


@pytest.mark.looptime
async def test_a_watch_begins_with_what_fires_and_goes_on_with_what_changes() -> None:
    store, board = MemoryAlertStore(), SilentBoard()
    alerts = Alerts(store=store, board=board, clock=LoopClock(NOON), retention_days=90)
    elsewhere = Alerts(store=store, board=SilentBoard(), clock=LoopClock(NOON), retention_days=90)
    await alerts.report([event("1"), event("2", subject="other", model="other"), event("3", subject="third")])
    await alerts.acknowledge(raised("3").alert_id, by="kim", note="")
    seen: list[tuple[str, str]] = []

    async def watch() -> None:
        async with aclosing(alerts.watch("digits")) as watched:
            async for alert in watched:
                seen.append((alert.subject, alert.status))  # noqa: PERF401 - looked at while it goes on

    async with asyncio.TaskGroup() as group:
        running = [group.create_task(alerts.run()), group.create_task(watch())]
        await asyncio.sleep(1.5)
        assert seen == [("canary-1", "firing")]
        assert board.firing == {"critical": 2}
        # Changed at another monitor; and of another model, which is none of the watch's business.
        await elsewhere.report([event("4", "rolled_back", severity="info"), event("5", model="other")])
        await asyncio.sleep(5)
        await alerts.acknowledge(raised("1").alert_id, by="kim", note="seen")
        await asyncio.sleep(1.5)
        for task in running:
            task.cancel()
    assert seen[1:] == [("canary-1", "resolved"), ("canary-1", "resolved")]


async def test_alerts_of_which_no_more_is_heard_end() -> None:
    clock = FakeClock()
    alerts = Alerts(store=MemoryAlertStore(), board=SilentBoard(), clock=clock, retention_days=1)
    await alerts.report([event("1"), event("2", "canary_held", severity="warning", subject="other")])
    clock.advance(25 * 3600)
    await alerts.keep()
    found = await alerts.find("", status="", min_severity="", after=None, limit=9)
    assert sorted((alert.rule, alert.status) for alert in found) == [
        ("canary_failed", "resolved"),
        ("canary_held", "firing"),
    ]
    clock.advance(25 * 3600)
    await alerts.keep()
    found = await alerts.find("", status="", min_severity="", after=None, limit=9)
    assert [alert.rule for alert in found] == ["canary_held"]


async def test_what_there_is_not_is_refused() -> None:
    alerts = Alerts(store=MemoryAlertStore(), board=SilentBoard(), clock=LoopClock(NOON), retention_days=90)
    for refused in (alerts.get("no-such"), alerts.acknowledge("no-such", by="kim", note="")):
        with pytest.raises(MeshError) as caught:
            await refused
        assert caught.value.reason is Reason.ALERT_NOT_FOUND
    for refused_list in (
        alerts.find("", status="lost", min_severity="", after=None, limit=1),
        alerts.find("", status="", min_severity="dire", after=None, limit=1),
        alerts.find("No Name", status="", min_severity="", after=None, limit=1),
    ):
        with pytest.raises(MeshError) as caught:
            await refused_list
        assert caught.value.reason is Reason.INVALID_FIELD
    with pytest.raises(MeshError, match="events is '0 events'"):
        await alerts.report([])


async def test_an_alert_of_a_hidden_model_is_as_none_and_one_of_a_shared_model_is_its_owners() -> None:
    alerts = Alerts(store=MemoryAlertStore(), board=SilentBoard(), clock=LoopClock(NOON), retention_days=90)
    await alerts.report([event("1")])
    alert_id = raised("1").alert_id
    hidden = Sight(everything=False, team="blue")
    shared = Sight(everything=False, names=frozenset({"digits"}), team="blue")
    own = Sight(everything=False, names=frozenset({"digits"}), own=frozenset({"digits"}), team="red")
    errors = []
    for call in (
        alerts.get(alert_id, hidden),
        alerts.acknowledge(alert_id, by="kim", note="", sight=hidden),
        alerts.get("no-such", hidden),
    ):
        with pytest.raises(MeshError) as caught:
            await call
        errors.append((caught.value.reason, caught.value.message.replace(alert_id, "no-such")))
    assert len(set(errors)) == 1
    assert (await alerts.get(alert_id, shared)).model == "digits"
    with pytest.raises(MeshError) as caught:
        await alerts.acknowledge(alert_id, by="kim", note="", sight=shared)
    assert caught.value.reason is Reason.PERMISSION_DENIED
    assert (await alerts.acknowledge(alert_id, by="kim", note="", sight=own)).acknowledged_by == "kim"
