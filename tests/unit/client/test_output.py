"""JSON for scripts, tables for people, and the small drawings."""

import io
import json
from datetime import UTC, datetime

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from infermesh.client.cli.output import Output, bar, facts, sparkline, state, table, to_json, when
from infermesh.client.errors import InfermeshError
from infermesh.common.v1 import serving_pb2
from rich.console import Console


def pair(*, as_json: bool) -> tuple[Output, io.StringIO, io.StringIO]:
    out, err = io.StringIO(), io.StringIO()
    made = Output(as_json=as_json, out=Console(file=out, width=100), err=Console(file=err, width=100))
    return made, out, err


def test_json_goes_to_stdout_with_the_names_of_the_rest_api() -> None:
    output, out, err = pair(as_json=True)
    output.result(serving_pb2.Backend(backend_id="triton-0", capacity=1.5), lambda: "never drawn")
    output.note("for people")
    assert json.loads(out.getvalue()) == {
        "backend_id": "triton-0",
        "http_address": "",
        "credentials": "",
        "grpc_address": "",
        "server_model_name": "",
        "capacity": 1.5,
        "protocol": "",
        "server_model_version": "",
        "signature_name": "",
    }
    assert err.getvalue() == ""


def test_people_see_the_drawing_and_notes_on_stderr() -> None:
    output, out, err = pair(as_json=False)
    output.result({"a": 1}, lambda: "drawn")
    output.note("noted")
    assert out.getvalue() == "drawn\n"
    assert err.getvalue() == "noted\n"


def test_lines_are_one_json_object_each() -> None:
    output, out, _ = pair(as_json=True)
    output.line({"n": 1}, "one")
    output.line({"n": 2}, "two")
    assert [json.loads(line) for line in out.getvalue().splitlines()] == [{"n": 1}, {"n": 2}]


def test_failures_are_json_on_stderr_for_scripts() -> None:
    output, out, err = pair(as_json=True)
    output.failure(InfermeshError("no model", code=grpc.StatusCode.NOT_FOUND, reason="MODEL_NOT_FOUND"))
    assert out.getvalue() == ""
    shown = json.loads(err.getvalue())["error"]
    assert (shown["code"], shown["reason"]) == ("NOT_FOUND", "MODEL_NOT_FOUND")
    assert shown["advice"]


def test_messages_inside_structures_become_json() -> None:
    value = to_json({"backends": [serving_pb2.Backend(backend_id="a")], "plain": (1, "x")})
    assert isinstance(value, dict)
    assert value["backends"][0]["backend_id"] == "a"
    assert value["plain"] == [1, "x"]


def test_tables_show_every_row_and_facts_leave_out_what_is_empty() -> None:
    output, out, _ = pair(as_json=False)
    made = table("name", "rows", right=["rows"])
    made.add_row("digits", "450")
    output.result([], lambda: made)
    output.result([], lambda: facts([("name", "digits"), ("alias", "")]))
    assert "digits" in out.getvalue()
    assert "450" in out.getvalue()
    assert "alias" not in out.getvalue()


@pytest.mark.parametrize(
    ("fraction", "drawn"), [(0.0, ""), (0.5, "█" * 5), (1.0, "█" * 10), (7.0, "█" * 10), (-1.0, ""), (0.05, "▌")]
)
def test_bar(fraction: float, drawn: str) -> None:
    assert bar(fraction, width=10) == drawn


def test_sparkline() -> None:
    assert sparkline([]) == ""
    assert sparkline([0.0, 0.0]) == "▁▁"
    assert sparkline([0.0, 50.0, 100.0]) == "▁▅█"


def test_when_and_state() -> None:
    stamp = Timestamp()
    assert when(stamp) == ""
    stamp.FromDatetime(datetime(2026, 2, 5, 10, 0, 0, tzinfo=UTC))
    assert when(stamp) == "2026-02-05 10:00:00"
    assert state("active") == "[green]active[/]"
    assert state("novel") == "novel"
