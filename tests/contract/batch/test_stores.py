"""What both stores promise, held by the one in memory and the one in PostgreSQL."""

import asyncio
from dataclasses import replace

import pytest

from services.batch.domain.chunks import FailedRow, Part
from services.batch.domain.job import Job, Spent, Status
from services.batch.ports import Change, FencedError, JobQuery, Lease
from services.common.access.book import EVERYTHING, Sight
from services.common.errors import MeshError, Reason
from tests.support.batch_fakes import SUMS
from tests.support.batch_stores import LONG_S, PLAN, Stores, claimed, done, leased, new, record, running
from tests.support.waiting import eventually


def reason_of(error: pytest.ExceptionInfo[MeshError]) -> Reason:
    return error.value.reason


async def test_a_job_is_kept_as_it_was_asked(stores: Stores) -> None:
    wish = new(1, labels={"team": "red"}, parameters={"k": "v"}, max_failed_fraction=0.25)
    made = await stores.jobs.create(wish)
    found = await stores.jobs.get("batch_job_1")
    assert found == made
    assert found.spec == wish.spec
    assert (found.status, found.created_by, found.team, found.attempt) == (Status.PENDING, "ann", "red", 1)
    assert (found.total_rows, found.started_at, found.spent) == (0, None, Spent())


async def test_the_same_request_is_the_same_job(stores: Stores) -> None:
    made = await stores.jobs.create(new(1, request_id="once"))
    # Its output is taken by itself, and that does not matter.
    assert await stores.jobs.create(new(2, request_id="once", output="/out-1.csv")) == made
    assert await stores.jobs.repeated("once", "d", team="red") == made
    assert await stores.jobs.repeated("other", "d", team="red") is None
    for call in (
        stores.jobs.create(new(3, request_id="once", digest="e")),
        stores.jobs.repeated("once", "e", team="red"),
    ):
        with pytest.raises(MeshError) as error:
            await call
        assert reason_of(error) is Reason.REQUEST_ID_REUSED


async def test_one_output_has_one_job_at_a_time(stores: Stores) -> None:
    await stores.jobs.create(new(1, output="/same.csv"))
    with pytest.raises(MeshError, match=r"/same\.csv") as error:
        await stores.jobs.create(new(2, output="/same.csv"))
    assert reason_of(error) is Reason.OUTPUT_UNWRITABLE
    lease = await claimed(stores)
    await stores.work.fail(lease, reason="INTERNAL", message="broken")
    await stores.jobs.create(new(3, output="/same.csv"))
    with pytest.raises(MeshError) as error:
        await stores.jobs.change("batch_job_1", lambda _: Change(status=Status.PENDING, fence=True, begin_again=True))
    assert reason_of(error) is Reason.OUTPUT_UNWRITABLE
    assert (await stores.jobs.get("batch_job_1")).status is Status.FAILED


async def test_what_is_not_there_is_said(stores: Stores) -> None:
    for call in (
        stores.jobs.get("nobody"),
        stores.jobs.change("nobody", lambda _: None),
        stores.jobs.delete("nobody", lambda _: None),
    ):
        with pytest.raises(MeshError, match="nobody") as error:
            await call
        assert reason_of(error) is Reason.JOB_NOT_FOUND
    assert await stores.jobs.failed_rows("nobody", after=-1, limit=10) == []


async def test_lists_are_newest_first_and_filtered(stores: Stores) -> None:
    for number, labels in enumerate(({"a": "1"}, {"a": "1", "b": "2"}, {})):
        await stores.jobs.create(new(number, labels=labels))
    await claimed(stores)

    async def ids(**query: object) -> list[str]:
        return [job.job_id[-1] for job in await stores.jobs.query(JobQuery(**query))]  # type: ignore[arg-type]

    assert await ids() == ["2", "1", "0"]
    assert await ids(limit=2) == ["2", "1"]
    assert await ids(status="running") == ["0"]
    assert await ids(labels={"a": "1"}) == ["1", "0"]
    assert await ids(labels={"a": "1", "b": "2"}) == ["1"]
    assert await ids(model="sums") == ["2", "1", "0"]
    assert await ids(model="other") == []
    middle = await stores.jobs.get("batch_job_1")
    assert await ids(before=middle.sequence) == ["0"]


