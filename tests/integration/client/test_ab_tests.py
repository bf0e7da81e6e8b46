"""A/B tests, through the client and the command."""

import json
from pathlib import Path

import pytest
from infermesh.client import Client, InfermeshError
from infermesh.router.v1.ab_test_pb2 import AbTest

from tests.integration.client.scripted import Scripted

CREATE = ("ab-test", "create", "digits", "forest", "v1.0.0=90", "1.1.0=10%")


def with_results(test: AbTest) -> AbTest:
    results = test.results
    results.control = "v1.0.0"
    results.outcome, results.winner, results.conclusion = "winner", "v1.1.0", "v1.1.0 is faster"
    results.arms.add(version="v1.0.0", request_count=9_000, latency_avg_ms=12.0, outcomes={"ctr": 0.03})
    results.arms.add(version="v1.1.0", request_count=1_000, latency_avg_ms=11.0, outcomes={"ctr": 0.04})
    results.comparisons.add(
        metric="latency",
        version="v1.1.0",
        test="welch_t",
        control_samples=9_000,
        version_samples=1_000,
        control_value=12.0,
        version_value=11.0,
        difference_low=-1.5,
        difference_high=-0.5,
        sequential_low=-2.0,
        sequential_high=-0.1,
        p_value=0.001,
        verdict="better",
    )
    return test


def test_a_test_is_made_as_it_is_said(client: Client, scripted: Scripted) -> None:
    made = client.ab_tests.create(
        "digits", "forest", {"v1.0.0": 90, "v1.1.0": 10}, metrics=["ctr"], duration_days=2, auto_promote=True
    )
    assert (made.name, made.status, made.auto_promote) == ("forest", "running", True)
    (sent,) = scripted.router.tests_made
    assert (dict(sent.versions), list(sent.metrics), sent.duration_days) == (({"v1.0.0": 90, "v1.1.0": 10}, ["ctr"], 2))
    assert sent.request_id
    with pytest.raises(InfermeshError) as caught:
        client.ab_tests.create("digits", "forest", {"v1.0.0": 50, "v1.1.0": 50})
    assert caught.value.reason == "AB_TEST_EXISTS"


def test_the_command_makes_the_same(scripted: Scripted) -> None:
    told = ("--duration", "36h", "--metric", "ctr", "--metric", "latency", "--rollback-on-error-rate", "5%")
    scripted.run(*CREATE, *told, "--auto-promote", "--key", "X-Session")
    (sent,) = scripted.router.tests_made
    assert dict(sent.versions) == {"v1.0.0": 90, "v1.1.0": 10}
    assert sent.duration_days == 1.5
    assert list(sent.metrics) == ["ctr", "latency"]
    assert sent.rollback_on_error_rate == pytest.approx(0.05)
    assert (sent.auto_promote, sent.sticky_key_header) == (True, "x-session")


@pytest.mark.parametrize(
    ("words", "said"),
    [(("--duration", "soon"), "--duration"), (("--rollback-on-error-rate", "-1"), "--rollback-on-error-rate")],
)
def test_what_cannot_be_names_its_option(scripted: Scripted, words: tuple[str, ...], said: str) -> None:
    assert said in scripted.run(*CREATE, *words, code=2).stderr
    assert scripted.router.tests_made == []


def test_results_are_shown_with_their_intervals(scripted: Scripted) -> None:
    scripted.run(*CREATE)
    with_results(scripted.router.ab_tests["forest"])
    shown = scripted.run("ab-test", "show", "digits", "forest", env={"COLUMNS": "80"}).stdout
    for words in (
        "v1.0.0 (control)",
        "9,000",
        "latency v1.1.0 − v1.0.0: 11 ms − 12 ms  better",
        "sequential",
        "├",
        "│",
    ):
        assert words in shown
    assert "winner v1.1.0: v1.1.0 is faster" in shown
    assert max(len(line) for line in shown.splitlines()) <= 80
    as_json = json.loads(scripted.run("ab-test", "show", "digits", "forest", "--json").stdout)
    assert as_json["results"]["comparisons"][0]["difference_low"] == -1.5


@pytest.mark.parametrize(("name", "begins"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml")])
def test_the_intervals_are_drawn_into_a_file(scripted: Scripted, tmp_path: Path, name: str, begins: bytes) -> None:
    scripted.run(*CREATE)
    with_results(scripted.router.ab_tests["forest"])
    scripted.run("ab-test", "show", "digits", "forest", "--plot", str(tmp_path / name))
    assert (tmp_path / name).read_bytes().startswith(begins)


def test_what_cannot_be_drawn_is_said(scripted: Scripted, tmp_path: Path) -> None:
    scripted.run(*CREATE)
    show = ("ab-test", "show", "digits", "forest", "--plot")
    assert ".png or .svg" in scripted.run(*show, "a.gif", code=2).stderr
    assert "no intervals yet" in scripted.run(*show, str(tmp_path / "a.png"), code=2).stderr
    with_results(scripted.router.ab_tests["forest"])
    assert "cannot write" in scripted.run(*show, str(tmp_path / "nowhere" / "a.png"), code=2).stderr


def test_tests_are_listed_stopped_and_concluded(scripted: Scripted, client: Client) -> None:
    scripted.run(*CREATE)
    assert "forest" in scripted.run("ab-test", "list", "digits").stdout
    assert json.loads(scripted.run("ab-test", "list", "digits", "--status", "stopped", "--json").stdout) == {
        "ab_tests": []
    }
    scripted.run("ab-test", "conclude", "digits", "forest", "--promote", "v1.1.0", "--reason", "enough", "--etag", "2")
    (sent,) = scripted.router.concluded
    assert (sent.promote, sent.reason, sent.etag) == ("v1.1.0", "enough", "2")
    scripted.run("ab-test", "stop", "digits", "forest", "--reason", "no more")
    assert scripted.router.commands == [("stop", "", "no more")]
    assert [one.status for one in client.ab_tests.watch("digits", "forest", timeout_s=30)] == ["stopped"]
    lines = scripted.run("ab-test", "show", "digits", "forest", "--watch", "--json").stdout.splitlines()
    assert [json.loads(line)["status"] for line in lines] == ["stopped"]


def test_a_test_that_is_not_there_is_named_and_others_completed(scripted: Scripted) -> None:
    result = scripted.run("ab-test", "show", "digits", "tree", code=3)
    assert "no test tree" in result.stderr
    scripted.run(*CREATE)
    assert "forest" in scripted.completed("infermesh ab-test show digits fo")
