"""Shares of traffic, through the client and the command."""

import json

import pytest
from infermesh.client import Client, InfermeshError

from tests.integration.client.scripted import Scripted


def test_shares_are_sent_and_what_holds_comes_back(client: Client, scripted: Scripted) -> None:
    traffic = client.traffic.set("digits", {"v1.0.0": 90, "v1.1.0": 10}, strategy="sticky", reason="try it")
    assert dict(traffic.traffic_split) == {"v1.0.0": 90, "v1.1.0": 10}
    (sent,) = scripted.router.updates
    assert (sent.model_name, sent.routing_strategy, sent.reason) == ("digits", "sticky", "try it")
    assert sent.request_id
    assert dict(client.traffic.get("digits").traffic_split) == {"v1.0.0": 90, "v1.1.0": 10}


def test_a_version_that_is_not_ready_is_refused(client: Client) -> None:
    with pytest.raises(InfermeshError) as caught:
        client.traffic.set("digits", {"v9.0.0": 100})
    assert caught.value.reason == "VERSION_NOT_DEPLOYED"


def test_the_command_sets_and_shows(scripted: Scripted) -> None:
    scripted.run("traffic", "set", "digits", "v1.0.0=75", "1.1.0=25%")
    assert dict(scripted.router.updates[0].traffic_split) == {"v1.0.0": 75, "v1.1.0": 25}
    assert json.loads(scripted.run("traffic", "show", "digits", "--json").stdout)["traffic_split"] == {
        "v1.0.0": 75,
        "v1.1.0": 25,
    }
    shown = scripted.run("traffic", "show", "digits").stdout.splitlines()
    assert [line.split()[:3] for line in shown if line.startswith("v1")] == [
        ["v1.0.0", "75", "%"],
        ["v1.1.0", "25", "%"],
    ]


@pytest.mark.parametrize(("rule", "words"), [("", []), ("split", []), ("slow-start", ["decided by", "slow-start"])])
def test_who_decides_is_told_only_of_canaries_and_tests(scripted: Scripted, rule: str, words: list[str]) -> None:
    scripted.router.governing_rule = rule
    shown = scripted.run("traffic", "show", "digits").stdout
    assert [word for word in ("decided by", rule or "decided by", "split") if word in shown] == words
    assert json.loads(scripted.run("traffic", "show", "digits", "--json").stdout)["governing_rule"] == rule


def test_a_plan_changes_nothing(scripted: Scripted) -> None:
    shown = scripted.run("traffic", "set", "digits", "v1.0.0=90", "v1.1.0=10", "--dry-run").stdout
    assert "v1.1.0 gets 10 % instead of 0 %" in shown
    assert scripted.router.updates == []


@pytest.mark.parametrize(("options", "strategy"), [((), ""), (("--sticky",), "sticky"), (("--random",), "random")])
def test_the_strategy_stays_unless_it_is_named(scripted: Scripted, options: tuple[str, ...], strategy: str) -> None:
    scripted.run("traffic", "set", "digits", "v1.0.0=100", *options)
    assert scripted.router.updates[0].routing_strategy == strategy


@pytest.mark.parametrize(
    ("shares", "words"),
    [
        (("v1.0.0=ninety",), "ninety"),
        (("v1.0.0=90",), "add up to 90"),
        (("v1.0.0=50", "1.0.0=50"), "two shares"),
        (("v1.0.0",), "VERSION=PERCENT"),
        (("v1.0.0=101", "v1.1.0=0"), "0 to 100"),
    ],
)
def test_shares_that_cannot_be_never_reach_the_router(scripted: Scripted, shares: tuple[str, ...], words: str) -> None:
    result = scripted.run("traffic", "set", "digits", *shares, code=2)
    assert words in " ".join(result.stderr.split())
    assert scripted.router.updates == []


def test_the_history_tells_what_was_before_and_why(scripted: Scripted) -> None:
    shown = scripted.run("traffic", "history", "digits").stdout
    assert "v1.0.0 100 %" in shown
    assert "try it" in shown
