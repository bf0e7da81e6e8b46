"""Windows: defaults, rounding, limits."""

from datetime import UTC, datetime, timedelta

import pytest

from services.common.errors import MeshError
from services.monitor.domain.window import Step, minute_of, minute_start, parse_step, window

NOW = datetime(2026, 1, 15, 12, 30, 20, tzinfo=UTC)
MINUTE = minute_of(NOW)


def test_the_default_is_the_last_hour() -> None:
    span = window(None, None, now=NOW)
    assert (span.first, span.end) == (MINUTE - 60, MINUTE + 1)
    assert span.seconds == 3620


def test_a_window_is_rounded_outward() -> None:
    span = window(NOW - timedelta(minutes=10), NOW - timedelta(minutes=5), now=NOW)
    assert (span.first, span.end) == (MINUTE - 10, MINUTE - 4)


def test_whole_minutes_stay_as_they_are() -> None:
    first, end = minute_start(MINUTE - 5), minute_start(MINUTE)
    span = window(first, end, now=NOW)
    assert (span.first, span.end, span.seconds) == (MINUTE - 5, MINUTE, 300)


def test_the_future_does_not_count_as_time() -> None:
    assert window(NOW - timedelta(seconds=20), NOW + timedelta(hours=5), now=NOW).seconds == 20


def test_steps_are_whole() -> None:
    span = window(NOW - timedelta(minutes=5), NOW, now=NOW, step=Step.HOUR)
    assert (minute_start(span.first), minute_start(span.end)) == (
        datetime(2026, 1, 15, 12, tzinfo=UTC),
        datetime(2026, 1, 15, 13, tzinfo=UTC),
    )
    day = window(NOW - timedelta(minutes=5), NOW, now=NOW, step=Step.DAY)
    assert minute_start(day.first) == datetime(2026, 1, 15, tzinfo=UTC)


@pytest.mark.parametrize(
    ("start", "end", "field"),
    [
        (timedelta(0), timedelta(0), "end_time"),
        (timedelta(hours=1), timedelta(0), "end_time"),
        (timedelta(minutes=1), timedelta(hours=2), "start_time"),
        (timedelta(days=-91), timedelta(0), "start_time"),
    ],
)
def test_a_window_that_says_nothing_is_refused(start: timedelta, end: timedelta, field: str) -> None:
    with pytest.raises(MeshError) as caught:
        window(NOW + start, NOW + end, now=NOW)
    assert caught.value.violations[0].field == field


def test_a_step_has_a_name() -> None:
    assert parse_step("") is Step.MINUTE
    assert parse_step("day") is Step.DAY
    with pytest.raises(MeshError, match="minute, hour, day"):
        parse_step("week")
