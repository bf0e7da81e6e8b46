"""Where summaries of traffic are kept: by model, version and slot of ten minutes; by hour once they are a day old."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from services.monitor.domain.aggregate import EARLY_MAX_US, LATE_MAX_US, MINUTE_US

SLOT_MINUTES = 10
HOUR_MINUTES = 60
SETTLED = timedelta(minutes=10)
"""How long after its end parts of a slot are put together. What comes later stays beside it and counts all the same."""
COARSE = timedelta(days=1)


@dataclass(frozen=True, order=True, slots=True)
class SliceKey:
    """A slot of a version's traffic. `minute`, since the Unix epoch, is its first."""

    model: str
    version: str
    minute: int


def slot_minute(time_us: int, *, now_us: int) -> int:
    """The first minute of the slot that holds the moment, which is believed within reason."""
    minute = min(max(time_us, now_us - LATE_MAX_US), now_us + EARLY_MAX_US) // MINUTE_US
    return int(minute // SLOT_MINUTES * SLOT_MINUTES)


def hour_of(moment: datetime) -> datetime:
    """The beginning of the hour that holds the moment."""
    return moment.replace(minute=0, second=0, microsecond=0)


def outward(start: datetime, end: datetime) -> tuple[datetime, datetime]:
    """The window rounded outward to whole slots."""
    first = start.replace(minute=start.minute // SLOT_MINUTES * SLOT_MINUTES, second=0, microsecond=0)
    last = end.replace(minute=end.minute // SLOT_MINUTES * SLOT_MINUTES, second=0, microsecond=0)
    return first, last if last == end else last + timedelta(minutes=SLOT_MINUTES)