async def test_a_change_is_decided_on_the_job_as_it_is(stores: Stores) -> None:
    made = await stores.jobs.create(new(1))
    assert await stores.jobs.change("batch_job_1", lambda _: None) == made

    def larger(job: Job) -> Change:
        return Change(spec=replace(job.spec, batch_size=job.spec.batch_size + 1, labels={"x": "y"}))

    changed = await stores.jobs.change("batch_job_1", larger)
    assert changed.spec == replace(made.spec, batch_size=4, labels={"x": "y"})
    assert changed.etag != made.etag
    assert [job.job_id for job in await stores.jobs.query(JobQuery(labels={"x": "y"}))] == ["batch_job_1"]

    def refuse(_: Job) -> Change:
        raise MeshError(Reason.JOB_STATE_INVALID, "no")

    with pytest.raises(MeshError, match="no"):
        await stores.jobs.change("batch_job_1", refuse)
    assert await stores.jobs.get("batch_job_1") == changed


async def test_each_waiting_job_goes_to_one_worker(stores: Stores) -> None:
    for number in range(3):
        await stores.jobs.create(new(number))
    first = await stores.work.claim("one", lease_s=LONG_S, limit=2)
    second = await stores.work.claim("two", lease_s=LONG_S, limit=2)
    assert {lease.job_id[-1] for lease in first} == {"0", "1"}
    assert {lease.job_id[-1] for lease in second} == {"2"}
    assert await stores.work.claim("three", lease_s=LONG_S, limit=2) == []
    job = await stores.jobs.get("batch_job_0")
    assert job.status is Status.RUNNING
    assert job.started_at is not None


async def test_a_lease_that_ran_out_goes_to_another_and_the_old_one_can_do_nothing(stores: Stores) -> None:
    await stores.jobs.create(new(1))
    old = await claimed(stores, lease_s=0.02)
    started_at = (await stores.jobs.get("batch_job_1")).started_at
    (young,) = await eventually(lambda: stores.work.claim("two", lease_s=LONG_S, limit=1), what="the lease runs out")
    assert young.token > old.token
    await stores.work.set_plan(young, PLAN)
    for call in (
        stores.work.renew(old, lease_s=LONG_S),
        stores.work.release(old),
        stores.work.plan(old),
        stores.work.set_plan(old, PLAN),
        stores.work.parts(old),
        stores.work.reopen_chunk(old, 0),
        stores.work.intend(old, "x"),
        stores.work.intended(old),
        stores.work.finish(old, lambda: pytest.fail("published")),
        stores.work.fail(old, reason="INTERNAL", message=""),
    ):
        with pytest.raises(FencedError):
            await call
    job = await stores.jobs.get("batch_job_1")
    assert (job.status, job.processed_rows, job.started_at) == (Status.RUNNING, 0, started_at)


async def test_a_renewed_lease_stays(stores: Stores) -> None:
    await stores.jobs.create(new(1))
    lease = await claimed(stores, lease_s=0.02)
    await stores.work.renew(lease, lease_s=LONG_S)
    assert await stores.work.claim("two", lease_s=LONG_S, limit=1) == []


async def test_a_job_given_back_may_be_claimed_at_once(stores: Stores) -> None:
    lease = await running(stores)
    await stores.work.release(lease)
    assert (await stores.jobs.get("batch_job_1")).status is Status.PENDING
    again = await claimed(stores)
    assert again.token > lease.token
    assert await stores.work.plan(again) == PLAN


