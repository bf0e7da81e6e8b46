"""The moments that a cron expression means in a time zone.

Where clocks change, what Debian's cron does holds: an expression with a fixed hour runs once on each day, right after
the gap where its time falls into the hour that is left out, and at the first of the two where its hour comes twice. One
whose hour is "*" goes on in steps of real time. Moments are kept in UTC, which has neither gaps nor repeats.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from services.common.errors import invalid

CRON_MAX = 128
TIME_ZONE_DEFAULT = "UTC"
_FIELDS = 5
_LOOKS_BACK = tuple(timedelta(hours=hours) for hours in (1, 24, 32 * 24, 367 * 24))


def check_cron(text: str, field: str = "schedule.cron") -> str:
    """A cron expression of five fields, with one space between. Raises INVALID_FIELD."""
    words = text.split()
    allowed = 'five fields (minute, hour, day of month, month, day of week) such as "0 3 * * *"'
    if len(text) > CRON_MAX or len(words) != _FIELDS:
        raise invalid(field, text, allowed)
    plain = " ".join(words)
    try:
        CronSim(plain, datetime(2026, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        raise invalid(field, text, f"{allowed}; {error}") from None
    return plain


def check_time_zone(name: str, field: str = "schedule.time_zone") -> str:
    """A time zone of the IANA database. Raises INVALID_FIELD."""
    wanted = name or TIME_ZONE_DEFAULT
    try:
        ZoneInfo(wanted)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise invalid(field, name, 'a time zone of the IANA database such as "Europe/Berlin" or "UTC"') from None
    return wanted


def moments(cron: str, time_zone: str, after: datetime) -> Iterator[datetime]:
    """The moments after `after`, in UTC, each later than the one before; ends where there is none in 50 years."""
    last = after
    for found in CronSim(cron, after.astimezone(ZoneInfo(time_zone))):
        moment = found.astimezone(UTC)
        # Of the hour that comes twice a step in real time could be the same moment again.
        if moment > last:
            yield moment
            last = moment


def next_after(cron: str, time_zone: str, after: datetime) -> datetime | None:
    """The first moment after `after`; None where there is none in 50 years."""
    return next(moments(cron, time_zone, after), None)


def latest(cron: str, time_zone: str, first: datetime, now: datetime) -> datetime:
    """The last moment that is not after `now`; `first` is one of them. Looks back from now, so that a service that was
    away for a year need not count the minutes."""
    for back in _LOOKS_BACK:
        since = max(first, now - back)
        last = first if since == first else None
        for moment in moments(cron, time_zone, since):
            if moment > now:
                break
            last = moment
        if last is not None:
            return last
    return first
