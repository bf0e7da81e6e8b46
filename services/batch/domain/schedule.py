"""A job that is made again and again: what is asked, what is due, and what a moment means."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from zoneinfo import ZoneInfo

from services.batch.domain.cron import latest, next_after
from services.common.access.book import Sight
from services.common.errors import MeshError, Reason, invalid, shown

WAITING_MAX = 100
"""Moments that may wait for the run before, where they queue. What comes on top is left out."""
_NAME = re.compile(r"[a-z0-9_-]{1,63}")
_PLACEHOLDER = re.compile(r"\{([A-Za-z_]*)\}")
_NAMES = ("date", "time", "run")


class Overlap(StrEnum):
    """What a moment means while the run before has not ended."""

    SKIP = "skip"
    """Nothing: no job is made for it."""
    QUEUE = "queue"
    """Its job is made when the one before has ended."""
    REPLACE = "replace"
    """The one before is cancelled."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule as it is stored."""

    schedule_id: str
    name: str
    cron: str
    time_zone: str
    template: str
    """The job to make, as JSON of the contract."""
    model: str
    """The model of that job: who does not see it does not see the schedule."""
    overlap: Overlap
    paused: bool
    next_at: datetime | None
    """The next moment that nothing was decided for. None: paused."""
    created_at: datetime
    updated_at: datetime
    waiting: tuple[datetime, ...] = ()
    """Moments that wait for the run before, the oldest first."""
    runs: int = 0
    """Moments for which a job was made, or was to be made and could not."""
    last_job_id: str = ""
    last_run_at: datetime | None = None
    last_error: str = ""
    """Why the last run made no job. Empty: it did."""
    created_by: str = ""
    team: str = ""
    turn: int = 1
    """Grows with everything that is decided or changed: who decides on an older one is overtaken and writes nothing."""
    revision: int = 1

    @property
    def etag(self) -> str:
        """Changes with what is asked, not with what was run."""
        return f"r{self.revision}"

    def seen_by(self, sight: Sight) -> bool:
        """Whether it is of the caller's team, and of a model that the caller sees."""
        return sight.everything or (bool(self.team) and self.team == sight.team and sight.shows(self.model))


@dataclass(frozen=True, slots=True)
class Step:
    """What is decided at one look."""

    next_at: datetime | None
    waiting: tuple[datetime, ...]
    run: datetime | None = None
    """The moment for which a job is to be made now."""
    replaces: bool = False
    """Whether the run before is to be cancelled first."""
    skipped: datetime | None = None
    """The moment for which none is made, because the run before has not ended."""


def decide(schedule: Schedule, now: datetime, *, busy: bool) -> Step | None:
    """What to do at `now`, where the run before has not ended if `busy`. None: nothing. Of several moments that nobody
    looked at, because no service ran, the last one counts and the others are left out."""
    if schedule.paused or schedule.next_at is None:
        return None
    due = None
    next_at: datetime | None = schedule.next_at
    if schedule.next_at <= now:
        due = latest(schedule.cron, schedule.time_zone, schedule.next_at, now)
        next_at = next_after(schedule.cron, schedule.time_zone, max(due, now))
    waiting = schedule.waiting
    if schedule.overlap is Overlap.QUEUE:
        skipped = due if len(waiting) >= WAITING_MAX else None
        if due is not None and skipped is None:
            waiting = (*waiting, due)
        run = waiting[0] if waiting and not busy else None
        if due is None and run is None:
            return None
        return Step(next_at, waiting[1:] if run is not None else waiting, run, skipped=skipped)
    if due is None:
        return None
    if busy and schedule.overlap is Overlap.SKIP:
        return Step(next_at, waiting, skipped=due)
    return Step(next_at, waiting, due, replaces=busy)


def names_at(moment: datetime, time_zone: str, run: int) -> Mapping[str, str]:
    """What the placeholders of a run's URIs stand for: the date and time of its zone, and its number."""
    local = moment.astimezone(ZoneInfo(time_zone))
    return {"date": local.strftime("%Y-%m-%d"), "time": local.strftime("%H%M%S"), "run": str(run)}


def filled_in(uri: str, names: Mapping[str, str]) -> str:
    """A URI with its placeholders filled in; other braces stay."""
    return _PLACEHOLDER.sub(lambda found: names.get(found[1], found[0]), uri)


def check_placeholders(field: str, uri: str) -> bool:
    """Whether a URI has placeholders. Raises INVALID_FIELD where one is unknown."""
    found = _PLACEHOLDER.findall(uri)
    for name in found:
        if name not in _NAMES:
            raise invalid(field, uri, "the placeholders {date}, {time} and {run}")
    return bool(found)


def check_schedule_name(name: str) -> str:
    """A name for people. Raises INVALID_FIELD."""
    if not _NAME.fullmatch(name):
        raise invalid("schedule.schedule_name", name, "1 to 63 of a-z, 0-9, '-' and '_'")
    return name


def check_overlap(word: str) -> Overlap:
    """What to do when the run before has not ended. Raises INVALID_FIELD."""
    if word and word not in tuple(Overlap):
        raise invalid("schedule.overlap", word, "one of " + ", ".join(Overlap))
    return Overlap(word or Overlap.SKIP)


def schedule_not_found(schedule_id: str) -> MeshError:
    """SCHEDULE_NOT_FOUND in the usual words."""
    return MeshError(
        Reason.SCHEDULE_NOT_FOUND,
        f"there is no batch schedule {shown(schedule_id)}; ListBatchSchedules shows those that there are",
        metadata={"schedule_id": schedule_id[:128]},
    )


def schedule_exists(name: str) -> MeshError:
    """SCHEDULE_EXISTS in the usual words."""
    return MeshError(
        Reason.SCHEDULE_EXISTS,
        f"there is a batch schedule {name!r} already; update that one, or choose another name",
        metadata={"schedule_name": name},
    )
