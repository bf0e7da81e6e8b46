"""Outcomes, one and many, through the client and the command."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from infermesh.client import Client, InfermeshError
from infermesh.client.outcomes import outcome

from tests.integration.client.scripted import Scripted


def test_one_outcome_is_reported_and_listed(client: Client, scripted: Scripted) -> None:
    observed = datetime(2026, 2, 5, 10, tzinfo=UTC)
    taken = client.outcomes.report("req_known", truth="7", metrics={"ctr": 1}, instance=2, observed=observed)
    assert (taken.version, taken.ground_truth.string_value, taken.instance_index) == ("v1.1.0", "7", 2)
    client.outcomes.report("req_known", truth=7.5)
    client.outcomes.report("req_known", truth=True, metrics={})
    first, second, third = client.outcomes.list("req_known")
    assert first.observed_time.ToDatetime(UTC) == observed
    assert (second.ground_truth.number_value, third.ground_truth.bool_value) == (7.5, True)
    with pytest.raises(ValueError, match="no time zone"):
        client.outcomes.report("req_known", truth="7", observed=observed.replace(tzinfo=None))


def test_many_go_in_calls_of_a_thousand(client: Client, scripted: Scripted) -> None:
    told: list[int] = []
    many = (outcome(f"req_{n}", metrics={"ctr": n % 2}) for n in range(2_500))
    total = client.outcomes.report_many(many, progress=told.append)
    assert scripted.monitor.batches == [1000, 1000, 500]
    assert told == [1000, 2000, 2500]
    assert (total.accepted_count, total.unmatched_count) == (2_500, 3)


def test_what_was_taken_before_a_failure_stays(client: Client, scripted: Scripted) -> None:
    scripted.monitor.fails_after = 1
    with pytest.raises(InfermeshError) as caught:
        client.outcomes.report_many((outcome(f"req_{n}", truth=1) for n in range(30)), batch_size=10)
    assert caught.value.reason == "DEPENDENCY_UNAVAILABLE"
    assert scripted.monitor.batches == [10]


def test_the_command_reports_one(scripted: Scripted) -> None:
    report = ("outcomes", "report", "req_known")
    shown = scripted.run(*report, "--truth", "7", "--metric", "ctr=1", "--observed", "2026-02-05T10:00:00Z").stdout
    assert "truth 7, ctr 1 for req_known, digits v1.1.0" in shown
    scripted.run(*report, "--truth", "setosa", "--instance", "1")
    assert "not logged yet" in scripted.run("outcomes", "report", "req_other", "--metric", "ctr=0").stdout
    listed = scripted.run("outcomes", "list", "req_known").stdout
    assert "setosa" in listed
    as_json = json.loads(scripted.run("outcomes", "list", "req_known", "--json").stdout)["outcomes"]
    assert [one["ground_truth"] for one in as_json] == [7.0, "setosa"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("report",), "REQUEST_ID"),
        (("report", "req_1"), "--truth"),
        (("report", "req_1", "--metric", "ctr"), "NAME=NUMBER"),
        (("report", "req_1", "--metric", "ctr=often"), "--metric"),
        (("report", "req_1", "--truth", "7", "--observed", "yesterday"), "--observed"),
        (("report", "req_1", "--file", "x.csv"), "--file"),
        (("report", "--file", "/nowhere/x.csv"), "cannot read"),
    ],
)
def test_what_is_no_outcome_is_said(scripted: Scripted, words: tuple[str, ...], said: str) -> None:
    assert said in scripted.run("outcomes", *words, code=2).stderr
    assert scripted.monitor.outcomes == {}


def test_a_file_is_reported_whole(scripted: Scripted, tmp_path: Path) -> None:
    rows = [f"req_{n},{n % 10},{n % 2},{n / 4}" for n in range(1_200)]
    (tmp_path / "o.csv").write_text("\n".join(["request_id,truth,ctr,revenue", *rows]))
    shown = scripted.run("outcomes", "report", "--file", str(tmp_path / "o.csv")).stdout
    assert "1,200 outcomes reported, 2 of them for requests that are not logged yet" in shown
    assert scripted.monitor.batches == [1000, 200]
    (last,) = scripted.monitor.outcomes["req_1199"]
    assert (last.ground_truth.number_value, dict(last.metrics)) == (9, {"ctr": 1, "revenue": 299.75})


def test_a_wrong_line_says_what_was_reported_before_it(scripted: Scripted, tmp_path: Path) -> None:
    lines = [json.dumps({"request_id": f"req_{n}", "ground_truth": n}) for n in range(1_100)]
    (tmp_path / "o.jsonl").write_text("\n".join([*lines, '{"truth": 1}']))
    result = scripted.run("outcomes", "report", "-f", str(tmp_path / "o.jsonl"), code=2)
    said = " ".join(result.stderr.replace("│", " ").split())
    assert "line 1101" in said
    assert "has no request_id; 1,000 before it were reported" in said
    assert scripted.monitor.batches == [1000]
