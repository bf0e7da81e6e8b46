"""What may be searched in the prediction log, and what is found."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from services.common.errors import invalid
from services.common.names import check_model_name, check_version
from services.monitor.domain.log_rows import LogRow

TEXT_MAX = 1024
_DEFAULT = timedelta(hours=1)
_SLACK = timedelta(hours=1)
"""Who asks for all that is kept, up to now, counts by another clock and some moments earlier."""


@dataclass(frozen=True, slots=True)
class Position:
    """Of a row among all: its moment, and its own id where several have one moment."""

    moment: datetime
    row_id: str


@dataclass(frozen=True, slots=True)
class FoundRow:
    """A row as it is stored."""

    position: Position
    row: LogRow


@dataclass(frozen=True, slots=True)
class LogQuery:
    """Rows from `start` to before `end` of which all holds that is set."""

    model: str
    start: datetime
    end: datetime
    version: str = ""
    request_id: str = ""
    user_id: str = ""
    errors_only: bool = False
    team: str | None = None
    """Only requests of this team; None: of all."""


def log_window(
    start: datetime | None, end: datetime | None, *, now: datetime, days_max: int
) -> tuple[datetime, datetime]:
    """From when to before when: an hour up to now where nothing is said. Raises INVALID_FIELD for what is empty, in the
    future, or longer than the log is kept."""
    last = end or now
    first = start or last - _DEFAULT
    if first >= last:
        raise invalid("end_time", last.isoformat(), f"a moment after start_time ({first.isoformat()})")
    if first > now:
        raise invalid("start_time", first.isoformat(), f"a moment before now ({now.isoformat(timespec='seconds')})")
    if last - first > timedelta(days=days_max) + _SLACK:
        raise invalid(
            "start_time", first.isoformat(), f"at most {days_max} days before end_time: the log is kept so long"
        )
    return first, last


def log_query(
    model: str,
    window: tuple[datetime, datetime],
    *,
    version: str = "",
    request_id: str = "",
    user_id: str = "",
    errors_only: bool = False,
    team: str | None = None,
) -> LogQuery:
    """A question that can be answered. Raises INVALID_FIELD."""
    for field, value in (("request_id", request_id), ("user_id", user_id)):
        if len(value) > TEXT_MAX or "\0" in value:
            raise invalid(field, value, f"at most {TEXT_MAX} characters")
    start, end = window
    return LogQuery(
        check_model_name(model),
        start,
        end,
        check_version(version) if version else "",
        request_id,
        user_id,
        errors_only,
        team,
    )