async def test_a_plan_and_its_parts_outlive_the_lease(stores: Stores) -> None:
    await stores.jobs.create(new(1))
    lease = await claimed(stores)
    assert await stores.work.plan(lease) is None
    await stores.work.set_plan(lease, PLAN)
    await record(stores, done(1))
    await stores.work.release(lease)
    again = await claimed(stores)
    assert await stores.work.plan(again) == PLAN
    assert await stores.work.parts(again) == {1: Part("1.part", 10, 4)}
    chunks = await stores.jobs.chunks("batch_job_1", after=0, limit=10)
    assert [(item.chunk, item.part is not None, item.worker) for item in chunks] == [
        (PLAN.chunks[1], True, "one"),
        (PLAN.chunks[2], False, ""),
    ]
    assert len(await stores.jobs.chunks("batch_job_1", after=-1, limit=2)) == 2


async def test_a_chunk_counts_once_with_its_failed_rows(stores: Stores) -> None:
    await running(stores)
    bad = FailedRow(9, "nul\0key", "SCHEMA_VIOLATION", "column 'a' is 'x'")
    last = await leased(stores, 2)
    job = await stores.work.complete_chunk(last, done(2, [bad]))
    assert (job.processed_rows, job.failed_rows, job.completed_chunks, job.total_chunks) == (2, 1, 1, 3)
    job = await stores.work.complete_chunk(last, done(2, [bad]))
    assert (job.processed_rows, job.failed_rows, job.completed_chunks) == (2, 1, 1)
    assert job.spent == Spent(requests=1, latency_ms_sum=2.0)
    early = FailedRow(1, "k", "MODEL_FAILED", "no")
    job = await record(stores, done(0, [early]))
    assert (job.processed_rows, job.failed_rows) == (6, 2)
    rows = await stores.jobs.failed_rows("batch_job_1", after=-1, limit=10)
    assert [row.row_number for row in rows] == [1, 9]
    assert list(await stores.work.failed_after("batch_job_1", 1, 10)) == list(rows[1:])
    assert len(await stores.work.failed_after("batch_job_1", -1, 1)) == 1


async def test_a_reopened_chunk_is_as_if_never_done(stores: Stores) -> None:
    lease = await running(stores)
    await record(stores, done(0, [FailedRow(0, "k", "MODEL_FAILED", "no")]))
    await record(stores, done(1))
    for _ in range(2):
        await stores.work.reopen_chunk(lease, 0)
        job = await stores.jobs.get("batch_job_1")
        assert (job.processed_rows, job.failed_rows, job.completed_chunks) == (4, 0, 1)
    assert await stores.jobs.failed_rows("batch_job_1", after=-1, limit=10) == []
    job = await record(stores, done(0))
    assert (job.processed_rows, job.completed_chunks) == (8, 2)


async def test_a_job_is_completed_with_its_publication_or_not_at_all(stores: Stores) -> None:
    lease = await running(stores)
    await stores.work.intend(lease, "digest")
    assert await stores.work.intended(lease) == "digest"

    def broken() -> None:
        raise MeshError(Reason.OUTPUT_UNWRITABLE, "disk full")

    with pytest.raises(MeshError, match="disk full"):
        await stores.work.finish(lease, broken)
    assert (await stores.jobs.get("batch_job_1")).status is Status.RUNNING
    published: list[str] = []
    await stores.work.finish(lease, lambda: published.append("yes"))
    job = await stores.jobs.get("batch_job_1")
    assert (published, job.status) == (["yes"], Status.COMPLETED)
    assert job.completed_at is not None
    with pytest.raises(FencedError):
        await stores.work.renew(lease, lease_s=LONG_S)


async def test_a_cancelled_job_is_taken_from_its_worker(stores: Stores) -> None:
    lease = await running(stores)
    await stores.jobs.change("batch_job_1", lambda _: Change(status=Status.CANCELLED, fence=True, ended=True))
    with pytest.raises(FencedError):
        await stores.work.finish(lease, lambda: pytest.fail("published"))
    assert await stores.work.claim("two", lease_s=LONG_S, limit=5) == []
    job = await stores.jobs.get("batch_job_1")
    assert job.status is Status.CANCELLED
    assert job.completed_at is not None


