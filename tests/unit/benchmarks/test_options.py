"""The options of `make bench`."""

import pytest

from benchmarks.options import effort_of, parse


def test_everything_has_a_default() -> None:
    arguments = parse([])
    assert arguments.part == ("closed", "one", "rows32", "open", "adaptive", "telemetry")
    effort = effort_of(arguments)
    assert (effort.seconds, effort.rounds, effort.callers, effort.quick) == (2.0, 3, (8, 64, 256), False)
    assert effort.only == ("bare", "batcher", "gateway-grpc", "gateway-typed", "bare-json", "gateway-rest")
    assert effort.soak_minutes == 10.0


def test_quick_shortens_what_nothing_else_says() -> None:
    assert effort_of(parse(["--quick"])).seconds == 0.5
    assert effort_of(parse(["--quick", "--seconds", "3"])).seconds == 3.0


def test_lists_are_by_commas_and_run_in_their_own_order() -> None:
    arguments = parse(["--callers", "64,8,8", "--only", "gateway-rest,batcher", "--part", "soak,one,closed"])
    assert (arguments.callers, arguments.only) == ((8, 64), ("batcher", "gateway-rest"))
    assert arguments.part == ("closed", "one", "soak")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--only", "sidecar"], "no target 'sidecar'; there are bare, batcher"),
        (["--part", "gpu"], "no part 'gpu'; there are closed, one, rows32"),
        (["--callers", "0"], "from 1 to 4096"),
        (["--seconds", "0.01"], "not within 0.2 to 600"),
        (["--minutes", "0"], "not within 0.2 to 1440"),
    ],
)
def test_what_cannot_be_measured_is_refused(wrong: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(wrong)
    assert said in capsys.readouterr().err
