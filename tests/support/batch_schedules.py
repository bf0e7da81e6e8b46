"""Schedules in memory."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from services.batch.domain.job import request_id_reused
from services.batch.domain.schedule import Schedule, Step, schedule_exists, schedule_not_found
from services.batch.ports import NewJob
from services.batch.ports_schedules import NewSchedule
from services.common.access.book import Sight
from tests.support.batch_fakes import MemoryBatchStore


class MemoryScheduleStore:
    """A `ScheduleStore` beside a store of jobs."""

    def __init__(self, jobs: MemoryBatchStore) -> None:
        self._jobs = jobs
        self._rows: dict[str, NewSchedule] = {}

    async def create(self, new: NewSchedule) -> Schedule:
        """Stores it."""
        schedule = new.schedule
        made = await self.repeated(new.request_id, new.wish_digest, team=schedule.team) if new.request_id else None
        if made is not None:
            return made
        if any((row.schedule.team, row.schedule.name) == (schedule.team, schedule.name) for row in self._rows.values()):
            raise schedule_exists(schedule.name)
        self._rows[schedule.schedule_id] = new
        return schedule

    async def repeated(self, request_id: str, wish_digest: str, *, team: str) -> Schedule | None:
        """By request."""
        for row in self._rows.values():
            if (row.request_id, row.schedule.team) == (request_id, team):
                if row.wish_digest != wish_digest:
                    raise request_id_reused(request_id, row.schedule.schedule_id)
                return row.schedule
        return None

    async def get(self, schedule_id: str) -> Schedule:
        """By id."""
        return self._row(schedule_id).schedule

    async def page(self, *, after: tuple[str, str], limit: int, sight: Sight) -> Sequence[Schedule]:
        """By name."""
        found = sorted((row.schedule for row in self._rows.values()), key=lambda item: (item.name, item.schedule_id))
        return [item for item in found if (item.name, item.schedule_id) > after and item.seen_by(sight)][:limit]

    async def change(self, schedule_id: str, change: Callable[[Schedule], Schedule]) -> Schedule:
        """Changes it."""
        before = self._row(schedule_id).schedule
        after = change(before)
        if after == before:
            return before
        return self._put(replace(after, turn=before.turn + 1, revision=before.revision + 1))

    async def delete(self, schedule_id: str, check: Callable[[Schedule], None]) -> None:
        """Forgets it."""
        check(self._row(schedule_id).schedule)
        del self._rows[schedule_id]

    async def due(self, now: datetime, *, after: str, limit: int) -> Sequence[Schedule]:
        """Those with something to decide."""
        self._jobs._reach()
        found = [
            row.schedule
            for key, row in sorted(self._rows.items())
            if key > after
            and not row.schedule.paused
            and (row.schedule.waiting or (row.schedule.next_at is not None and row.schedule.next_at <= now))
        ]
        return found[:limit]

    async def advance(self, schedule: Schedule, step: Step, *, job: NewJob | None = None, error: str = "") -> bool:
        """Both or neither."""
        row = self._rows.get(schedule.schedule_id)
        if row is None or row.schedule.turn != schedule.turn:
            return False
        if job is not None:
            await self._jobs.create(job)
        ran = step.run is not None
        self._put(
            replace(
                row.schedule,
                next_at=step.next_at,
                waiting=step.waiting,
                turn=schedule.turn + 1,
                runs=row.schedule.runs + ran,
                last_run_at=step.run or row.schedule.last_run_at,
                last_job_id=job.job_id if job is not None else row.schedule.last_job_id,
                last_error=error if ran else row.schedule.last_error,
            )
        )
        return True

    def _put(self, schedule: Schedule) -> Schedule:
        self._rows[schedule.schedule_id] = replace(self._rows[schedule.schedule_id], schedule=schedule)
        return schedule

    def _row(self, schedule_id: str) -> NewSchedule:
        if schedule_id not in self._rows:
            raise schedule_not_found(schedule_id)
        return self._rows[schedule_id]
