"""Of which hours usage is asked."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from services.common.errors import invalid

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HOUR = timedelta(hours=1)
_INSTANT = timedelta(microseconds=1)
_DAY = 24
"""Hours of one."""


@dataclass(frozen=True, slots=True)
class Hours:
    """Whole hours since the Unix epoch, from `first` to before `end`."""

    first: int
    end: int

    @property
    def days(self) -> "Hours":
        """The whole UTC days in it; where there is none, nothing at its end."""
        first, end = -(-self.first // _DAY) * _DAY, day_of(self.end)
        return Hours(first, end) if first < end else Hours(self.end, self.end)


def hours(start: datetime | None, end: datetime | None, *, now: datetime) -> Hours:
    """From `start` (the first of the month in which it ends where absent) to `end` (now where absent), rounded outward
    to whole hours, which is what is stored. Raises INVALID_FIELD where it is empty or begins in the future."""
    last = end or now
    if last <= _EPOCH:
        raise invalid("end_time", last.isoformat(), f"a moment after {_EPOCH.isoformat()}")
    first = start or (last - _INSTANT).astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    if first >= last:
        raise invalid("end_time", last.isoformat(), f"a moment after start_time ({first.isoformat()})")
    if first > now:
        raise invalid("start_time", first.isoformat(), f"a moment before now ({now.isoformat(timespec='seconds')})")
    return Hours(max(0, hour_of(first)), -((_EPOCH - last) // _HOUR))


def hour_of(moment: datetime) -> int:
    """The hour that holds `moment`."""
    return (moment - _EPOCH) // _HOUR


def day_of(hour: int) -> int:
    """The first hour of its UTC day."""
    return hour // _DAY * _DAY


def hour_start(hour: int) -> datetime:
    """The moment at which an hour begins."""
    return _EPOCH + hour * _HOUR
