"""Schedules in virtual time, with several services that look at once and die, and jobs that take their time.

No moment gets two jobs. While a service runs none is lost, but where the rules say so: skipped while the run before has
not ended, or left out because no service ran. Jobs of one schedule never overlap.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pyarrow as pa
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from services.batch.convert_schedules import wish_from_template
from services.batch.domain.cron import moments
from services.batch.domain.job import Status
from services.batch.domain.schedule import WAITING_MAX, Schedule, Step, decide
from services.batch.engines.jobs import Jobs
from services.batch.engines.scheduler import Scheduler
from services.batch.engines.schedules import Asked, Schedules
from services.batch.ports import Change, JobQuery, NewJob
from services.common.errors import MeshError, Reason
from tests.support.batch_fakes import SUMS, Catalogue, CountingBoard, MemoryBatchStore
from tests.support.batch_schedules import MemoryScheduleStore
from tests.support.clock import FakeClock

T = TypeVar("T")
TEMPLATE = '{"model_name": "sums", "input_uri": "/in-{date}.csv", "output_uri": "/out-{date}-{time}-{run}.csv"}'
CRON = "*/10 * * * *"


class Files:
    """`Sources` and `Workspace` of a job that is only made: its files are there."""

    def open(self, _wish: object) -> "Files":
        return self

    def columns(self) -> tuple[str, ...]:
        return ("id", "a", "b")

    def types(self) -> dict[str, pa.DataType]:
        return {"id": pa.int64(), "a": pa.float64(), "b": pa.int64()}

    def check_output(self, _output: object, _input_path: str) -> None:
        return None


class DiedError(Exception):
    """The process is no more."""


@dataclass
class Dying:
    """A store that a process reaches until it dies: before or after the step that counts."""

    store: MemoryScheduleStore
    when: str = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    async def advance(self, schedule: Schedule, step: Step, *, job: NewJob | None = None, error: str = "") -> bool:
        if self.when == "before":
            raise DiedError
        written = await self.store.advance(schedule, step, job=job, error=error)
        if self.when == "after":
            raise DiedError
        return written


class ScheduleMachine(RuleBasedStateMachine):
    """One schedule, its services, and its jobs."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock(datetime(2026, 3, 28, 12, 3, tzinfo=UTC))
        self.jobs_store = MemoryBatchStore(self.clock)
        self.store = MemoryScheduleStore(self.jobs_store)
        self.catalogue = Catalogue(SUMS)
        self.board = CountingBoard()
        self.looked: list[datetime] = []

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run(work)

    @initialize(overlap=st.sampled_from(["skip", "queue", "replace"]))
    def begin(self, overlap: str) -> None:
        files: Any = Files()
        self.jobs = Jobs(
            store=self.jobs_store,
            catalogue=self.catalogue,
            sources=files,
            workspace=files,
            clock=self.clock,
            wake=lambda: None,
        )
        self.schedules = Schedules(store=self.store, jobs=self.jobs, read=wish_from_template, clock=self.clock)
        asked = Asked("nightly", CRON, "Europe/Berlin", overlap, paused=False, template=TEMPLATE)
        made = self.wait(self.schedules.create(asked, request_id="", wish_digest="", created_by="ann", team="red"))
        self.schedule_id, self.overlap, self.began = made.schedule_id, overlap, self.clock.now()

    def service(self, when: str = "") -> Scheduler:
        store: Any = Dying(self.store, when)
        return Scheduler(
            store=store,
            jobs=self.jobs,
            read=wish_from_template,
            board=self.board,
            clock=self.clock,
            period_s=1.0,
        )

    def all_jobs(self) -> list[Any]:
        return list(self.wait(self.jobs_store.query(JobQuery(limit=10_000, schedule_id=self.schedule_id))))[::-1]

    @rule(minutes=st.floats(0.1, 12), times=st.integers(1, 8))
    def services_look_as_time_passes(self, minutes: float, times: int) -> None:
        for _ in range(times):
            self.clock.advance(minutes * 60)
            self.looked.append(self.clock.now())
            self.wait(self.service().look())
            self.wait(self.service().look())

    @rule(hours=st.floats(0.2, 30))
    def no_service_runs_for_a_while(self, hours: float) -> None:
        self.clock.advance(hours * 3600)

    @rule(minutes=st.floats(0, 20), when=st.sampled_from(["before", "after"]))
    def a_service_dies_as_it_decides(self, minutes: float, when: str) -> None:
        self.clock.advance(minutes * 60)
        try:
            self.wait(self.service(when).look())
            self.looked.append(self.clock.now())
        except DiedError:
            if when == "after":
                self.looked.append(self.clock.now())

    @rule()
    def two_services_decide_at_once(self) -> None:
        self.looked.append(self.clock.now())

        async def both() -> None:
            await asyncio.gather(self.service().look(), self.service().look(), self.service().look())

        self.wait(both())

    @rule(status=st.sampled_from([Status.COMPLETED, Status.FAILED]))
    def the_oldest_job_ends(self, status: Status) -> None:
        for job in self.all_jobs():
            if not job.status.ended:
                self.wait(self.jobs_store.change(job.job_id, lambda _: Change(status=status, fence=True, ended=True)))
                return

    @invariant()
    def no_moment_has_two_jobs_and_no_two_jobs_overlap(self) -> None:
        if not hasattr(self, "jobs"):
            return
        jobs = self.all_jobs()
        runs = [job.spec.output.uri.rsplit("-", 1)[1] for job in jobs]
        assert len(runs) == len(set(runs))
        made = [job.spec.output.uri.rsplit("-", 1)[0] for job in jobs]
        assert len(made) == len(set(made))
        assert sum(not job.status.ended for job in jobs) <= 1
        schedule = self.wait(self.store.get(self.schedule_id))
        assert schedule.runs == len(jobs)
        assert (schedule.waiting == ()) or self.overlap == "queue"
        if jobs:
            assert schedule.last_job_id == jobs[-1].job_id
            assert (jobs[-1].team, jobs[-1].created_by, jobs[-1].schedule_id) == ("red", "ann", self.schedule_id)

    def teardown(self) -> None:
        if not hasattr(self, "jobs"):
            return
        # What was to be made, by the rules alone: at each look the last moment since the look before.
        expected, since = [], self.began
        for looked in self.looked:
            due = _until(since, looked)
            if due:
                expected.append(due[-1])
                since = due[-1]
        schedule = self.wait(self.store.get(self.schedule_id))
        skipped = self.board.schedule_runs.count("skipped")
        if self.overlap == "queue":
            assert len(self.all_jobs()) + len(schedule.waiting) == len(expected) - skipped
            assert skipped == 0 or len(expected) > WAITING_MAX
        elif self.overlap == "skip":
            # One that a service died of between deciding and counting is written and not counted.
            assert len(self.all_jobs()) + skipped <= len(expected)
        else:
            assert len(self.all_jobs()) == len(expected)
        assert schedule.next_at is not None
        assert not self.looked or schedule.next_at > self.looked[-1]


