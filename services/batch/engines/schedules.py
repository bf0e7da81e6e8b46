"""Calls about schedules: make, look, change, remove."""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from services.batch.domain.cron import check_cron, check_time_zone, next_after
from services.batch.domain.schedule import (
    Overlap,
    Schedule,
    check_overlap,
    check_placeholders,
    check_schedule_name,
    names_at,
    schedule_not_found,
)
from services.batch.domain.wish import Faults, Wish, check_request_id
from services.batch.engines.jobs import Jobs
from services.batch.ports_schedules import NewSchedule, ScheduleStore
from services.common.access.book import EVERYTHING, Sight
from services.common.clock import Clock
from services.common.errors import MeshError, Reason, invalid, invalid_fields
from services.common.page import check_page_size, decode_page_token, encode_page_token

_QUERY = "schedules"


@dataclass(frozen=True, slots=True)
class Asked:
    """A schedule as it is asked for."""

    name: str
    cron: str
    time_zone: str
    overlap: str
    paused: bool
    template: str
    """The job, as JSON of the contract."""


ReadTemplate = Callable[[str, dict[str, str]], Wish]
"""The wish that a template means where its placeholders stand for these words."""


class Schedules:
    """Records schedules; the scheduler looks into the same store."""

    def __init__(self, *, store: ScheduleStore, jobs: Jobs, read: ReadTemplate, clock: Clock) -> None:
        self._store = store
        self._jobs = jobs
        self._read = read
        self._clock = clock

    async def create(self, asked: Asked, *, request_id: str, wish_digest: str, created_by: str, team: str) -> Schedule:
        """Makes a schedule, or returns the one that the same call made before."""
        check_request_id(request_id)
        if request_id:
            made = await self._store.repeated(request_id, wish_digest, team=team)
            if made is not None:
                return made
        faults = Faults()
        name = faults.take(lambda: check_schedule_name(asked.name), "")
        cron = faults.take(lambda: check_cron(asked.cron), "")
        zone = faults.take(lambda: check_time_zone(asked.time_zone), "UTC")
        overlap = faults.take(lambda: check_overlap(asked.overlap), Overlap.SKIP)
        wish = faults.take(lambda: self._checked(asked.template, zone), Wish(""))
        faults.done()
        await self._jobs.pin(self._jobs.draft(wish))
        now = self._clock.now()
        schedule = Schedule(
            schedule_id=f"batch_schedule_{int(now.timestamp() * 1000):012x}{secrets.token_hex(4)}",
            name=name,
            cron=cron,
            time_zone=zone,
            template=asked.template,
            model=wish.model,
            overlap=overlap,
            paused=asked.paused,
            next_at=self._next(cron, zone, paused=asked.paused),
            created_at=now,
            updated_at=now,
            created_by=created_by,
            team=team,
        )
        return await self._store.create(NewSchedule(schedule, request_id, wish_digest))

    async def get(self, schedule_id: str, sight: Sight = EVERYTHING) -> Schedule:
        """One schedule. What the caller does not see is not found, here and in every call below."""
        return _seen(await self._store.get(schedule_id), sight)

    async def page(
        self, *, page_size: int, page_token: str, sight: Sight = EVERYTHING
    ) -> tuple[Sequence[Schedule], str]:
        """Schedules by name, and where to go on."""
        size = check_page_size(page_size)
        position = decode_page_token(page_token, query=_QUERY) or ("", "")
        if len(position) != 2:
            raise MeshError(Reason.INVALID_PAGE_TOKEN, f"page_token {page_token!r} is no token of ListBatchSchedules")
        found = await self._store.page(after=(position[0], position[1]), limit=size + 1, sight=sight)
        shown = found[:size]
        more = len(found) > size
        return shown, encode_page_token(shown[-1].name, shown[-1].schedule_id, query=_QUERY) if more else ""

    async def update(
        self, schedule_id: str, etag: str, change: Callable[[Schedule], Schedule], sight: Sight = EVERYTHING
    ) -> Schedule:
        """Changes what is asked. Where the moments change they count from now, and so they do after a pause; moments
        that wait stay, as long as moments queue."""
        current = change(await self.get(schedule_id, sight))
        wish = self._checked(current.template, check_time_zone(current.time_zone))
        await self._jobs.pin(self._jobs.draft(wish))

        def decide(before: Schedule) -> Schedule:
            _seen(before, sight)
            if etag and etag != before.etag:
                raise MeshError(
                    Reason.ETAG_MISMATCH,
                    f"schedule {schedule_id} is at etag {before.etag!r}, not {etag!r}; read it again and repeat the "
                    "change",
                )
            after = change(before)
            if after == before:
                return before
            after = replace(after, model=self._read(after.template, {}).model)
            if after.overlap is not Overlap.QUEUE:
                after = replace(after, waiting=())
            asked = (before.cron, before.time_zone, before.paused)
            if (after.cron, after.time_zone, after.paused) != asked:
                after = replace(after, next_at=self._next(after.cron, after.time_zone, paused=after.paused))
            return after

        return await self._store.change(schedule_id, decide)

    async def delete(self, schedule_id: str, sight: Sight = EVERYTHING) -> None:
        """Forgets a schedule. Jobs that it made stay."""
        await self._store.delete(schedule_id, lambda schedule: _ignored(_seen(schedule, sight)))

    def _checked(self, template: str, zone: str) -> Wish:
        """The wish of the next run, as far as it can be checked before its files are there. Raises INVALID_FIELD."""
        plain = self._read(template, {})
        faults = Faults()
        faults.take(lambda: check_placeholders("schedule.job.input_uri", plain.input_uri), False)
        varies = faults.take(lambda: check_placeholders("schedule.job.output_uri", plain.output_uri), True)
        faults.done()
        if not varies and not plain.overwrite:
            raise invalid(
                "schedule.job.output_uri",
                plain.output_uri,
                "{date}, {time} or {run} in it, so that each run has an output of its own; or output.overwrite",
            )
        wish = self._read(template, dict(names_at(self._clock.now(), zone, 1)))
        try:
            self._jobs.draft(wish)
        except MeshError as error:
            if error.reason is not Reason.INVALID_FIELD:
                raise
            named = [replace(wrong, field=f"schedule.job.{wrong.field}") for wrong in error.violations]
            raise invalid_fields(named) from error
        return wish

    def _next(self, cron: str, zone: str, *, paused: bool) -> datetime | None:
        moment = next_after(cron, zone, self._clock.now())
        if moment is None:
            raise invalid("schedule.cron", cron, "an expression with a moment that comes")
        return None if paused else moment


def _seen(schedule: Schedule, sight: Sight) -> Schedule:
    if not schedule.seen_by(sight):
        raise schedule_not_found(schedule.schedule_id)
    return schedule


def _ignored(_schedule: Schedule) -> None:
    """Seeing it is all that is asked."""
