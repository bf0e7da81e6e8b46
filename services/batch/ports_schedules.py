"""What schedules need from outside."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from services.batch.domain.schedule import Schedule, Step
from services.batch.ports import NewJob
from services.common.access.book import Sight


@dataclass(frozen=True, slots=True)
class NewSchedule:
    """A schedule to be stored. An empty `request_id` makes the call unrepeatable."""

    schedule: Schedule
    request_id: str = ""
    wish_digest: str = ""


class ScheduleStore(Protocol):
    """Schedules. Raises StoreAwayError where it cannot be reached, SCHEDULE_NOT_FOUND."""

    async def create(self, new: NewSchedule) -> Schedule:
        """Stores a schedule, or returns the one that its request id made before. Raises REQUEST_ID_REUSED, and
        SCHEDULE_EXISTS where the team has one of that name."""
        ...

    async def repeated(self, request_id: str, wish_digest: str, *, team: str) -> Schedule | None:
        """The schedule that a request id of the team made before. Raises REQUEST_ID_REUSED."""
        ...

    async def get(self, schedule_id: str) -> Schedule:
        """One schedule."""
        ...

    async def page(self, *, after: tuple[str, str], limit: int, sight: Sight) -> Sequence[Schedule]:
        """Schedules that whoever has this sight sees, by name and id, from after `after`."""
        ...

    async def change(self, schedule_id: str, change: Callable[[Schedule], Schedule]) -> Schedule:
        """Stores what `change` makes of the schedule as it is. Nothing else changes it meanwhile."""
        ...

    async def delete(self, schedule_id: str, check: Callable[[Schedule], None]) -> None:
        """Forgets a schedule, unless `check` raises."""
        ...

    async def due(self, now: datetime, *, after: str, limit: int) -> Sequence[Schedule]:
        """Schedules that are not paused, with a moment that has come or waits, by id from after `after`."""
        ...

    async def advance(self, schedule: Schedule, step: Step, *, job: NewJob | None = None, error: str = "") -> bool:
        """Records what was decided on the schedule as it was, and makes its job: both or neither. `error` says why
        there is no job for the moment that one was to be made for. False: someone decided or changed meanwhile, and
        nothing was written. Raises OUTPUT_UNWRITABLE as `JobStore.create` does."""
        ...
