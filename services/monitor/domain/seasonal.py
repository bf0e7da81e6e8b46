"""What traffic is usual for a model at this hour, and by how much the last hour is beside that.

The hours compared are the same hour of earlier days of the same sort, working days or weekends, over four weeks: that
is the season that traffic made by people has. The middle is the median and the spread the median absolute deviation,
scaled to a standard deviation (Rousseeuw, Croux, JASA 1993), so that one odd day among them changes little.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import median

DAYS = 28
"""How many days back."""
HOUR_MINUTES = 60
DAY_MINUTES = 1440
HOURS_MIN = 7
"""Fewer earlier hours say nothing of what is usual."""
USUAL_MIN = 20
"""Where fewer requests than this are usual, hours differ by chance."""
_TO_DEVIATION = 1.4826
"""What the median absolute deviation of a normal distribution is multiplied by for its standard deviation."""
_SPREAD_MIN = 0.08
"""The least spread, as a share of the usual: nothing repeats itself better. With the rule's limit of 5 deviations an
hour must be 40 % beside the usual; a tenth would make it 50 %, and half of all halved hours would go unseen."""
_EPOCH_WEEKDAY = 3
"""1 January 1970 was a Thursday; Monday is 0."""
_SATURDAY = 5


def last_hour(minute: int, *, settled_minutes: int = 2) -> int:
    """The first minute of the last hour that is over and has been counted."""
    return (minute - settled_minutes) // HOUR_MINUTES * HOUR_MINUTES - HOUR_MINUTES


def compared_hours(hour: int) -> Sequence[int]:
    """The first minutes of the hours to compare one with, newest first: same time, same sort of day."""
    earlier = (hour - days * DAY_MINUTES for days in range(1, DAYS + 1))
    return [other for other in earlier if _weekend(other) == _weekend(hour)]


def deviation(hour: int, counts: Mapping[int, int]) -> float | None:
    """By how many deviations the requests in that hour are above what is usual; below: negative. `counts` has requests
    by hour; None where too little is known. Hours before the first with requests are before the model's time."""
    first = min((other for other, count in counts.items() if count), default=hour)
    earlier = [counts.get(other, 0) for other in compared_hours(hour) if other >= first]
    if len(earlier) < HOURS_MIN:
        return None
    usual = float(median(earlier))
    if usual < USUAL_MIN:
        return None
    spread = _TO_DEVIATION * float(median(abs(count - usual) for count in earlier))
    # No less than what chance does to a count (Poisson).
    return (counts.get(hour, 0) - usual) / max(spread, math.sqrt(usual), _SPREAD_MIN * usual)


def _weekend(minute: int) -> bool:
    return (minute // DAY_MINUTES + _EPOCH_WEEKDAY) % 7 >= _SATURDAY