def _until(since: datetime, now: datetime) -> list[datetime]:
    found: list[datetime] = []
    for moment in moments(CRON, "Europe/Berlin", since):
        if moment > now:
            return found
        found.append(moment)
    return found


TestSchedules = ScheduleMachine.TestCase
TestSchedules.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)


def machine(overlap: str) -> ScheduleMachine:
    made = ScheduleMachine()
    made.begin(overlap)
    return made


def step(made: ScheduleMachine, minutes: float = 10) -> None:
    made.services_look_as_time_passes(minutes, 1)


def test_a_busy_run_is_left_out_waited_for_or_replaced() -> None:
    for overlap, made_jobs, statuses in (
        ("skip", 1, ["pending"]),
        ("queue", 1, ["pending"]),
        ("replace", 3, ["cancelled", "cancelled", "pending"]),
    ):
        run = machine(overlap)
        for _ in range(3):
            step(run)
        jobs = run.all_jobs()
        assert [job.status.value for job in jobs] == statuses, overlap
        assert len(jobs) == made_jobs
        run.the_oldest_job_ends(Status.COMPLETED)
        run.services_look_as_time_passes(0.1, 1)
        names = [job.spec.output.uri for job in run.all_jobs()]
        if overlap == "queue":
            # In the order of the moments, each under its own.
            assert names == ["/out-2026-03-28-131000-1.csv", "/out-2026-03-28-132000-2.csv"]


def test_only_the_last_missed_moment_is_made_up_for() -> None:
    for overlap in ("skip", "queue", "replace"):
        run = machine(overlap)
        run.no_service_runs_for_a_while(24)
        run.services_look_as_time_passes(0.1, 2)
        # 12:03 UTC is 14:03 in Berlin by then: its clocks were put forward in the night.
        assert [job.spec.output.uri for job in run.all_jobs()] == ["/out-2026-03-29-140000-1.csv"]


def test_a_pause_makes_nothing_and_is_not_made_up_for() -> None:
    run = machine("skip")
    pause = run.wait(run.schedules.update(run.schedule_id, "", lambda schedule: _with(schedule, paused=True)))
    assert pause.next_at is None
    run.no_service_runs_for_a_while(5)
    step(run)
    assert run.all_jobs() == []
    run.wait(run.schedules.update(run.schedule_id, pause.etag, lambda schedule: _with(schedule, paused=False)))
    run.services_look_as_time_passes(0.1, 1)
    assert run.all_jobs() == []
    step(run)
    assert len(run.all_jobs()) == 1


def _with(schedule: Schedule, **changes: Any) -> Schedule:
    return replace(schedule, **changes)


def test_what_cannot_be_made_is_said_and_the_next_one_is_tried() -> None:
    run = machine("skip")
    run.catalogue.versions.clear()
    step(run)
    schedule = run.wait(run.store.get(run.schedule_id))
    assert (schedule.runs, schedule.last_job_id) == (1, "")
    assert schedule.last_error.startswith("MODEL_NOT_FOUND: ")
    assert run.board.schedule_runs == ["failed"]
    run.catalogue.versions.append(SUMS)
    step(run)
    schedule = run.wait(run.store.get(run.schedule_id))
    assert (schedule.runs, schedule.last_error) == (2, "")


def test_what_passes_is_waited_for() -> None:
    run = machine("skip")
    away = MeshError(Reason.DEPENDENCY_UNAVAILABLE, "the registry is away")

    async def refuse(_model: str, _version: str) -> Any:
        raise away

    known, run.catalogue.version = run.catalogue.version, refuse  # type: ignore[method-assign,assignment]
    step(run)
    assert run.wait(run.store.get(run.schedule_id)).runs == 0
    run.catalogue.version = known  # type: ignore[method-assign]
    run.services_look_as_time_passes(0.1, 1)
    assert [job.spec.output.uri for job in run.all_jobs()] == ["/out-2026-03-28-131000-1.csv"]


def test_moments_that_wait_are_bounded() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    waiting = tuple(start + timedelta(minutes=minute) for minute in range(WAITING_MAX))
    run = machine("queue")
    schedule = _with(run.wait(run.store.get(run.schedule_id)), waiting=waiting)
    run.no_service_runs_for_a_while(1)
    full = decide(schedule, run.clock.now(), busy=True)
    assert full is not None
    assert (full.waiting, full.run) == (waiting, None)
    assert full.skipped is not None