async def test_a_paused_job_waits(stores: Stores) -> None:
    lease = await running(stores)
    chunk = await leased(stores, 0)
    await stores.jobs.change("batch_job_1", lambda _: Change(status=Status.PENDING, paused=True, fence=True))
    with pytest.raises(FencedError):
        await stores.work.complete_chunk(chunk, done(0))
    assert await stores.work.claim("two", lease_s=LONG_S, limit=5) == []
    resumed = await stores.jobs.change("batch_job_1", lambda _: Change(paused=False))
    assert not resumed.paused
    assert (await claimed(stores)).token > lease.token


@pytest.mark.parametrize("forget", [False, True])
async def test_a_retried_job_goes_on_or_begins_anew(stores: Stores, *, forget: bool) -> None:
    lease = await running(stores)
    await record(stores, done(0, [FailedRow(0, "k", "MODEL_FAILED", "no")]))
    await stores.work.intend(lease, "digest")
    await stores.work.fail(lease, reason="BACKEND_UNAVAILABLE", message="away")
    failed = await stores.jobs.get("batch_job_1")
    assert (failed.status, failed.error_reason, failed.error_message) == (
        Status.FAILED,
        "BACKEND_UNAVAILABLE",
        "away",
    )
    change = Change(status=Status.PENDING, fence=True, begin_again=True, forget_progress=forget)
    job = await stores.jobs.change("batch_job_1", lambda _: change)
    assert (job.status, job.attempt, job.error_reason, job.completed_at) == (Status.PENDING, 2, "", None)
    assert job.processed_rows == (0 if forget else 4)
    again = await claimed(stores)
    assert await stores.work.plan(again) == (None if forget else PLAN)
    assert await stores.work.intended(again) == ""
    assert len(await stores.jobs.failed_rows("batch_job_1", after=-1, limit=9)) == (0 if forget else 1)


async def test_files_are_cleared_once_and_only_of_jobs_that_ended(stores: Stores) -> None:
    for number in range(3):
        await stores.jobs.create(new(number))
    leases = {lease.job_id: lease for lease in await stores.work.claim("one", lease_s=LONG_S, limit=2)}
    await stores.work.intend(leases["batch_job_0"], "digest")
    await stores.work.finish(leases["batch_job_0"], lambda: None)
    await stores.work.fail(leases["batch_job_1"], reason="INTERNAL", message="")
    (leftover,) = await stores.work.leftovers(settle_s=0, limit=10)
    assert (leftover.job_id, leftover.status, leftover.digest) == ("batch_job_0", Status.COMPLETED, "digest")
    assert leftover.output == new(0).spec.output
    assert await stores.work.leftovers(settle_s=LONG_S, limit=10) == []
    cleared: list[str] = []
    for job_id in ("batch_job_0", "batch_job_0", "batch_job_1", "batch_job_2", "nobody"):
        await stores.work.clean(job_id, lambda job_id=job_id: cleared.append(job_id))  # type: ignore[misc]
    assert cleared == ["batch_job_0"]
    assert await stores.work.leftovers(settle_s=0, limit=10) == []


async def test_a_deleted_job_is_gone_with_all_that_belongs_to_it(stores: Stores) -> None:
    lease = await running(stores)
    await record(stores, done(0, [FailedRow(0, "k", "MODEL_FAILED", "no")]))

    def refuse(_: Job) -> None:
        raise MeshError(Reason.JOB_STATE_INVALID, "it runs")

    with pytest.raises(MeshError, match="it runs"):
        await stores.jobs.delete("batch_job_1", refuse)
    await stores.jobs.delete("batch_job_1", lambda _: None)
    with pytest.raises(MeshError):
        await stores.jobs.get("batch_job_1")
    with pytest.raises(FencedError):
        await stores.work.renew(lease, lease_s=LONG_S)
    assert await stores.jobs.failed_rows("batch_job_1", after=-1, limit=9) == []


