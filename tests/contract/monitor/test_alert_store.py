"""Alerts, in PostgreSQL and in what stands in for it."""

from datetime import timedelta

from services.monitor.domain.alerts import FIRING, SEVERITIES, Alert
from services.monitor.ports import AlertQuery, AlertState, AlertStore
from tests.support.clock import NOON
from tests.support.monitor_events import event

ALL = AlertQuery("", "", SEVERITIES)


async def found(store: AlertStore, query: AlertQuery = ALL) -> list[tuple[str, str, str]]:
    alerts = await store.find(query, after=None, limit=100)
    return [(alert.subject, alert.rule, alert.status) for alert in alerts]


async def only(store: AlertStore) -> Alert:
    [alert] = await store.find(ALL, after=None, limit=10)
    return alert


async def test_an_event_is_taken_once(alert_store: AlertStore) -> None:
    for summary in ("first", "again"):
        await alert_store.report([event("1", summary=summary)], now=NOON)
    alert = await only(alert_store)
    assert (alert.summary, alert.severity, alert.value) == ("first", "critical", 0.25)
    assert (alert.started_at, alert.fired_at, alert.resolved_at) == (NOON, NOON, None)
    assert await alert_store.get(alert.alert_id) == alert
    assert await alert_store.get("no-such") is None
    assert await alert_store.state() == AlertState(1, {"critical": 1})


async def test_events_change_alerts_in_their_order(alert_store: AlertStore) -> None:
    await alert_store.report(
        [
            event("1", "canary_held", severity="warning"),
            event("2", "canary_failed", after_s=10),
            event("3", "canary_held", severity="warning", subject="canary-9", model="other"),
        ],
        now=NOON,
    )
    assert sorted(await found(alert_store)) == [
        ("canary-1", "canary_failed", "firing"),
        ("canary-1", "canary_held", "resolved"),
        ("canary-9", "canary_held", "firing"),
    ]
    assert await alert_store.state() == AlertState(4, {"critical": 1, "warning": 1})
    await alert_store.report([event("4", "canary_promoted", severity="info", subject="canary-2")], now=NOON)
    assert (await alert_store.state()).firing == {"warning": 1}


async def test_alerts_are_found_by_what_is_asked(alert_store: AlertStore) -> None:
    await alert_store.report(
        [event(str(place), subject=f"s{place}", after_s=place // 2, severity=("warning", "critical")[place % 2])
         for place in range(6)],
        now=NOON,
    )  # fmt: skip
    page = await alert_store.find(ALL, after=None, limit=4)
    rest = await alert_store.find(ALL, after=(page[-1].fired_at, page[-1].alert_id), limit=4)
    listed = [*page, *rest]
    assert [alert.fired_at for alert in listed] == sorted((alert.fired_at for alert in listed), reverse=True)
    assert len({alert.alert_id for alert in listed}) == 6
    assert len(await found(alert_store, AlertQuery("", FIRING, ("critical",)))) == 3
    assert await found(alert_store, AlertQuery("other", "", SEVERITIES)) == []
    assert await found(alert_store, AlertQuery("digits", "resolved", SEVERITIES)) == []


async def test_whoever_acknowledges_first_stays(alert_store: AlertStore) -> None:
    await alert_store.report([event("1")], now=NOON)
    alert_id = (await only(alert_store)).alert_id
    later = NOON + timedelta(minutes=1)
    first = await alert_store.acknowledge(alert_id, by="kim", note="on it", now=later)
    again = await alert_store.acknowledge(alert_id, by="lee", note="me too", now=NOON + timedelta(minutes=2))
    assert first == again == await only(alert_store)
    assert first is not None
    assert (first.status, first.acknowledged_by, first.note, first.acknowledged_at) == (
        "acknowledged",
        "kim",
        "on it",
        later,
    )
    assert await alert_store.acknowledge("no-such", by="kim", note="", now=NOON) is None
    assert await alert_store.state() == AlertState(2, {})


async def test_changes_are_told_in_order_and_only_the_last_of_each(alert_store: AlertStore) -> None:
    assert await alert_store.state() == AlertState(0, {})
    await alert_store.report([event("1"), event("2", subject="b"), event("3", model="other")], now=NOON)
    await alert_store.report([event("4", "rolled_back", severity="info")], now=NOON)
    changes = await alert_store.changed(after=1, model="digits", limit=10)
    assert [(change, alert.subject, alert.status) for change, alert in changes] == [
        (2, "b", "firing"),
        (4, "canary-1", "resolved"),
    ]
    assert [change for change, _ in await alert_store.changed(after=0, model="", limit=2)] == [2, 3]
    assert await alert_store.changed(after=4, model="", limit=10) == []


async def test_alerts_end_and_are_forgotten(alert_store: AlertStore) -> None:
    await alert_store.report([event("1"), event("2", "canary_held", severity="warning", subject="b")], now=NOON)
    await alert_store.expire(now=NOON + timedelta(hours=23))
    assert (await alert_store.state()).last_change == 2
    over = NOON + timedelta(hours=25)
    await alert_store.expire(now=over)
    assert sorted(await found(alert_store)) == [
        ("b", "canary_held", "firing"),
        ("canary-1", "canary_failed", "resolved"),
    ]
    await alert_store.forget(before=over + timedelta(seconds=1))
    assert await found(alert_store) == [("b", "canary_held", "firing")]


async def test_only_alerts_of_the_models_that_are_asked_for_on_full_pages(alert_store: AlertStore) -> None:
    for place, model in enumerate(("a", "b", "a", "c", "a")):
        await alert_store.report([event(f"e{place}", model=model, subject=f"s{place}")], now=NOON)

    async def models(of: set[str] | None, limit: int = 10) -> list[str]:
        query = AlertQuery("", "", SEVERITIES, of)
        return [alert.model for alert in await alert_store.find(query, after=None, limit=limit)]

    assert sorted(await models(None)) == ["a", "a", "a", "b", "c"]
    assert await models({"a"}, limit=2) == ["a", "a"]
    assert sorted(await models({"b", "c", "z"})) == ["b", "c"]
    assert await models(set()) == []
    changed = await alert_store.changed(after=0, model="", limit=10, models={"c"})
    assert [alert.model for _, alert in changed] == ["c"]
