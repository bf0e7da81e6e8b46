"""Conditions, shadows, plans, undoing, rolling back and resolving, through the client and the command."""

import json

import pytest
from infermesh.client import Client
from infermesh.router.v1.traffic_rule_pb2 import RouteCondition, Shadow

from tests.integration.client.scripted import Scripted


def test_the_client_sends_conditions_shadows_and_what_to_clear(client: Client, scripted: Scripted) -> None:
    client.traffic.set(
        "digits",
        conditions=[RouteCondition(attribute="region", values=["eu"], version="v1.1.0")],
        shadows=[Shadow(version="v1.1.0", percent=10)],
        deployment="v1-1-0",
        etag="7",
    )
    client.traffic.set("digits", clear=["conditions"], request_id="mine")
    first, second = scripted.router.updates
    assert (first.conditions[0].attribute, first.shadows[0].percent) == ("region", 10)
    assert (first.deployment_name, first.etag) == ("v1-1-0", "7")
    assert (list(second.clear), second.request_id) == (["conditions"], "mine")


def test_the_command_says_the_same(scripted: Scripted) -> None:
    told = ("--when", "region=eu,us:v1.1.0", "--when", "header:x-plan=gold*:1.1.0", "--shadow", "1.1.0=10%:top_k=3")
    scripted.run("traffic", "set", "digits", "v1.0.0=90", "v1.1.0=10", *told, "--etag", "7", "--reason", "try it")
    (sent,) = scripted.router.updates
    first, second = sent.conditions
    assert (first.attribute, list(first.values), first.match, first.version) == ("region", ["eu", "us"], "", "v1.1.0")
    assert (second.attribute, list(second.values), second.match) == ("header:x-plan", ["gold"], "prefix")
    (shadow,) = sent.shadows
    assert (shadow.version, shadow.percent, shadow.comparison.method, shadow.comparison.top_k) == (
        ("v1.1.0", 10, "top_k", 3)
    )
    assert (sent.etag, sent.reason) == ("7", "try it")


@pytest.mark.parametrize(
    ("words", "strategy", "header"),
    [
        (["v1.0.0=100", "--sticky"], "sticky", ""),
        (["v1.0.0=100", "--sticky", "X-Session"], "sticky", "x-session"),
        (["--sticky", "x-user-id", "v1.0.0=100"], "sticky", "x-user-id"),
        (["v1.0.0=100", "--sticky", "--key", "x-session"], "sticky", "x-session"),
        (["v1.0.0=100", "--strategy", "weighted"], "weighted", ""),
        (["--strategy", "sticky", "--key", "x-session"], "sticky", "x-session"),
        (["--random"], "random", ""),
    ],
)
def test_how_a_version_is_chosen(scripted: Scripted, words: list[str], strategy: str, header: str) -> None:
    scripted.run("traffic", "set", "digits", *words)
    (sent,) = scripted.router.updates
    assert (sent.routing_strategy, sent.sticky_key_header) == (strategy, header)
    assert dict(sent.traffic_split) == ({"v1.0.0": 100} if "v1.0.0=100" in words else {})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "nothing to change"),
        (["--strategy", "turns"], "random, weighted or sticky"),
        (["--random", "--strategy", "sticky"], "contradict"),
        (["--random", "--key", "x-session"], "decides nothing"),
        (["--sticky", "x-a", "x-b"], "several headers"),
        (["--clear", "shares"], "conditions or shadows"),
        (["--clear", "shadows", "--shadow", "v1.1.0"], "both given and cleared"),
        (["--when", "region"], "ATTRIBUTE=VALUE:VERSION"),
        (["--shadow", "v1.1.0=0%"], "1 to 100"),
        (["v1.0.0", "--sticky"], "VERSION=PERCENT"),
    ],
)
def test_what_cannot_be_meant_is_said_and_not_sent(scripted: Scripted, words: list[str], said: str) -> None:
    result = scripted.run("traffic", "set", "digits", *words, code=2)
    assert said in " ".join(result.stderr.replace("│", " ").split())
    assert scripted.router.updates == []


def test_a_plan_takes_the_same_words_and_shows_what_moves(scripted: Scripted) -> None:
    shown = scripted.run("traffic", "plan", "digits", "v1.0.0=90", "v1.1.0=10", "--sticky", "x-user-id").stdout
    assert "v1.1.0 gets 10 % instead of 0 %" in shown
    assert "10 % of the traffic would get another version; nothing was changed" in shown
    (asked,) = scripted.router.plans
    assert (asked.routing_strategy, asked.sticky_key_header) == ("sticky", "x-user-id")
    assert scripted.router.updates == []


def test_undoing_says_why_and_checks_what_was_read(scripted: Scripted) -> None:
    scripted.run("traffic", "undo", "digits", "--reason", "look again", "--etag", "7")
    (sent,) = scripted.router.undone
    assert (sent.model_name, sent.reason, sent.etag) == ("digits", "look again", "7")
    assert sent.request_id


@pytest.mark.parametrize("command", [("rollback",), ("traffic", "rollback")])
def test_rolling_back_is_one_command(scripted: Scripted, command: tuple[str, ...]) -> None:
    scripted.run(*command, "digits", "v1.0.0", "--reason", "too many errors")
    scripted.run(*command, "digits")
    first, second = scripted.router.rolled_back
    assert (first.to_version, first.reason) == ("v1.0.0", "too many errors")
    assert second.to_version == ""


def test_where_a_request_would_go_and_why(scripted: Scripted) -> None:
    shown = scripted.run("traffic", "resolve", "digits", "--header", "X-User-Id=42", "-H", "x-region: eu").stdout
    assert "the key 42 has place 7" in shown
    assert dict(scripted.router.resolved[0].headers) == {"x-user-id": "42", "x-region": "eu"}
    by_chance = scripted.run("traffic", "resolve", "digits", "--version", "champion")
    assert "v1.0.0 90 %, v1.1.0 10 %" in by_chance.stdout
    assert scripted.router.resolved[1].version == "champion"
    as_json = json.loads(scripted.run("traffic", "resolve", "digits", "--json").stdout)
    assert as_json["decided_by"] == "chance"
    assert "NAME=VALUE" in scripted.run("traffic", "resolve", "digits", "-H", "x-user-id", code=2).stderr


def test_the_rules_are_listed(scripted: Scripted) -> None:
    shown = scripted.run("traffic", "rules", "digits").stdout
    assert "v1.0.0 90 %, v1.1.0 10 %" in shown
    assert json.loads(scripted.run("traffic", "rules", "digits", "--json").stdout)["traffic_rules"][0]["status"] == (
        "active"
    )


def test_shares_are_completed_from_versions(scripted: Scripted, client: Client) -> None:
    client.models.register("digits", "v1.0.0", "/tmp/x.onnx")
    assert "v1.0.0=" in scripted.completed("infermesh traffic set digits v1")
