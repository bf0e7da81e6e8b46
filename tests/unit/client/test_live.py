"""Following something in the terminal."""

import io
import json
from collections.abc import Iterator
from datetime import datetime

import grpc
import pytest
from infermesh.client.cli.live import watched
from infermesh.client.cli.output import Output
from infermesh.client.cli.session import Session
from infermesh.client.errors import InfermeshError
from infermesh.router.v1.canary_pb2 import Canary
from rich.console import Console


class Seen:
    """A session whose two streams are texts."""

    def __init__(self, *, as_json: bool = False, terminal: bool = False) -> None:
        self.out, self.err = io.StringIO(), io.StringIO()
        output = Output(
            as_json=as_json,
            out=Console(file=self.out, width=80),
            err=Console(file=self.err, width=80, force_terminal=terminal),
        )
        self.session = Session(gateway="127.0.0.1:1", timeout_s=1.0, output=output)


def changes(*statuses: str, error: InfermeshError | None = None) -> Iterator[Canary]:
    for status in statuses:
        yield Canary(status=status)
    if error is not None:
        raise error


def drawn(canary: Canary, _now: datetime) -> str:
    return f"it is {canary.status}"


def test_scripts_get_a_line_for_each_change() -> None:
    seen = Seen(as_json=True, terminal=True)
    assert watched(seen.session, changes("running", "promoted"), drawn).status == "promoted"
    assert [json.loads(line)["status"] for line in seen.out.getvalue().splitlines()] == ["running", "promoted"]
    assert seen.err.getvalue() == ""


def test_where_nobody_looks_the_last_one_alone_is_printed() -> None:
    seen = Seen()
    assert watched(seen.session, changes("running", "promoted"), drawn).status == "promoted"
    assert seen.out.getvalue() == "it is promoted\n"
    assert seen.err.getvalue() == ""


def test_a_terminal_shows_what_is_new_and_keeps_the_last() -> None:
    seen = Seen(terminal=True)
    assert watched(seen.session, changes("running", "promoted"), drawn).status == "promoted"
    assert seen.out.getvalue() == "it is promoted\n"
    # The one before was drawn too, or overdrawn before a refresh; what stands at the end is the last.
    assert seen.err.getvalue().rindex("it is promoted") > seen.err.getvalue().find("it is running")


@pytest.mark.parametrize("terminal", [True, False])
def test_what_was_seen_last_is_printed_also_where_following_fails(terminal: bool) -> None:
    seen = Seen(terminal=terminal)
    broken = InfermeshError("broken off", code=grpc.StatusCode.UNAVAILABLE, reason="UNAVAILABLE")
    with pytest.raises(InfermeshError, match="broken off"):
        watched(seen.session, changes("running", error=broken), drawn)
    assert seen.out.getvalue() == "it is running\n"


def quiet(canary: Canary) -> str:
    return "" if canary.status == "held" else f"now {canary.status}"


def test_lines_are_said_where_nobody_looks_and_the_end_is_left_to_who_asked() -> None:
    seen = Seen()
    assert watched(seen.session, changes("running", "held", "promoted"), drawn, line=quiet).status == "promoted"
    assert seen.err.getvalue() == "now running\nnow promoted\n"
    assert seen.out.getvalue() == ""


def test_a_terminal_needs_no_lines() -> None:
    seen = Seen(terminal=True)
    assert watched(seen.session, changes("running", "promoted"), drawn, line=quiet).status == "promoted"
    assert "it is running" in seen.err.getvalue() or "it is promoted" in seen.err.getvalue()
    assert "now" not in seen.err.getvalue()
    assert seen.out.getvalue() == ""
