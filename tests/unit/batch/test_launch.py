"""What whoever carries a job does about a cluster that makes no pods, or does not answer."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import looptime
import pytest

from services.batch.domain.indexed_job import indexed_job
from services.batch.domain.job import LOCAL
from services.batch.domain.launched import Launched
from services.batch.engines.launch import Launch
from services.common.body import whole
from services.common.clock import LoopClock
from services.common.errors import MeshError, Reason
from tests.support.batch_fakes import MemoryBatchStore
from tests.support.batch_job_cases import OPTIONS, job
from tests.support.batch_launching import MemoryCluster, launches_in

START_S, SILENT_S, OUTAGE_S = 30.0, 70.0, 50.0
AWAY = MeshError(Reason.DEPENDENCY_UNAVAILABLE, "it is away")


class World:
    """A cluster, and one job that is carried; the time is played."""

    def __init__(self) -> None:
        self.loop = looptime.new_event_loop()
        self.clock = LoopClock(datetime(2026, 1, 15, tzinfo=UTC))
        self.cluster = MemoryCluster()
        self.leased = True
        self.launches = launches_in(
            {"far": self.cluster},
            MemoryBatchStore(self.clock),
            clock=self.clock,
            start_timeout_s=START_S,
            silent_timeout_s=SILENT_S,
            ever_leased=self.ever_leased,
            outage_timeout_s=OUTAGE_S,
            poll_period_s=1.0,
        )
        self.job = job()
        self.launch: Launch | None = None

    async def ever_leased(self, job_id: str) -> bool:
        """As is played."""
        assert job_id == self.job.job_id
        return self.leased

    def ask(self, **changes: object) -> None:
        """What is asked of the job is otherwise from now on, as whoever carries it is told."""
        self.job = replace(self.job, spec=replace(self.job.spec, **changes))  # type: ignore[arg-type]  # its fields
        assert self.launch is not None
        self.launch.wake()

    def later(self, seconds: float, what: Callable[[], None]) -> None:
        """Something else happens after so many more seconds."""
        self.loop.call_later(seconds, what)

    def carry(self, seconds: float, *, then: Callable[[], None] | None = None, at_s: float = 0.0) -> float | None:
        """After how many seconds it gave up; None: it goes on. `then` happens after `at_s`; nobody is woken by it."""

        async def some_time() -> float | None:
            launch = self.launch = self.launches.of(self.job)
            assert launch is not None
            began_s = asyncio.get_running_loop().time()
            keeping = asyncio.create_task(launch.keep(lambda: self.job, 40))
            if then is not None:
                await asyncio.sleep(at_s)
                then()
            await asyncio.wait([keeping], timeout=seconds - at_s)
            if not keeping.done():
                keeping.cancel()
                await asyncio.gather(keeping, return_exceptions=True)
                return None
            self.error = keeping.exception()
            return asyncio.get_running_loop().time() - began_s

        return self.loop.run_until_complete(some_time())

    @property
    def there(self) -> Launched:
        """Its Job."""
        (one,) = self.cluster.jobs()
        return one

    @property
    def told(self) -> MeshError:
        """What the job fails with."""
        assert isinstance(self.error, MeshError)
        return self.error


@pytest.fixture
def world() -> World:
    return World()


def test_workers_that_run_are_left_alone_and_stay_when_who_carries_the_job_goes(world: World) -> None:
    world.cluster.said = ["exceeded quota"]
    assert world.carry(500, then=lambda: world.cluster.becomes("", ready=1), at_s=1) is None
    assert world.cluster.made == 1
    assert world.carry(500) is None
    assert world.cluster.made == 1, "the next one finds the same"


def test_workers_that_never_ask_for_work_fail_the_job_after_a_while(world: World) -> None:
    world.leased = False
    gave_up_s = world.carry(500, then=lambda: world.cluster.becomes("", ready=2), at_s=10)
    assert gave_up_s is not None
    assert 10 + SILENT_S <= gave_up_s < 10 + SILENT_S + 10
    assert world.told.reason is Reason.WORKERS_FAILED
    assert f"none of them has asked the batch service for work in {SILENT_S:g} s" in world.told.message
    assert OPTIONS.batch_address in world.told.message


def test_workers_that_asked_once_may_be_silent_afterwards(world: World) -> None:
    assert world.carry(SILENT_S + 20, then=lambda: world.cluster.becomes("", ready=2), at_s=1) is None

    def none_is_leased() -> None:
        world.leased = False

    assert world.carry(500, then=none_is_leased, at_s=SILENT_S + 20) is None


def test_workers_that_went_meanwhile_have_their_time_anew(world: World) -> None:
    world.leased = False

    def all_are_preempted_for_a_second() -> None:
        world.cluster.becomes("", ready=0)
        world.later(1, lambda: world.cluster.becomes("", ready=2))

    def begin() -> None:
        world.cluster.becomes("", ready=2)
        world.later(SILENT_S - 10, all_are_preempted_for_a_second)

    gave_up_s = world.carry(500, then=begin, at_s=1)
    assert gave_up_s is not None
    assert 2 * SILENT_S - 9 <= gave_up_s < 2 * SILENT_S + 2


def test_an_image_that_is_not_there_fails_the_job_after_a_while(world: World) -> None:
    waits = {"reason": "ErrImagePull", "message": "no such image"}
    world.cluster.all_pods = [{"status": {"containerStatuses": [{"state": {"waiting": waits}}]}}]
    gave_up_s = world.carry(500)
    assert gave_up_s is not None
    assert START_S <= gave_up_s < START_S + 10
    assert (world.told.reason, "no such image" in world.told.message) == (Reason.WORKERS_FAILED, True)


def test_a_quota_that_lets_no_pod_through_fails_the_job_after_a_while(world: World) -> None:
    world.cluster.said = ['pods "x-0" is forbidden: exceeded quota: infermesh-team']
    assert world.carry(500) is not None
    assert (world.told.reason, "infermesh-team" in world.told.message) == (Reason.QUOTA_EXCEEDED, True)


def test_a_node_is_waited_for(world: World) -> None:
    scheduled = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}
    world.cluster.all_pods = [{"status": {"conditions": [scheduled]}}]
    assert world.carry(5000) is None


def test_workers_that_are_all_preempted_for_a_while_are_waited_for_anew(world: World) -> None:
    world.cluster.all_pods = [{"status": {"containerStatuses": [{"state": {"waiting": {"reason": "ErrImagePull"}}}]}}]

    def one_runs_for_a_second() -> None:
        world.cluster.becomes("", ready=1)
        world.later(1, lambda: world.cluster.becomes("", ready=0))

    gave_up_s = world.carry(500, then=one_runs_for_a_second, at_s=START_S - 5)
    assert gave_up_s is not None
    assert START_S - 4 + START_S <= gave_up_s < 2 * START_S + 10


def test_workers_that_ended_are_waited_for_anew(world: World) -> None:
    world.cluster.said = ["exceeded quota"]
    gave_up_s = world.carry(500, then=lambda: world.cluster.becomes("Complete"), at_s=START_S - 5)
    assert gave_up_s is not None
    assert START_S - 5 + START_S <= gave_up_s < 2 * START_S + 10
    assert world.cluster.made == 2


def test_nobody_waits_for_workers_of_a_job_that_is_paused(world: World) -> None:
    world.job = job(paused=True)
    world.cluster.said = ["exceeded quota"]
    assert world.carry(500) is None
    assert world.there.suspended


def test_workers_that_keep_ending_are_not_made_anew_without_end(world: World) -> None:
    def all_end() -> None:
        for body in world.cluster.bodies.values():
            body["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}

    world.cluster.step = all_end
    assert world.carry(20) is None
    assert 10 <= world.cluster.made <= 21, "one a second"


def test_a_refusal_fails_the_job_at_once_and_an_outage_after_its_budget(world: World) -> None:
    world.cluster.refusal = MeshError(Reason.CLUSTER_REFUSED, "jobs.batch is forbidden")
    assert world.carry(500) == 0
    assert world.told.reason is Reason.CLUSTER_REFUSED
    world.cluster.refusal = AWAY
    gave_up_s = world.carry(500)
    assert gave_up_s is not None
    assert OUTAGE_S <= gave_up_s < OUTAGE_S + 2

    def back() -> None:
        world.cluster.refusal = None

    assert world.carry(500, then=back, at_s=OUTAGE_S - 5) is None
    assert world.cluster.made == 1


def test_a_conflict_passes(world: World) -> None:
    world.cluster.refusal = MeshError(Reason.ETAG_MISMATCH, "somebody else was faster")

    def back() -> None:
        world.cluster.refusal = None

    assert world.carry(500, then=back, at_s=3) is None
    assert world.cluster.made == 1


def test_each_outage_has_a_budget_of_its_own(world: World) -> None:
    world.cluster.refusal = AWAY

    def away_again() -> None:
        world.cluster.refusal = AWAY
        world.ask(max_parallelism=2)

    def back() -> None:
        world.cluster.refusal = None

    def back_for_a_while() -> None:
        back()
        world.later(10, away_again)
        world.later(OUTAGE_S, back)

    assert world.carry(500, then=back_for_a_while, at_s=OUTAGE_S - 5) is None
    assert world.there.parallelism == 2


def test_what_may_not_be_followed_fails_the_job(world: World) -> None:
    world.cluster.synced = False
    assert world.carry(500) is None
    assert world.cluster.made == 0, "who does not know what is there makes nothing"
    world.cluster.trouble = MeshError(Reason.CLUSTER_REFUSED, "pods is forbidden")
    assert world.carry(500) == 0
    assert "pods is forbidden" in world.told.message


def test_a_job_that_failed_fails_ours(world: World) -> None:
    def fails() -> None:
        world.cluster.becomes("Failed", "FailedIndexes")

    assert world.carry(500, then=fails, at_s=3) == pytest.approx(3, abs=0.1)
    assert (world.told.reason, world.told.metadata["cause"]) == (Reason.WORKERS_FAILED, "FailedIndexes")


def test_a_change_is_passed_on_at_once(world: World) -> None:
    world.carry(2.1, then=lambda: world.ask(max_parallelism=2, timeout_minutes=7), at_s=2)
    assert (world.cluster.made, world.there.parallelism, world.there.deadline_s) == (1, 2, 420)
    (body,) = world.cluster.bodies.values()
    assert whole(body, "spec", "completions") == 40


def test_a_change_while_it_looks_is_seen_by_the_next_look(world: World) -> None:
    def once() -> None:
        world.cluster.step = lambda: None
        world.ask(max_parallelism=2)

    world.cluster.step = once
    world.carry(0.1)
    assert (world.cluster.made, world.there.parallelism) == (1, 2)


def test_it_is_in_the_team_s_namespace_beside_the_jobs_of_others(world: World) -> None:
    other = indexed_job(job(job_id="batch_job_2"), OPTIONS, namespace="vision", chunks=40)
    world.loop.run_until_complete(world.cluster.apply(other))
    world.carry(10)
    found = {one.job_id: one.namespace for one in world.cluster.jobs()}
    assert found == {"batch_job_2": "vision", world.job.job_id: "vision"}
    world.cluster.bodies.clear()
    world.job = job(team="")
    world.carry(1)
    assert world.there.namespace == "default"


def test_of_an_attempt_before_this_one_nothing_is_left(world: World) -> None:
    before = indexed_job(world.job, OPTIONS, namespace="vision", chunks=40)
    world.loop.run_until_complete(world.cluster.apply(before))
    world.job = job(attempt=2)
    world.carry(1)
    assert world.there.attempt == 2


def test_the_work_of_a_job_of_this_machine_is_launched_nowhere(world: World) -> None:
    assert world.launches.of(job(spec=replace(world.job.spec, runtime=LOCAL))) is None


def test_a_cluster_that_is_not_named_any_more_is_named_in_the_error(world: World) -> None:
    gone = launches_in({"near": world.cluster}, MemoryBatchStore(world.clock))
    with pytest.raises(MeshError, match=r"'far', which INFERMESH_BATCH_CLUSTERS does not name any more"):
        gone.of(world.job)
