"""Schedules in PostgreSQL. What is decided on one, and the job that this makes, are written in one transaction, which
compares the schedule's turn: of several processes that decide the same, one writes."""

from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy import Row, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.batch.adapters.database import transaction
from services.batch.adapters.postgres_jobs import insert_job, one_writer
from services.batch.domain.job import request_id_reused
from services.batch.domain.schedule import Overlap, Schedule, Step, schedule_exists, schedule_not_found
from services.batch.ports import NewJob, StoreAwayError
from services.batch.ports_schedules import NewSchedule
from services.common.access.book import Sight

_NAME_UNIQUE = "batch_schedules_name"
_COLUMNS = """schedule_id, schedule_name, cron, time_zone, template::text AS template, model_id, overlap, paused,
    next_at, waiting, runs, last_job_id, last_run_at, last_error, turn, revision, created_by, team, created_at,
    updated_at"""
_INSERT = text(f"""
    INSERT INTO batch_schedules (schedule_id, schedule_name, cron, time_zone, template, model_id, overlap, paused,
                                 next_at, created_by, team, request_id, request_digest)
    VALUES (:schedule_id, :schedule_name, :cron, :time_zone, CAST(:template AS jsonb), :model_id, :overlap, :paused,
            :next_at, :created_by, :team, :request_id, :request_digest)
    ON CONFLICT (team, request_id) DO NOTHING
    RETURNING {_COLUMNS}
""")  # noqa: S608 - constants alone are put in
_BY_REQUEST = text(
    f"SELECT {_COLUMNS}, request_digest FROM batch_schedules WHERE team = :team AND request_id = :request_id"  # noqa: S608
)
_GET = text(f"SELECT {_COLUMNS} FROM batch_schedules WHERE schedule_id = :schedule_id")  # noqa: S608
_LOCK = text(f"SELECT {_COLUMNS} FROM batch_schedules WHERE schedule_id = :schedule_id FOR UPDATE")  # noqa: S608
_PAGE = text(f"""
    SELECT {_COLUMNS} FROM batch_schedules
    WHERE (schedule_name, schedule_id) > (:name, :schedule_id)
      AND (:everything OR (team <> '' AND team = :team AND model_id = ANY(CAST(:models AS text[]))))
    ORDER BY schedule_name, schedule_id LIMIT :limit
""")  # noqa: S608 - constants alone are put in
_CHANGE = text(f"""
    UPDATE batch_schedules SET cron = :cron, time_zone = :time_zone, template = CAST(:template AS jsonb),
        model_id = :model_id, overlap = :overlap, paused = :paused, next_at = :next_at,
        waiting = CAST(:waiting AS timestamptz[]), turn = turn + 1, revision = revision + 1, updated_at = now()
    WHERE schedule_id = :schedule_id
    RETURNING {_COLUMNS}
""")  # noqa: S608 - constants alone are put in
_DELETE = text("DELETE FROM batch_schedules WHERE schedule_id = :schedule_id")
_DUE = text(f"""
    SELECT {_COLUMNS} FROM batch_schedules
    WHERE NOT paused AND (next_at <= :now OR waiting <> '{{}}') AND schedule_id > :after
    ORDER BY schedule_id LIMIT :limit
""")  # noqa: S608 - constants alone are put in
_ADVANCE = text("""
    UPDATE batch_schedules SET next_at = :next_at, waiting = CAST(:waiting AS timestamptz[]), turn = turn + 1,
        runs = runs + :runs, last_run_at = COALESCE(:run_at, last_run_at), last_job_id = COALESCE(:job_id, last_job_id),
        last_error = CASE WHEN :runs > 0 THEN :error ELSE last_error END
    WHERE schedule_id = :schedule_id AND turn = :turn
""")


