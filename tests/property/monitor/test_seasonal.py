"""How often a month without anything odd is called odd, and how many odd hours are seen."""

from datetime import UTC, datetime

import numpy as np

from services.monitor.domain.seasonal import compared_hours, deviation
from services.monitor.domain.window import minute_of
from tests.support.monitor_traffic import traffic

MONDAY = minute_of(datetime(2026, 3, 2, tzinfo=UTC))
HISTORY, MONTH = 28 * 24, 30 * 24
LEVELS = (1_500, 5_000, 20_000)
LIMIT = 5.0
"""Of the rule that there is from the start."""


def test_a_quiet_month_is_quiet_and_halved_and_tripled_hours_are_seen() -> None:
    random = np.random.default_rng(17)
    false = halved = tripled = looks = 0
    for level in LEVELS:
        counts = dict(enumerate(traffic(random, level, HISTORY + MONTH).tolist()))
        by_minute = {MONDAY + 60 * hour: count for hour, count in counts.items()}
        for hour in range(HISTORY, HISTORY + MONTH):
            minute, count = MONDAY + 60 * hour, counts[hour]
            before = {other: by_minute[other] for other in compared_hours(minute) if other in by_minute}
            found = [deviation(minute, {**before, minute: round(count * times)}) for times in (1.0, 0.5, 3.0)]
            beyond = [value is not None and abs(value) > LIMIT for value in found]
            false, halved, tripled = false + beyond[0], halved + beyond[1], tripled + beyond[2]
            looks += 1
    print(
        f"{looks} hours: {false / looks:.2%} false alarms, {halved / looks:.1%} of halved and "
        f"{tripled / looks:.1%} of tripled ones seen"
    )
    assert false <= looks / 1000
    assert halved >= 0.97 * looks
    assert tripled == looks
