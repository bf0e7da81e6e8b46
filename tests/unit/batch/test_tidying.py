"""What the tidier of clusters does about Jobs that nobody carries any more, whatever fails meanwhile."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import pytest

from services.batch.domain.indexed_job import indexed_job
from services.batch.engines.launch import Launches
from services.common.clock import SystemClock
from services.common.errors import MeshError, Reason
from tests.support.batch_fakes import MemoryBatchStore
from tests.support.batch_job_cases import OPTIONS, job
from tests.support.batch_launching import MemoryCluster, launches_in
from tests.support.waiting import eventually


class World:
    """Two clusters and a store that knows no job, so that whatever is in them is nobody's."""

    def __init__(self) -> None:
        self.store = MemoryBatchStore(SystemClock())
        self.one, self.two = MemoryCluster(), MemoryCluster()

    def launches(self, poll_period_s: float = 0.01) -> Launches:
        """Whose tidier looks."""
        return launches_in({"one": self.one, "two": self.two}, self.store, poll_period_s=poll_period_s)


@pytest.fixture
def world() -> World:
    return World()


async def put(cluster: MemoryCluster, *job_ids: str) -> None:
    for job_id in job_ids:
        await cluster.apply(indexed_job(job(job_id=job_id), OPTIONS, namespace="vision", chunks=4))


def there(cluster: MemoryCluster) -> Sequence[str]:
    return [one.job_id for one in cluster.jobs()]


@pytest.mark.parametrize("reason", [Reason.DEPENDENCY_UNAVAILABLE, Reason.CLUSTER_REFUSED])
async def test_a_cluster_that_refuses_holds_up_no_other(world: World, reason: Reason) -> None:
    await put(world.one, "batch_job_1")
    await put(world.two, "batch_job_2")
    world.one.refusal = MeshError(reason, "not now")
    await world.launches().look()
    assert (there(world.one), there(world.two)) == (["batch_job_1"], [])
    world.one.refusal = None
    await world.launches().look()
    assert there(world.one) == []


async def test_while_the_store_is_away_nothing_is_removed(world: World) -> None:
    await put(world.one, "batch_job_1")
    world.store.away = True
    await world.launches().look()
    assert there(world.one) == ["batch_job_1"]
    world.store.away = False
    await world.launches().look()
    assert there(world.one) == []


async def test_all_are_looked_at_however_many_there_are(world: World) -> None:
    await put(world.one, *(f"batch_job_{number:x}" for number in range(1001)))
    await world.launches().look()
    assert there(world.one) == []


async def test_what_is_being_removed_is_left_alone(world: World) -> None:
    await put(world.one, "batch_job_1")
    for body in world.one.bodies.values():
        metadata = body["metadata"]
        assert isinstance(metadata, dict)
        metadata["deletionTimestamp"] = "2026-11-26T12:00:00Z"
    calls = list[None]()
    world.one.step = lambda: calls.append(None)
    await world.launches().look()
    assert (there(world.one), calls) == (["batch_job_1"], [])


async def test_it_looks_at_once_when_it_is_woken(world: World) -> None:
    launches = world.launches(poll_period_s=3600)
    tidying = asyncio.create_task(launches.tidy(), name="tidier")
    try:
        await put(world.one, "batch_job_1")
        await eventually(lambda: not there(world.one), what="the first look")
        await put(world.one, "batch_job_2")
        launches.wake()
        await eventually(lambda: not there(world.one), what="the look after it was woken")
    finally:
        tidying.cancel()
        with suppress(asyncio.CancelledError):
            await tidying
