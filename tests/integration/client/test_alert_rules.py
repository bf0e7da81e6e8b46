"""Alert rules, notification channels and silences, through the command."""

import json
from datetime import UTC, timedelta

import pytest
from infermesh.client.cli.quantities import now
from infermesh.monitor.v1 import alert_pb2

from tests.integration.client.scripted import Scripted


def test_a_rule_is_made_of_one_condition_and_read_back(scripted: Scripted) -> None:
    shown = scripted.run(
        *("rules", "create", "mine", "--model", "digits", "--when", "error_rate > 5%", "--window", "5m"),
        *("--for", "1m", "--severity", "critical", "--tell", "oncall", "--canary", "rollback"),
    ).stdout
    made = scripted.monitor.rules["mine"]
    assert made.threshold == alert_pb2.ThresholdCondition(
        metric="error_rate", comparison=">", threshold=0.05, window_s=300, for_s=60
    )
    assert (made.model_name, made.severity, made.rollout_action, made.enabled) == (
        "digits",
        "critical",
        "rollback",
        True,
    )
    assert "error_rate > 0.05 over 5m for 1m" in shown
    listed = scripted.run("rules", "list").stdout
    assert "mine" in listed
    assert "oncall" in listed
    assert json.loads(scripted.run("rules", "list", "--json").stdout)["alert_rules"][0]["name"] == "mine"
    assert "mine" in scripted.completed("infermesh rules show m")
    assert "no alert rules" in scripted.run("rules", "list", "--model", "other").stdout
    scripted.run("rules", "delete", "mine")
    assert json.loads(scripted.run("rules", "show", "mine", "--json", code=3).stderr)["error"]["reason"] == (
        "ALERT_NOT_FOUND"
    )


def test_budgets_drift_and_events_are_conditions_too(scripted: Scripted) -> None:
    scripted.run("rules", "create", "a", "--burn", "0.999 1h 5m 14.4", "--disabled")
    scripted.run("rules", "create", "b", "--burn", "0.99 6h 30m 6", "--latency", "200")
    scripted.run("rules", "create", "c", "--drift", "high", "--feature", "age")
    scripted.run("rules", "create", "d", "--event", "canary_failed", "--event", "rolled_back")
    rules = scripted.monitor.rules
    assert rules["a"].burn_rate == alert_pb2.BurnRateCondition(
        objective=0.999, indicator="success", long_window_s=3600, short_window_s=300, burn_rate=14.4
    )
    assert not rules["a"].enabled
    assert (rules["b"].burn_rate.indicator, rules["b"].burn_rate.latency_ms) == ("latency", 200)
    assert rules["c"].drift == alert_pb2.DriftCondition(min_severity="high", features=["age"])
    assert list(rules["d"].event.events) == ["canary_failed", "rolled_back"]
    assert "disabled" in scripted.run("rules", "show", "a").stdout


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--when", "error_rate is high"),
        ("--when", "error_rate > -"),
        ("--burn", "0.999 1h"),
        ("--burn", "0.999 1x 5m 14.4"),
        ("--when", "error_rate > 5%", "--drift", "high"),
        ("--when", "error_rate > 5%", "--window", "soon"),
    ],
)
def test_what_is_no_condition_is_wrong_usage(scripted: Scripted, arguments: tuple[str, ...]) -> None:
    scripted.run("rules", "create", "mine", *arguments, code=2)
    assert scripted.monitor.rules == {}


def test_a_change_names_what_it_changes_and_nothing_else(scripted: Scripted) -> None:
    scripted.run("rules", "create", "mine", "--when", "error_rate > 5%")
    scripted.run("rules", "change", "mine", "--when", "error_rate >= 0.02", "--for", "2m", "--tell", "a", "--tell", "b")
    scripted.run("rules", "disable", "mine")
    scripted.run("rules", "enable", "mine")
    changed, disabled, enabled = scripted.monitor.updates
    assert list(changed.update_mask.paths) == [
        "notification_channels",
        "threshold.metric",
        "threshold.comparison",
        "threshold.threshold",
        "threshold.for_s",
    ]
    assert (changed.alert_rule.threshold.threshold, changed.alert_rule.threshold.for_s) == (0.02, 120)
    assert [list(one.update_mask.paths) for one in (disabled, enabled)] == [["enabled"], ["enabled"]]
    assert (disabled.alert_rule.enabled, enabled.alert_rule.enabled) == (False, True)
    scripted.run("rules", "change", "mine", code=2)


def test_channels_are_made_tried_and_removed(scripted: Scripted) -> None:
    shown = scripted.run(
        "channels", "create", "oncall", "--webhook", "https://a.example/hook", "--severity", "critical"
    )
    assert "https://a.example/hook" in shown.stdout
    assert scripted.monitor.channels["oncall"].min_severity == "critical"
    scripted.run("channels", "create", "people", "--email", "ann@b.example", "--email", "bob@b.example")
    assert list(scripted.monitor.channels["people"].email.addresses) == ["ann@b.example", "bob@b.example"]
    scripted.run("channels", "create", "both", "--webhook", "https://a.example", "--email", "ann@b.example", code=2)
    listed = scripted.run("channels", "list").stdout
    assert "ann@b.example" in listed
    assert "sent" in scripted.run("channels", "test", "oncall").stdout
    scripted.monitor.test_error = "a.example answered 500"
    assert "answered 500" in scripted.run("channels", "test", "oncall", code=1).stdout
    scripted.run("channels", "delete", "people")
    assert set(scripted.monitor.channels) == {"oncall"}


def test_silences_are_made_for_a_while_and_ended(scripted: Scripted) -> None:
    before = now()
    scripted.run("silences", "create", "2h", "--model", "digits", "--reason", "load test")
    made = scripted.monitor.silences["s0"]
    end = made.end_time.ToDatetime(UTC)
    assert before + timedelta(hours=2) <= end + timedelta(seconds=1)
    assert end <= now() + timedelta(hours=2)
    assert (made.model_name, made.rule_name, made.reason) == ("digits", "", "load test")
    assert "load test" in scripted.run("silences", "list").stdout
    assert "s0" in scripted.completed("infermesh silences end s")
    scripted.run("silences", "end", "s0")
    assert "no silences" in scripted.run("silences", "list").stdout
    scripted.run("silences", "create", "soon", "--model", "digits", code=2)
