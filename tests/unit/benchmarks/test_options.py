"""The options of `make bench`."""

import pytest

from benchmarks.hot_path import parse


def test_everything_has_a_default() -> None:
    options = parse([])
    assert (options.seconds, options.rounds, options.callers) == (3.0, 3, (1, 8, 64, 256))
    assert options.only == ("bare", "batcher", "gateway-grpc", "gateway-typed", "gateway-rest")


def test_lists_are_by_commas() -> None:
    options = parse(["--callers", "64,8,8", "--only", "batcher,gateway-rest"])
    assert (options.callers, options.only) == ((8, 64), ("batcher", "gateway-rest"))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--only", "sidecar"], "no target 'sidecar'; there are bare, batcher"),
        (["--callers", "0"], "from 1 to 4096"),
        (["--seconds", "0.01"], "not within 0.2 to 600"),
    ],
)
def test_what_cannot_be_measured_is_refused(wrong: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(wrong)
    assert said in capsys.readouterr().err