class PostgresScheduleStore:
    """A `ScheduleStore`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def create(self, new: NewSchedule) -> Schedule:
        """Stores a schedule, or returns the one that the same call made before."""
        schedule = new.schedule
        values = {
            **_asked(schedule),
            "schedule_name": schedule.name,
            "created_by": schedule.created_by,
            "team": schedule.team,
            "request_id": new.request_id or None,
            "request_digest": new.wish_digest,
        }
        try:
            async with transaction(self._engine) as connection:
                row = (await connection.execute(_INSERT, values)).one_or_none()
        except IntegrityError as error:
            if _NAME_UNIQUE not in str(error.orig):
                raise
            # The same call twice at once meets its own name before its request id.
            made = await self.repeated(new.request_id, new.wish_digest, team=schedule.team)
            if made is None:
                raise schedule_exists(schedule.name) from error
            return made
        if row is not None:
            return _schedule(row)
        made = await self.repeated(new.request_id, new.wish_digest, team=schedule.team)
        if made is None:
            raise StoreAwayError("the schedule of the same request was deleted at this moment")
        return made

    async def repeated(self, request_id: str, wish_digest: str, *, team: str) -> Schedule | None:
        """The schedule that a request id made before."""
        async with transaction(self._engine) as connection:
            row = (await connection.execute(_BY_REQUEST, {"team": team, "request_id": request_id})).one_or_none()
        if row is None:
            return None
        if row.request_digest != wish_digest:
            raise request_id_reused(request_id, row.schedule_id)
        return _schedule(row)

    async def get(self, schedule_id: str) -> Schedule:
        """One schedule."""
        async with transaction(self._engine) as connection:
            row = (await connection.execute(_GET, {"schedule_id": schedule_id})).one_or_none()
        if row is None:
            raise schedule_not_found(schedule_id)
        return _schedule(row)

    async def page(self, *, after: tuple[str, str], limit: int, sight: Sight) -> Sequence[Schedule]:
        """Schedules by name."""
        values = {
            "name": after[0],
            "schedule_id": after[1],
            "limit": limit,
            "everything": sight.everything,
            "team": sight.team,
            "models": sorted(sight.names),
        }
        async with transaction(self._engine) as connection:
            return [_schedule(row) for row in await connection.execute(_PAGE, values)]

    async def change(self, schedule_id: str, change: Callable[[Schedule], Schedule]) -> Schedule:
        """Reads, decides and writes under the schedule's lock."""
        async with transaction(self._engine) as connection:
            before = await _locked(connection, schedule_id)
            wanted = change(before)
            if wanted == before:
                return before
            return _schedule((await connection.execute(_CHANGE, _asked(wanted))).one())

    async def delete(self, schedule_id: str, check: Callable[[Schedule], None]) -> None:
        """Forgets a schedule."""
        async with transaction(self._engine) as connection:
            check(await _locked(connection, schedule_id))
            await connection.execute(_DELETE, {"schedule_id": schedule_id})

    async def due(self, now: datetime, *, after: str, limit: int) -> Sequence[Schedule]:
        """Schedules that something is to be decided of."""
        async with transaction(self._engine) as connection:
            rows = await connection.execute(_DUE, {"now": now, "after": after, "limit": limit})
            return [_schedule(row) for row in rows]

    async def advance(self, schedule: Schedule, step: Step, *, job: NewJob | None = None, error: str = "") -> bool:
        """Records a step with its job."""
        values = {
            "schedule_id": schedule.schedule_id,
            "turn": schedule.turn,
            "next_at": step.next_at,
            "waiting": list(step.waiting),
            "runs": 0 if step.run is None else 1,
            "run_at": step.run,
            "job_id": job.job_id if job is not None else None,
            "error": error,
        }
        async with one_writer(job.spec if job is not None else None), transaction(self._engine) as connection:
            if (await connection.execute(_ADVANCE, values)).rowcount != 1:
                return False
            if job is not None:
                await insert_job(connection, job)
        return True


async def _locked(connection: AsyncConnection, schedule_id: str) -> Schedule:
    row = (await connection.execute(_LOCK, {"schedule_id": schedule_id})).one_or_none()
    if row is None:
        raise schedule_not_found(schedule_id)
    return _schedule(row)


def _asked(schedule: Schedule) -> dict[str, object]:
    return {
        "schedule_id": schedule.schedule_id,
        "cron": schedule.cron,
        "time_zone": schedule.time_zone,
        "template": schedule.template,
        "model_id": schedule.model,
        "overlap": schedule.overlap,
        "paused": schedule.paused,
        "next_at": schedule.next_at,
        "waiting": list(schedule.waiting),
    }


def _schedule(row: "Row[tuple[object, ...]]") -> Schedule:
    values = row._mapping  # noqa: SLF001 - SQLAlchemy's public name for it
    return Schedule(
        schedule_id=values["schedule_id"],
        name=values["schedule_name"],
        cron=values["cron"],
        time_zone=values["time_zone"],
        template=values["template"],
        model=values["model_id"],
        overlap=Overlap(values["overlap"]),
        paused=values["paused"],
        next_at=values["next_at"],
        created_at=values["created_at"],
        updated_at=values["updated_at"],
        waiting=tuple(values["waiting"]),
        runs=values["runs"],
        last_job_id=values["last_job_id"],
        last_run_at=values["last_run_at"],
        last_error=values["last_error"],
        created_by=values["created_by"],
        team=values["team"],
        turn=values["turn"],
        revision=values["revision"],
    )