async def test_the_time_that_a_job_ran_is_counted_while_it_is_held(stores: Stores) -> None:
    lease = await running(stores)

    async def ran() -> bool:
        return (await stores.work.renew(lease, lease_s=LONG_S)).running_s > 0.02

    await eventually(ran)
    await stores.work.release(lease)
    before = (await stores.jobs.get("batch_job_1")).running_s
    again = await claimed(stores)
    after = (await stores.work.renew(again, lease_s=LONG_S)).running_s
    assert before <= after < before + 10


async def test_one_teams_request_ids_are_nothing_to_anothers(stores: Stores) -> None:
    made = await stores.jobs.create(new(1, request_id="once", team="red"))
    other = await stores.jobs.create(new(2, request_id="once", team="blue", digest="e"))
    assert other.job_id != made.job_id
    assert await stores.jobs.repeated("once", "d", team="red") == made
    assert await stores.jobs.repeated("once", "d", team="green") is None


async def test_lists_show_a_teams_own_jobs_of_models_that_it_sees_on_full_pages(stores: Stores) -> None:
    for number, team in enumerate(("red", "blue", "red", "", "blue", "red")):
        await stores.jobs.create(new(number, team=team))

    async def ids(sight: Sight, **query: object) -> list[str]:
        return [job.job_id[-1] for job in await stores.jobs.query(JobQuery(sight=sight, **query))]  # type: ignore[arg-type]

    red = Sight(everything=False, names=frozenset({SUMS.model}), team="red")
    assert await ids(red) == ["5", "2", "0"]
    assert await ids(red, limit=2) == ["5", "2"]
    assert await ids(Sight(everything=False, names=frozenset({"other"}), team="red")) == []
    assert await ids(Sight(everything=False, names=frozenset({SUMS.model}))) == []
    assert await ids(EVERYTHING) == ["5", "4", "3", "2", "1", "0"]


async def test_of_a_team_no_more_jobs_run_than_it_may_and_nobody_else_waits_for_it(stores: Stores) -> None:
    for number, team in enumerate(("red", "red", "red", "blue", "")):
        await stores.jobs.create(new(number, team=team))
    limits = {"red": 1, "gone": 0}

    async def claim(limit: int = 5) -> list[str]:
        leases = await stores.work.claim("one", lease_s=LONG_S, limit=limit, concurrency=limits)
        claimed_leases.update({lease.job_id: lease for lease in leases})
        return sorted(lease.job_id[-1] for lease in leases)

    claimed_leases: dict[str, Lease] = {}
    assert await claim() == ["0", "3", "4"]
    assert await claim() == []
    assert (await stores.jobs.get("batch_job_1")).status is Status.PENDING
    await stores.work.fail(claimed_leases["batch_job_0"], reason="INTERNAL", message="over")
    assert await claim(limit=1) == ["1"]
    limits["red"] = 2
    assert await claim() == ["2"]


async def test_callers_that_claim_at_the_same_time_stay_within_the_limit_together(stores: Stores) -> None:
    for number in range(6):
        await stores.jobs.create(new(number, team="red"))
    claims = await asyncio.gather(
        *(stores.work.claim(f"worker-{number}", lease_s=LONG_S, limit=2, concurrency={"red": 3}) for number in range(4))
    )
    claimed_ids = [lease.job_id[-1] for leases in claims for lease in leases]
    assert sorted(claimed_ids) == ["0", "1", "2"]


async def test_a_team_that_may_run_nothing_waits(stores: Stores) -> None:
    await stores.jobs.create(new(0, team="red"))
    assert await stores.work.claim("one", lease_s=LONG_S, limit=2, concurrency={"red": 0}) == []
