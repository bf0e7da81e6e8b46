"""Outcomes out of JSON Lines and CSV."""

import io
from pathlib import Path

import pytest
import typer
from infermesh.client.cli.outcome_files import parse_truth, read_outcomes


def test_json_lines_are_outcomes_as_the_rest_api_has_them(tmp_path: Path) -> None:
    file = tmp_path / "o.jsonl"
    file.write_text(
        '{"request_id": "a", "ground_truth": "7", "instance_index": 2}\n\n'
        '{"request_id": "b", "truth": 7, "metrics": {"ctr": 1}, "observed_time": "2026-02-05T10:00:00Z"}\n'
    )
    first, second = read_outcomes(str(file))
    assert (first.request_id, first.ground_truth.string_value, first.instance_index) == ("a", "7", 2)
    assert (second.ground_truth.number_value, dict(second.metrics)) == (7, {"ctr": 1})
    assert second.observed_time.seconds == 1_770_285_600


def test_csv_has_a_column_for_each_metric_and_empty_cells_say_nothing(tmp_path: Path) -> None:
    file = tmp_path / "o.CSV"
    file.write_text(
        "\ufeffrequest_id,instance,truth,ctr,observed_time\na,1,setosa,,2026-02-05T10:00:00Z\nb,,,0,\nc,,3.5,1,\n"
    )
    first, second, third = read_outcomes(str(file))
    assert (first.request_id, first.instance_index, first.ground_truth.string_value) == ("a", 1, "setosa")
    assert first.HasField("observed_time")
    assert dict(first.metrics) == {}
    assert not second.HasField("ground_truth")
    assert dict(second.metrics) == {"ctr": 0}
    assert third.ground_truth.number_value == 3.5


def test_standard_input_is_json_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO('{"request_id": "a", "truth": true}\n'))
    (only,) = read_outcomes("-")
    assert only.ground_truth.bool_value


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("o.jsonl", "{", "line 1 of .* is no JSON"),
        ("o.jsonl", '{"request_id": "a", "truth": 1}\n[]', "line 2 of .* must be a JSON object"),
        ("o.jsonl", '{"request_id": "a", "clicks": 1}', "line 1 of .* is no outcome"),
        ("o.jsonl", '{"request_id": "a"}', "neither what was true nor any metric"),
        ("o.csv", "request_id,ctr\na", "line 2 of .* another number of cells"),
        ("o.csv", "request_id,ctr\na,1\nb,often", "line 3 of .*the metric ctr must be"),
        ("o.csv", "request_id,instance,ctr\na,first,1", "'first' is no instance"),
        ("o.csv", "request_id,ctr\n,1", "line 2 of .* has no request_id"),
        ("o.csv", "request_id,truth,observed_time\na,1,noon", "line 2 of .*no moment"),
    ],
)
def test_what_is_wrong_names_its_line(tmp_path: Path, name: str, text: str, said: str) -> None:
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(typer.BadParameter, match=said) as caught:
        list(read_outcomes(str(file)))
    assert caught.value.param_hint == "--file"


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    file = tmp_path / "o.csv"
    file.write_bytes(b"request_id,ctr\n\xff,1")
    with pytest.raises(typer.BadParameter, match="not UTF-8"):
        list(read_outcomes(str(file)))


@pytest.mark.parametrize(
    ("text", "value"), [("7", 7), ("7.5", 7.5), ("true", True), ("setosa", "setosa"), ('"7"', "7"), ("null", "null")]
)
def test_truths(text: str, value: object) -> None:
    assert parse_truth(text) == value
