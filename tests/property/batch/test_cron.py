"""Moments of cron expressions over all that time zones do."""

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.batch.domain.cron import check_cron, check_time_zone, latest, moments, next_after
from services.common.errors import MeshError

CRONS = st.sampled_from(
    [
        "* * * * *",
        "*/7 * * * *",
        "0 * * * *",
        "30 2 * * *",
        "0 3 * * *",
        "15,45 1-3 * * *",
        "0 0 1 * *",
        "59 23 * * 0",
        "0 12 29 2 *",
        "0 0 * * 1-5",
    ]
)
ZONES = st.sampled_from(
    [
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "Australia/Lord_Howe",
        "Asia/Kathmandu",
        "America/St_Johns",
        "Africa/Cairo",
    ]
)
START = datetime(2020, 1, 1, tzinfo=UTC)
TIMES = st.builds(lambda minutes: START + timedelta(minutes=minutes), st.floats(0, 10 * 365 * 1440))
# Around the changes of Berlin's clocks in 2026.
CHANGES = st.sampled_from([datetime(2026, 3, 29, tzinfo=UTC), datetime(2026, 10, 25, tzinfo=UTC)])
NEAR = st.builds(lambda day, minutes: day + timedelta(minutes=minutes), CHANGES, st.integers(-1500, 1500))


@given(CRONS, ZONES, st.one_of(TIMES, NEAR))
def test_moments_only_grow_and_fit_their_minute(cron: str, zone: str, after: datetime) -> None:
    found = [after, *islice(moments(cron, zone, after), 50)]
    assert all(before < later for before, later in pairwise(found))
    assert all(moment.second == 0 and moment.tzinfo is UTC for moment in found[1:])
    minute = cron.split(maxsplit=1)[0]
    for moment in found[1:]:
        local = moment.astimezone(ZoneInfo(zone))
        # In the hour that is left out moments move; everywhere else they are what the expression says.
        moved = local.utcoffset() != (local - timedelta(hours=3)).utcoffset()
        assert moved or not minute.isdigit() or local.minute == int(minute)


@given(CRONS, ZONES, st.one_of(TIMES, NEAR), st.integers(1, 30))
def test_going_on_from_each_moment_meets_the_same_ones(cron: str, zone: str, after: datetime, count: int) -> None:
    expected = list(islice(moments(cron, zone, after), count))
    met, moment = [], after
    for _ in expected:
        found = next_after(cron, zone, moment)
        assert found is not None
        met.append(found)
        moment = found
    assert met == expected


@given(CRONS, ZONES, st.one_of(TIMES, NEAR), st.integers(0, 200), st.integers(0, 59))
def test_the_latest_is_the_last_that_came(cron: str, zone: str, after: datetime, count: int, seconds: int) -> None:
    found = list(islice(moments(cron, zone, after), count + 2))
    now = min(found[-2] + timedelta(seconds=seconds), found[-1] - timedelta(seconds=1))
    assert latest(cron, zone, found[0], now) == found[-2]


@pytest.mark.parametrize(
    ("cron", "day", "expected"),
    [
        # Spring: 02:30 is not there and comes right after the gap; an hourly one goes on each hour of real time.
        ("30 2 * * *", "2026-03-29", ["2026-03-29T03:00"]),
        ("0 3 * * *", "2026-03-29", ["2026-03-29T03:00"]),
        ("0 * * * *", "2026-03-29", [f"2026-03-29T{hour:02}:00" for hour in (0, 1, *range(3, 24))]),
        # Autumn: 02:30 comes twice, and the first one counts; an hourly one runs at both.
        ("30 2 * * *", "2026-10-25", ["2026-10-25T02:30"]),
        ("0 * * * *", "2026-10-25", [f"2026-10-25T{hour:02}:00" for hour in (0, 1, 2, 2, *range(3, 24))]),
    ],
)
def test_days_on_which_clocks_change(cron: str, day: str, expected: list[str]) -> None:
    zone = ZoneInfo("Europe/Berlin")
    start = datetime.fromisoformat(day).replace(tzinfo=zone)
    end = (datetime.fromisoformat(day) + timedelta(days=1)).replace(tzinfo=zone).astimezone(UTC)
    found = [
        moment for moment in islice(moments(cron, "Europe/Berlin", start - timedelta(minutes=1)), 30) if moment < end
    ]
    assert [moment.astimezone(zone).strftime("%Y-%m-%dT%H:%M") for moment in found] == expected


def test_a_year_of_minutes_is_not_counted() -> None:
    first = datetime(2025, 1, 1, tzinfo=UTC)
    now = datetime(2026, 6, 1, 12, 0, 30, tzinfo=UTC)
    assert latest("* * * * *", "UTC", first, now) == datetime(2026, 6, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    "text", ["", "* * * *", "* * * * * *", "@daily", "60 * * * *", "a b c d e", "* * * * 9", "*" * 200]
)
def test_what_is_no_expression_of_five_fields_is_refused(text: str) -> None:
    with pytest.raises(MeshError, match="five fields"):
        check_cron(text)
    assert check_cron("0  3 * *\t*") == "0 3 * * *"


@pytest.mark.parametrize("name", ["Mars/Olympus", "../../etc/passwd", "/etc/passwd", "europe\0berlin", "x" * 300])
def test_what_is_no_time_zone_is_refused(name: str) -> None:
    with pytest.raises(MeshError, match="IANA"):
        check_time_zone(name)
    assert check_time_zone("") == "UTC"
