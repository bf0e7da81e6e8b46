"""Lengths of time, shares and moments as people type them."""

from datetime import UTC, datetime, timedelta

import pytest
import typer
from infermesh.client.cli.quantities import (
    length,
    parse_fraction,
    parse_length,
    parse_moment,
    parse_number,
    parse_percent,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("30m", 1800), ("2h", 7200), ("1d", 86_400), ("1h30m", 5400), ("1.5d", 129_600), (" 5M ", 300)],
)
def test_lengths(text: str, seconds: float) -> None:
    assert parse_length(text, "--last") == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "0m", "30", "m", "-5m", "1 week", "30m!", "1e3s"])
def test_what_is_no_length_names_the_option_and_an_example(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="30m, 2h or 1d") as caught:
        parse_length(text, "--last")
    assert caught.value.param_hint == "--last"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0s"),
        (4.4, "4s"),
        (59.6, "1m"),
        (570, "9m 30s"),
        (3600, "1h"),
        (7500, "2h 05m"),
        (86_400, "1d"),
        (100_800, "1d 4h"),
    ],
)
def test_lengths_for_people(seconds: float, text: str) -> None:
    assert length(seconds) == text


@pytest.mark.parametrize(("text", "value"), [("10%", 10), ("10", 10), ("0%", 0), ("100 %", 100)])
def test_percents(text: str, value: int) -> None:
    assert parse_percent(text, "--stage") == value


@pytest.mark.parametrize("text", ["101", "-1", "2.5%", "ten", "", "%"])
def test_what_is_no_whole_percent(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="from 0 to 100"):
        parse_percent(text, "--stage")


def test_the_least_percent() -> None:
    with pytest.raises(typer.BadParameter, match="from 1 to 100"):
        parse_percent("0%", "--stage", least=1)


@pytest.mark.parametrize(("text", "value"), [("1%", 0.01), ("0.01", 0.01), ("100%", 1), ("0", 0), ("0.5 %", 0.005)])
def test_shares(text: str, value: float) -> None:
    assert parse_fraction(text, "--error-rate-max") == pytest.approx(value)


@pytest.mark.parametrize("text", ["5", "101%", "-0.1", "nan", "inf", "some", ""])
def test_what_is_no_share(text: str) -> None:
    with pytest.raises(typer.BadParameter) as caught:
        parse_fraction(text, "--error-rate-max")
    assert caught.value.param_hint == "--error-rate-max"


def test_numbers_and_moments() -> None:
    assert parse_number("-1.5e3", "--metric") == -1500
    assert parse_moment("2026-02-05T10:00:00Z", "--observed") == datetime(2026, 2, 5, 10, tzinfo=UTC)
    for text in ("2026-02-05T10:00:00", "yesterday"):
        with pytest.raises(typer.BadParameter, match="time zone"):
            parse_moment(text, "--observed")
