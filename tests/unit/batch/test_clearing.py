"""What ended jobs leave behind is cleared away, and a place that is away keeps the others from nothing."""

import asyncio

from services.batch.domain.job import Output
from services.batch.engines.access import JobAccess
from services.batch.engines.runner import Runner, RunnerOptions
from services.batch.ports import NewJob
from services.common.access.book import AccessBook
from services.common.clock import SystemClock
from services.common.errors import MeshError, Reason
from tests.support.batch_fakes import CountingBoard, MemoryBatchStore, spec_of
from tests.support.batch_launching import launches_in
from tests.support.waiting import eventually


class Folders:
    """A workspace that only clears away. That of `away` is not to be reached."""

    def __init__(self, away: str) -> None:
        self.asked: list[str] = []
        self._away = away

    def discard(self, job_id: str, output: Output) -> None:
        self.asked.append(job_id)
        if job_id == self._away:
            raise MeshError(Reason.DEPENDENCY_UNAVAILABLE, "the bucket does not answer")


async def test_a_place_that_is_away_is_tried_later_and_the_others_now() -> None:
    store, folders = MemoryBatchStore(SystemClock()), Folders("job-0")
    for number in range(3):
        await store.create(NewJob(f"job-{number}", spec_of("/in.csv", f"/out-{number}.csv"), "", ""))
    for lease in await store.claim("one", lease_s=60, limit=3):
        await store.finish(lease, lambda: None)
    unused: object = None
    runner = Runner(
        store=store,
        access=JobAccess(AccessBook()),
        sources=unused,  # type: ignore[arg-type]  # nothing is run here
        workspace=folders,  # type: ignore[arg-type]
        board=CountingBoard(),
        clock=SystemClock(),
        offer=lambda: None,
        launches=launches_in({}, store),
        options=RunnerOptions(owner="one", jobs_max=1, lease_s=60, poll_period_s=0.01),
    )
    running = asyncio.create_task(runner.run())

    async def left() -> list[str]:
        return [leftover.job_id for leftover in await store.leftovers(settle_s=0, limit=9)]

    async def only_one_is_left() -> bool:
        return await left() == ["job-0"]

    await eventually(only_one_is_left, what="the others are cleared away")
    # Later jobs go on being cleared, and the one is not asked for again and again.
    await store.create(NewJob("job-3", spec_of("/in.csv", "/out-3.csv"), "", ""))
    (lease,) = await store.claim("two", lease_s=60, limit=1)
    await store.finish(lease, lambda: None)
    await eventually(only_one_is_left, what="a later one is cleared away")
    running.cancel()
    await asyncio.wait([running])
    assert sorted(folders.asked) == ["job-0", "job-1", "job-2", "job-3"]
    assert runner.reachable
