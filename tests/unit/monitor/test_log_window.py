"""From when to when the prediction log is searched."""

from datetime import UTC, datetime, timedelta

import pytest

from services.common.errors import MeshError
from services.monitor.domain.log_search import log_window

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)


def test_all_that_is_kept_may_be_asked_for_by_a_clock_that_is_behind() -> None:
    start = NOW - timedelta(days=30, minutes=5)
    assert log_window(start, None, now=NOW, days_max=30) == (start, NOW)
    with pytest.raises(MeshError, match="at most 30 days before end_time"):
        log_window(NOW - timedelta(days=30, hours=2), None, now=NOW, days_max=30)


def test_where_nothing_is_said_it_is_the_last_hour() -> None:
    assert log_window(None, None, now=NOW, days_max=30) == (NOW - timedelta(hours=1), NOW)
    with pytest.raises(MeshError, match="end_time"):
        log_window(NOW, NOW, now=NOW, days_max=30)
