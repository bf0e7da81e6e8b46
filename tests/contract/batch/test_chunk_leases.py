"""What both stores promise to workers: a chunk is done by one of them, and nobody who is late records anything."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from services.batch.domain.chunks import FailedRow, PlannedFile
from services.batch.domain.job import Format, Input, Status
from services.batch.domain.launched import Standing
from services.batch.ports import Change, ChunkLease, FencedError, Pace
from tests.support.batch_stores import LONG_S, PLAN, Stores, claimed, done, leased, new, record, running
from tests.support.waiting import eventually

JOB_ID = "batch_job_1"


async def taken(
    stores: Stores, owner: str, *, limit: int = 1, lease_s: float = LONG_S, after: int | None = None
) -> Sequence[ChunkLease]:
    known = {JOB_ID: after} if after is not None else {}
    leases, _ = await stores.work.lease_chunks(owner, lease_s=lease_s, limit=limit, after=known)
    return leases


async def held(stores: Stores, *leases: ChunkLease) -> frozenset[int]:
    return (await stores.work.renew_chunks(leases, lease_s=LONG_S)).held


async def test_each_chunk_goes_to_one_worker(stores: Stores) -> None:
    await running(stores)
    first = await taken(stores, "one", limit=2)
    second = await taken(stores, "two", limit=2)
    assert [lease.chunk for lease in first] == list(PLAN.chunks[:2])
    assert [lease.chunk for lease in second] == list(PLAN.chunks[2:])
    assert await taken(stores, "three", limit=2) == ()
    assert len({lease.token for lease in (*first, *second)}) == 3
    assert [lease.attempt for lease in first] == [1, 1]


async def test_workers_that_ask_at_the_same_time_get_different_chunks(stores: Stores) -> None:
    await running(stores)
    found = await asyncio.gather(*(taken(stores, f"worker-{number}") for number in range(5)))
    indexes = [lease.chunk.index for leases in found for lease in leases]
    assert sorted(indexes) == [0, 1, 2]


async def test_nothing_is_given_of_a_job_that_nobody_carries(stores: Stores) -> None:
    await stores.jobs.create(new(1))
    assert await taken(stores, "one") == ()
    lease = await claimed(stores)
    assert await taken(stores, "one") == (), "there is no plan"
    await stores.work.set_plan(lease, PLAN)
    await stores.work.release(lease)
    assert await taken(stores, "one") == ()
    assert await stores.work.work_of("nobody") is None


async def test_what_a_worker_must_know_of_a_job(stores: Stores) -> None:
    await running(stores)
    work = await stores.work.work_of(JOB_ID)
    assert work is not None
    assert (work.job_id, work.attempt, work.team, work.user) == (JOB_ID, 1, "red", "ann")
    assert (work.spec, work.plan) == (new(1).spec, PLAN)


PACKED = Input("/in/", "/in/", Format.CSV)
FILES = (PlannedFile("/in/a.csv.gz", "m", 0, 0), PlannedFile("/in/b.csv", "m", 2, 6))


async def test_a_packed_file_has_one_reader_while_there_is_anything_else(stores: Stores) -> None:
    await running(stores, plan=replace(PLAN, files=FILES), read=PACKED)
    assert [lease.chunk.index for lease in await taken(stores, "one")] == [0]
    assert [lease.chunk.index for lease in await taken(stores, "two", limit=2)] == [2]
    assert await taken(stores, "three") == (), "chunk 1 is left to who unpacks the one before it"
    assert [lease.chunk.index for lease in await taken(stores, "one", after=0)] == [1]


async def silent_s(stores: Stores, *leases: ChunkLease, heard: bool | None = None) -> float:
    told = {JOB_ID: heard, "nobody": False} if heard is not None else {}
    renewal = await stores.work.renew_chunks(leases, lease_s=LONG_S, heard=told)
    return renewal.paces[JOB_ID].silent_s


async def test_a_silence_is_that_of_all_workers_and_ends_with_an_answer_to_any(stores: Stores) -> None:
    lease = await running(stores)
    (one,), (two,) = await taken(stores, "one"), await taken(stores, "two")
    assert await silent_s(stores, one) == 0.0
    await silent_s(stores, one, heard=False)

    async def lasts() -> bool:
        return await silent_s(stores, two, heard=False) > 0.05

    await eventually(lasts, what="a silence lasts")
    _, pace = await stores.work.lease_chunks("three", lease_s=LONG_S, limit=1, after={})
    assert pace is not None
    assert pace.silent_s > 0.05, "who comes new is told of it"
    assert await silent_s(stores, two, heard=True) == 0.0
    assert await silent_s(stores, one) == 0.0
    assert await silent_s(stores, one, heard=False) < 0.05, "another one begins"
    # Time that the job waits for somebody to carry it is no silence.
    await stores.work.release(lease)
    await claimed(stores)
    assert await silent_s(stores, one) == 0.0


async def test_a_lease_that_ran_out_goes_to_another_and_the_old_one_can_do_nothing(stores: Stores) -> None:
    await running(stores)
    await leased(stores, 1)
    await leased(stores, 2)
    old = await leased(stores, 0, lease_s=0.02)
    (young,) = await eventually(lambda: taken(stores, "two"), what="the lease runs out")
    assert young.chunk == old.chunk
    assert young.token > old.token
    with pytest.raises(FencedError):
        await stores.work.complete_chunk(old, done(0))
    with pytest.raises(FencedError):
        await stores.work.fail_chunk(old, reason="INTERNAL", message="late")
    assert await held(stores, old, young) == {young.token}
    await stores.work.give_back_chunks([old])
    assert await taken(stores, "three", limit=3) == ()
    job = await stores.work.complete_chunk(young, done(0))
    assert (job.processed_rows, job.completed_chunks) == (4, 1)
    with pytest.raises(FencedError):
        await stores.work.complete_chunk(old, done(0))


async def test_an_old_lease_does_not_prolong_the_one_that_came_after_it(stores: Stores) -> None:
    await running(stores)
    await leased(stores, 1)
    await leased(stores, 2)
    old = await leased(stores, 0, lease_s=0.02)
    (young,) = await eventually(lambda: taken(stores, "two", lease_s=0.3), what="the first lease runs out")
    assert await held(stores, old) == frozenset()
    (youngest,) = await eventually(lambda: taken(stores, "three"), what="the second lease runs out", timeout_s=10)
    assert youngest.chunk == young.chunk


async def test_a_lease_that_ran_out_is_good_while_nobody_has_taken_it(stores: Stores) -> None:
    await running(stores)
    late = await leased(stores, 0, lease_s=0.001)
    await asyncio.sleep(0.01)
    assert await held(stores, late) == {late.token}
    assert [lease.chunk.index for lease in await taken(stores, "two", limit=3, after=0)] == [1, 2]


async def test_chunks_given_back_and_those_of_a_worker_that_began_anew_are_free_at_once(stores: Stores) -> None:
    await running(stores)
    leases = await taken(stores, "one", limit=3)
    await stores.work.give_back_chunks(leases[:1])
    assert [lease.chunk.index for lease in await taken(stores, "two")] == [0]
    await stores.work.free_chunks("one")
    assert [lease.chunk.index for lease in await taken(stores, "two", limit=3, after=0)] == [1, 2]


async def test_a_worker_goes_on_where_it_is_and_another_jumps(stores: Stores) -> None:
    await running(stores)
    await leased(stores, 0)
    assert [lease.chunk.index for lease in await taken(stores, "two")] == [2], "the middle of what is left"
    assert [lease.chunk.index for lease in await taken(stores, "one", after=0)] == [1]


async def test_requests_in_flight_are_shared_and_workers_are_no_more_than_they(stores: Stores) -> None:
    await stores.jobs.create(new(1, max_parallelism=2))
    lease = await claimed(stores)
    await stores.work.set_plan(lease, PLAN)
    first, pace = await stores.work.lease_chunks("one", lease_s=LONG_S, limit=1, after={})
    assert pace == Pace(batch_size=3, parallelism=2)
    _, pace = await stores.work.lease_chunks("two", lease_s=LONG_S, limit=1, after={})
    assert pace == Pace(batch_size=3, parallelism=1)
    assert (await stores.work.lease_chunks("three", lease_s=LONG_S, limit=1, after={}))[0] == ()
    assert (await stores.work.renew_chunks(first, lease_s=LONG_S)).paces == {JOB_ID: Pace(3, 1)}

    await stores.jobs.change(JOB_ID, lambda job: Change(spec=replace(job.spec, batch_size=7)))
    assert (await stores.work.renew_chunks(first, lease_s=LONG_S)).paces == {JOB_ID: Pace(7, 1)}


async def test_the_job_of_which_the_fewest_chunks_are_done_is_next(stores: Stores) -> None:
    for number in (1, 2):
        await stores.jobs.create(new(number))
    for lease in await stores.work.claim("one", lease_s=LONG_S, limit=2):
        await stores.work.set_plan(lease, PLAN)
    found = [(await taken(stores, f"worker-{number}"))[0].job_id for number in range(4)]
    assert found == [JOB_ID, "batch_job_2", JOB_ID, "batch_job_2"]


@pytest.mark.parametrize(
    "change",
    [
        Change(status=Status.CANCELLED, fence=True, ended=True),
        Change(status=Status.PENDING, paused=True, fence=True),
    ],
)
async def test_of_a_job_that_was_stopped_nothing_is_recorded(stores: Stores, change: Change) -> None:
    await running(stores)
    lease = await leased(stores, 0)
    await stores.jobs.change(JOB_ID, lambda _: change)
    assert await held(stores, lease) == frozenset()
    with pytest.raises(FencedError):
        await stores.work.complete_chunk(lease, done(0))
    with pytest.raises(FencedError):
        await stores.work.fail_chunk(lease, reason="INTERNAL", message="late")
    assert await taken(stores, "two") == ()


async def test_workers_go_on_while_nobody_carries_the_job_for_a_moment(stores: Stores) -> None:
    carrier = await running(stores)
    lease = await leased(stores, 0)
    await stores.work.release(carrier)
    assert await held(stores, lease) == {lease.token}
    assert (await stores.work.complete_chunk(lease, done(0))).completed_chunks == 1


async def test_a_job_that_is_cut_anew_knows_none_of_the_old_leases(stores: Stores) -> None:
    await running(stores)
    old = await leased(stores, 0)
    await stores.jobs.change(JOB_ID, lambda _: Change(status=Status.CANCELLED, fence=True, ended=True))
    again = Change(status=Status.PENDING, fence=True, begin_again=True, forget_progress=True)
    await stores.jobs.change(JOB_ID, lambda _: again)
    carrier = await claimed(stores)
    await stores.work.set_plan(carrier, PLAN)
    with pytest.raises(FencedError):
        await stores.work.complete_chunk(old, done(0))
    young = await leased(stores, 0)
    assert (young.attempt, young.token > old.token) == (2, True)
    with pytest.raises(FencedError):
        await stores.work.complete_chunk(old, done(0))
    assert (await stores.work.complete_chunk(young, done(0))).completed_chunks == 1


async def test_who_sees_that_nothing_can_be_done_fails_the_job(stores: Stores) -> None:
    await running(stores)
    lease = await leased(stores, 0)
    await stores.work.fail_chunk(lease, reason="BACKEND_UNAVAILABLE", message="away")
    job = await stores.jobs.get(JOB_ID)
    assert (job.status, job.error_reason, job.error_message) == (Status.FAILED, "BACKEND_UNAVAILABLE", "away")
    with pytest.raises(FencedError):
        await stores.work.fail_chunk(lease, reason="INTERNAL", message="again")


async def test_a_part_that_was_recorded_is_recorded_once_and_no_other_by_the_same_lease(stores: Stores) -> None:
    await running(stores)
    lease = await leased(stores, 0)
    result = done(0, [FailedRow(1, "k", "MODEL_FAILED", "no")])
    for _ in range(2):
        job = await stores.work.complete_chunk(lease, result)
        assert (job.processed_rows, job.failed_rows, job.completed_chunks) == (4, 1, 1)
    assert await held(stores, lease) == frozenset()


async def test_a_chunk_that_is_done_again_is_not_recorded_by_who_did_it_before(stores: Stores) -> None:
    carrier = await running(stores)
    old = await leased(stores, 0)
    await stores.work.complete_chunk(old, done(0))
    await stores.work.reopen_chunk(carrier, 0)
    with pytest.raises(FencedError):
        await stores.work.complete_chunk(old, done(0))
    assert (await record(stores, done(0))).completed_chunks == 1


async def test_chunks_of_jobs_elsewhere_go_to_workers_of_that_job_alone(stores: Stores) -> None:
    await stores.jobs.create(new(1, runtime="far"))
    await stores.jobs.create(new(2))
    for lease in await stores.work.claim("carrier", lease_s=LONG_S, limit=2):
        await stores.work.set_plan(lease, PLAN)

    async def given(owner: str, job_id: str = "") -> set[str]:
        leases, _ = await stores.work.lease_chunks(owner, lease_s=LONG_S, limit=1, after={}, job_id=job_id)
        return {lease.job_id for lease in leases}

    # As many as there are chunks of the one that is done here.
    assert [await given("local") for _ in range(4)] == [{"batch_job_2"}] * 3 + [set()]
    assert [await given("pod", JOB_ID) for _ in range(4)] == [{JOB_ID}] * 3 + [set()]
    assert await given("pod", "batch_job_3") == set()


async def test_how_jobs_stand(stores: Stores) -> None:
    await running(stores)
    await record(stores, done(0))
    await stores.jobs.create(new(2))
    await stores.jobs.change("batch_job_2", lambda _: Change(paused=True))
    standings = await stores.work.standings([JOB_ID, "batch_job_2", "batch_job_3"])
    assert standings == {
        JOB_ID: Standing(Status.RUNNING, paused=False, attempt=1, total_chunks=3, completed_chunks=1),
        "batch_job_2": Standing(Status.PENDING, paused=True, attempt=1, total_chunks=0, completed_chunks=0),
    }


async def test_whether_any_worker_ever_had_a_chunk(stores: Stores) -> None:
    for number in (1, 2):
        await stores.jobs.create(new(number))
    for lease in await stores.work.claim("carrier", lease_s=LONG_S, limit=2):
        await stores.work.set_plan(lease, PLAN)
    assert not await stores.work.ever_leased(JOB_ID)
    leases, _ = await stores.work.lease_chunks("worker", lease_s=LONG_S, limit=1, after={})
    (job_id,) = {lease.job_id for lease in leases}
    assert await stores.work.ever_leased(job_id)
    await stores.work.give_back_chunks(leases)
    assert await stores.work.ever_leased(job_id), "he is remembered"
    (other,) = {JOB_ID, "batch_job_2"} - {job_id}
    assert not await stores.work.ever_leased(other)
    assert not await stores.work.ever_leased("batch_job_3")
