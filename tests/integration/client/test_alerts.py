"""Alerts and shadow reports, through the client and the command."""

import json
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from infermesh.client import Client, InfermeshError
from infermesh.monitor.v1.alert_pb2 import Alert
from infermesh.monitor.v1.shadow_report_pb2 import ShadowReport

from tests.integration.client.scripted import Scripted


def alert(name: str = "a1", status: str = "firing") -> Alert:
    return Alert(
        alert_id=name,
        rule_name="rollouts",
        model_name="digits",
        version="v1.1.0",
        severity="critical",
        status=status,
        summary="the canary was rolled back: 5 % of 2,000 requests failed, at most 1 % may",
        probable_cause="the canary of v1.1.0",
        undo_command="infermesh canary start digits v1-1-0",
    )


def report() -> ShadowReport:
    made = ShadowReport(
        model_name="digits",
        shadow_version="v1.1.0",
        primary_version="v1.0.0",
        compared_count=2_000,
        disagreed_count=30,
        disagreement_rate=0.015,
        disagreement_low=0.0105,
        disagreement_high=0.0214,
        failed_by_reason={"BACKEND_UNAVAILABLE": 3},
        dropped_count=7,
    )
    made.examples.add(
        request_id="req_1", row=2, primary_output='{"label": "7"}', shadow_output="x" * 60, difference=0.5
    )
    return made


def test_alerts_are_listed_shown_and_acknowledged(scripted: Scripted, client: Client) -> None:
    scripted.monitor.alerts["a1"] = alert()
    shown = scripted.run("alerts", "list", "--status", "firing", "--severity", "warning", "--model", "digits").stdout
    assert "5 % of 2,000 requests failed" in " ".join(shown.split())
    (asked,) = scripted.monitor.asked_for
    assert (asked.model_name, asked.status, asked.min_severity) == ("digits", "firing", "warning")
    assert "infermesh canary start digits v1-1-0" in scripted.run("alerts", "show", "a1").stdout
    taken = scripted.run("alerts", "acknowledge", "a1", "--note", "looking into it").stdout
    assert "ada" in taken
    assert "looking into it" in taken
    assert client.alerts.get("a1").status == "acknowledged"
    assert list(client.alerts.list(status="firing")) == []
    assert "no alerts" in scripted.run("alerts", "list", "--status", "resolved").stdout
    assert "a1" in scripted.completed("infermesh alerts show a")


def test_an_alert_that_is_not_there_is_named(scripted: Scripted) -> None:
    result = scripted.run("alerts", "show", "a9", "--json", code=3)
    assert json.loads(result.stderr)["error"]["reason"] == "ALERT_NOT_FOUND"
    assert "infermesh alerts list" in scripted.run("alerts", "acknowledge", "a9", code=3).stderr


def test_watching_goes_on_over_broken_streams_and_tells_nothing_twice(client: Client, scripted: Scripted) -> None:
    fired, resolved, other = alert(), alert(status="resolved"), alert("a2")
    scripted.monitor.scripts = [
        [fired, grpc.StatusCode.UNAVAILABLE],
        [grpc.StatusCode.UNAVAILABLE],
        [fired, resolved],
        [other, grpc.StatusCode.PERMISSION_DENIED],
    ]
    seen: list[tuple[str, str]] = []
    with pytest.raises(InfermeshError) as caught:
        seen.extend((one.alert_id, one.status) for one in client.alerts.watch(timeout_s=30))
    assert seen == [("a1", "firing"), ("a1", "resolved"), ("a2", "firing")]
    assert caught.value.code is grpc.StatusCode.PERMISSION_DENIED
    assert scripted.monitor.watched == 4


def test_watching_ends_in_time_and_in_an_outage(client: Client, scripted: Scripted) -> None:
    assert list(client.alerts.watch(timeout_s=0.5)) == []
    scripted.monitor.scripts = [[grpc.StatusCode.UNAVAILABLE]] * 100
    with pytest.raises(InfermeshError, match="broken off"):
        list(client.alerts.watch(timeout_s=30, outage_timeout_s=0.3))


def test_the_command_prints_a_line_for_each(scripted: Scripted) -> None:
    scripted.monitor.scripts = [[alert(), alert(status="resolved")]]
    lines = scripted.run("alerts", "watch", "--for", "0.5", "--json").stdout.splitlines()
    assert [json.loads(line)["status"] for line in lines] == ["firing", "resolved"]
    scripted.monitor.scripts = [[alert()]]
    shown = scripted.run("alerts", "watch", "--for", "0.5").stdout
    assert "digits v1.1.0 the canary was rolled back" in shown
    assert "undo: infermesh canary start digits v1-1-0" in shown


def test_a_shadow_report_shows_share_interval_and_examples(scripted: Scripted, client: Client) -> None:
    scripted.monitor.reports = [report()]
    shown = scripted.run("shadow", "report", "digits", "--version", "v1.1.0", "--last", "2h", "--examples", "3").stdout
    for words in (
        "30 of 2,000 copies differ, 1.5 %",
        "1.05 % to 2.14 % at 95 %",
        "├",
        "●",
        "3 failed as BACKEND_UNAVAILABLE",
        "req_1",
        '"7"',
    ):
        assert words in shown
    (asked,) = scripted.monitor.report_requests
    assert (asked.shadow_version, asked.examples_max) == ("v1.1.0", 3)
    age = datetime.now(UTC) - asked.start_time.ToDatetime(UTC)  # noqa: TID251 - how far back a real command looks
    assert timedelta(hours=2) <= age < timedelta(hours=2, minutes=5)
    assert "req_1" not in scripted.run("shadow", "report", "digits", "--examples", "0").stdout
    as_json = json.loads(scripted.run("shadow", "report", "digits", "--json").stdout)["shadow_reports"]
    assert as_json[0]["disagreed_count"] == 30
    assert [one.dropped_count for one in client.shadows.reports("digits")] == [7]


def test_no_copies_says_how_to_send_some(scripted: Scripted) -> None:
    assert "traffic set digits --shadow" in scripted.run("shadow", "report", "digits").stdout
    assert "--last" in scripted.run("shadow", "report", "digits", "--last", "long", code=2).stderr
