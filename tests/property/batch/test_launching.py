"""One job whose work runs in a cluster, through whatever may happen: who carries it dies before or after any call to
the cluster, and so does the tidier; callers pause, change, cancel and retry it; its Job ends, fails or vanishes.

There are never two Jobs for it. Once both have looked undisturbed, its Job is there and as wanted exactly while the job
is to run; while it is paused nothing runs; and nothing is left after its end.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.batch.domain.job import Job, JobSpec, Status
from services.batch.engines.jobs import Jobs
from services.batch.engines.launch import Launches
from services.batch.ports import Lease, NewJob
from services.common.clock import SystemClock
from services.common.errors import MeshError
from tests.support.batch_fakes import SUMS, Catalogue, MemoryBatchStore, spec_of
from tests.support.batch_launching import MemoryCluster, launches_in
from tests.support.batch_stores import PLAN

T = TypeVar("T")
JOB_ID = "batch_job_1"
LEASE_S = 3600.0
_FUSES = st.one_of(st.none(), st.integers(0, 5))


class KilledError(BaseException):
    """The process is no more, and handles nothing."""


class LaunchMachine(RuleBasedStateMachine):
    """Calls to the cluster are steps; after some, the process that makes them dies."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.store = MemoryBatchStore(SystemClock())
        self.cluster = MemoryCluster()
        spec = spec_of("s3://buc/in.csv", "s3://buc/out.csv", runtime="far", max_parallelism=2)
        self.wait(self.store.create(NewJob(JOB_ID, spec, "ann", "red")))
        nothing: Any = None
        self.jobs = Jobs(
            store=self.store,
            catalogue=Catalogue(SUMS),
            sources=nothing,
            workspace=nothing,
            clock=SystemClock(),
            wake=lambda: None,
        )

    def teardown(self) -> None:
        self.cluster.step = lambda: None
        self.settle()
        if not self.job.status.ended:
            self.wait(self.jobs.cancel(JOB_ID))
        self.settle()
        assert not self.cluster.bodies, "something is left after the end"
        self.loop.close()

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(asyncio.wait_for(work, 20))

    @property
    def job(self) -> Job:
        return self.wait(self.store.get(JOB_ID))

    def launches(self, fuse: int | None) -> Launches:
        """A process that has just started and dies at a step; None: at none."""
        left = fuse

        def step() -> None:
            nonlocal left
            if left is not None:
                left -= 1
                if left < 0:
                    raise KilledError

        self.cluster.step = step
        return launches_in({"far": self.cluster}, self.store)

    @rule(fuse=_FUSES, looks=st.integers(1, 3))
    def somebody_carries_it(self, fuse: int | None, looks: int) -> None:
        launches = self.launches(fuse)
        row = self.store._rows[JOB_ID]
        row.until = None
        claimed = self.wait(self.store.claim("carrier", lease_s=LEASE_S, limit=1))
        if not claimed:
            return
        (lease,) = claimed
        if row.plan is None:
            self.wait(self.store.set_plan(lease, PLAN))
        launch = launches.of(self.job)
        assert launch is not None
        try:
            for _ in range(looks):
                self.wait(launch.look(self.job, len(PLAN.chunks)))
        except KilledError:
            return
        except MeshError as error:
            self.fail(lease, error)

    def fail(self, lease: Lease, error: MeshError) -> None:
        assert any(job.failure is not None for job in self.cluster.jobs()), error
        self.wait(self.store.fail(lease, reason=error.reason, message=error.message))

    @rule(fuse=_FUSES)
    def the_tidier_looks(self, fuse: int | None) -> None:
        launches = self.launches(fuse)
        try:
            self.wait(launches.look())
        except KilledError:
            return

    @rule()
    def a_caller_pauses_it(self) -> None:
        if not self.job.status.ended:
            self.wait(self.jobs.pause(JOB_ID))

    @rule()
    def a_caller_resumes_it(self) -> None:
        if not self.job.status.ended:
            self.wait(self.jobs.resume(JOB_ID))

    @rule(parallelism=st.integers(1, 5), minutes=st.integers(1, 3))
    def a_caller_changes_it(self, parallelism: int, minutes: int) -> None:
        def change(spec: JobSpec) -> JobSpec:
            return replace(spec, max_parallelism=parallelism, timeout_minutes=minutes)

        if not self.job.status.ended:
            self.wait(self.jobs.update(JOB_ID, "", change))

    @rule()
    def a_caller_cancels_it(self) -> None:
        if not self.job.status.ended:
            self.wait(self.jobs.cancel(JOB_ID))

    @rule()
    def a_caller_retries_it(self) -> None:
        self.a_caller_cancels_it()
        if self.job.status in (Status.FAILED, Status.CANCELLED):
            self.wait(self.jobs.retry(JOB_ID))

    @rule(kind=st.sampled_from(["Complete", "Failed", ""]))
    def its_workers_end(self, kind: str) -> None:
        self.cluster.becomes(kind, "FailedIndexes")

    @rule()
    def somebody_deletes_its_job(self) -> None:
        self.cluster.bodies.clear()

    @rule()
    def both_look_undisturbed(self) -> None:
        self.settle()

    def settle(self) -> None:
        for _ in range(2):
            self.somebody_carries_it(None, 3)
            self.the_tidier_looks(None)
        job, found = self.job, self.cluster.jobs()
        if job.status.ended:
            assert not found
        elif job.paused:
            assert all(one.suspended or one.complete or one.failure for one in found), found
        else:
            (one,) = found
            assert (one.attempt, one.suspended, one.complete) == (job.attempt, False, False)
            assert one.parallelism == min(job.spec.max_parallelism, len(PLAN.chunks))
            assert one.deadline_s == 60 * job.spec.timeout_minutes

    @invariant()
    def there_are_never_two(self) -> None:
        assert len(self.cluster.bodies) <= 1


TestLaunching = LaunchMachine.TestCase
TestLaunching.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
