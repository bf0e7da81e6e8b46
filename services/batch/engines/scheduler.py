"""Makes the jobs of schedules, each moment's once, however many processes look and whenever they die.

What is decided of a moment, and the job that this makes, are one transaction of the store. Before it nothing has
happened that another process could not decide again; after it the moment is past.
"""

from services.batch.domain.retry import Verdict, judge
from services.batch.domain.schedule import Schedule, Step, decide, names_at
from services.batch.engines.jobs import Jobs
from services.batch.engines.schedules import ReadTemplate
from services.batch.ports import Board, NewJob, StoreAwayError
from services.batch.ports_schedules import ScheduleStore
from services.common.clock import Clock
from services.common.errors import MeshError, Reason
from services.common.telemetry.logging import get_logger

log = get_logger(__name__)

_PAGE = 100
_MADE, _SKIPPED, _FAILED = "made", "skipped", "failed"


class Scheduler:
    """Looks at schedules again and again."""

    def __init__(
        self,
        *,
        store: ScheduleStore,
        jobs: Jobs,
        read: ReadTemplate,
        board: Board,
        clock: Clock,
        period_s: float,
    ) -> None:
        self._store = store
        self._jobs = jobs
        self._read = read
        self._board = board
        self._clock = clock
        self._period_s = period_s

    async def run(self) -> None:
        """Looks until it is cancelled."""
        while True:
            try:
                await self.look()
            except StoreAwayError as error:
                log.info("the store is away; schedules wait for it", why=error.message)
            await self._clock.sleep(self._period_s)

    async def look(self) -> None:
        """Does what is due. Raises StoreAwayError."""
        after = ""
        while page := await self._store.due(self._clock.now(), after=after, limit=_PAGE):
            for schedule in page:
                await self._turn(schedule)
            after = page[-1].schedule_id

    async def _turn(self, schedule: Schedule) -> None:
        step = decide(schedule, self._clock.now(), busy=await self._busy(schedule))
        if step is None:
            return
        facts = {"schedule_id": schedule.schedule_id, "schedule_name": schedule.name}
        if step.skipped is not None:
            log.info("a run is left out; the one before has not ended", **facts, moment=step.skipped.isoformat())
        if step.run is None:
            written = await self._store.advance(schedule, step)
        else:
            written = await self._run(schedule, step)
        if written and step.skipped is not None:
            self._board.schedule_ran(_SKIPPED)

    async def _run(self, schedule: Schedule, step: Step) -> bool:
        """Makes the job of a step. False: nothing was written, and the moment is still to come."""
        assert step.run is not None
        facts = {"schedule_id": schedule.schedule_id, "moment": step.run.isoformat(), "run": schedule.runs + 1}
        try:
            wish = self._read(schedule.template, dict(names_at(step.run, schedule.time_zone, schedule.runs + 1)))
            spec = await self._jobs.check(wish)
            if step.replaces:
                await self._stop(schedule.last_job_id)
            job = NewJob(
                self._jobs.new_id(), spec, schedule.created_by, schedule.team, schedule_id=schedule.schedule_id
            )
            written = await self._store.advance(schedule, step, job=job)
        except MeshError as error:
            if judge(error) is Verdict.AGAIN:
                log.warning("a run waits for what it needs", **facts, why=error.message)
                return False
            log.warning("a run makes no job", **facts, reason=error.reason, why=error.message)
            written = await self._store.advance(schedule, step, error=f"{error.reason}: {error.message}")
            if written:
                self._board.schedule_ran(_FAILED)
            return written
        if written:
            self._board.schedule_ran(_MADE)
            self._jobs.wake()
            log.info("a schedule made a job", **facts, job_id=job.job_id)
        return written

    async def _busy(self, schedule: Schedule) -> bool:
        """Whether the run before has not ended. One that is forgotten has."""
        if not schedule.last_job_id:
            return False
        try:
            job = await self._jobs.get(schedule.last_job_id)
        except MeshError as error:
            if error.reason is not Reason.JOB_NOT_FOUND:
                raise
            return False
        return not job.status.ended

    async def _stop(self, job_id: str) -> None:
        try:
            await self._jobs.cancel(job_id)
        except MeshError as error:
            # It ended meanwhile, or was forgotten.
            if error.reason not in (Reason.JOB_STATE_INVALID, Reason.JOB_NOT_FOUND):
                raise
