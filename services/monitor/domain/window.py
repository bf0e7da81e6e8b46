"""Time windows: what a caller may ask for, and how it is rounded to what is stored."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from services.common.errors import invalid

RETENTION_DAYS = 90
_DEFAULT = timedelta(hours=1)
_LONGEST = timedelta(days=RETENTION_DAYS)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Step(StrEnum):
    """The granularity of a time series. Days are UTC days."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"

    @property
    def minutes(self) -> int:
        """Its length in minutes."""
        return {Step.MINUTE: 1, Step.HOUR: 60, Step.DAY: 1440}[self]


@dataclass(frozen=True)
class Window:
    """Whole minutes since the Unix epoch, from `first` to before `end`, and the seconds of it that have passed."""

    first: int
    end: int
    seconds: float


def parse_step(text: str) -> Step:
    """The step called `text`; minute where it is empty. Raises INVALID_FIELD for another word."""
    try:
        return Step(text or Step.MINUTE)
    except ValueError:
        raise invalid("granularity", text, ", ".join(Step)) from None


def window(start: datetime | None, end: datetime | None, *, now: datetime, step: Step = Step.MINUTE) -> Window:
    """The window from `start` (one hour before the end where absent) to `end` (now where absent), rounded outward to
    whole steps. Raises INVALID_FIELD where it is empty, begins in the future or is longer than 90 days.
    """
    last = end or now
    first = start or last - _DEFAULT
    if first >= last:
        raise invalid("end_time", last.isoformat(), f"a moment after start_time ({first.isoformat()})")
    if first > now:
        raise invalid("start_time", first.isoformat(), f"a moment before now ({now.isoformat(timespec='seconds')})")
    if last - first > _LONGEST:
        raise invalid(
            "start_time", first.isoformat(), f"at most {RETENTION_DAYS} days before end_time: no more is kept"
        )
    length = step.minutes
    begin_minute = _minute(first) // length * length
    end_minute = -(-_minute_up(last) // length) * length
    passed = min(last, now) - max(minute_start(begin_minute), first.replace(second=0, microsecond=0))
    return Window(begin_minute, end_minute, max(passed.total_seconds(), 1.0))


def minute_start(minute: int) -> datetime:
    """The moment at which a minute begins."""
    return _EPOCH + timedelta(minutes=minute)


def minute_of(moment: datetime) -> int:
    """The minute that holds `moment`."""
    return _minute(moment)


def _minute(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(minutes=1)


def _minute_up(moment: datetime) -> int:
    return -((_EPOCH - moment) // timedelta(minutes=1))
