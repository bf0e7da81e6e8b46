"""What both stores of schedules promise."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from services.batch.domain.schedule import Overlap, Schedule, Step
from services.batch.ports import JobQuery, NewJob
from services.batch.ports_schedules import NewSchedule
from services.common.access.book import EVERYTHING, Sight
from services.common.errors import MeshError, Reason
from tests.support.batch_fakes import SUMS, spec_of
from tests.support.batch_stores import Stores

NOON = datetime(2026, 2, 5, 12, 0, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)
RED = Sight(everything=False, names=frozenset({SUMS.model}), team="red")


def new(
    number: int, *, name: str = "", team: str = "red", request_id: str = "", digest: str = "d", model: str = SUMS.model
) -> NewSchedule:
    schedule = Schedule(
        schedule_id=f"batch_schedule_{number}",
        name=name or f"name-{number}",
        cron="0 * * * *",
        time_zone="UTC",
        template='{"model_name": "sums"}',
        model=model,
        overlap=Overlap.SKIP,
        paused=False,
        next_at=NOON,
        created_at=NOON,
        updated_at=NOON,
        created_by="ann",
        team=team,
    )
    return NewSchedule(schedule, request_id, digest)


def job(number: int, *, output: str = "") -> NewJob:
    spec = spec_of("/in.csv", output or f"/out-{number}.csv")
    return NewJob(f"batch_job_{number}", spec, "ann", "red", schedule_id="batch_schedule_1")


async def test_a_schedule_is_kept_as_it_was_asked(stores: Stores) -> None:
    wish = new(1)
    made = await stores.schedules.create(wish)
    found = await stores.schedules.get("batch_schedule_1")
    assert found == made
    assert replace(found, created_at=NOON, updated_at=NOON) == wish.schedule


async def test_names_are_a_teams_own_and_the_same_request_is_the_same_schedule(stores: Stores) -> None:
    made = await stores.schedules.create(new(1, name="nightly", request_id="once"))
    assert await stores.schedules.create(new(2, name="nightly", request_id="once")) == made
    assert await stores.schedules.repeated("once", "d", team="red") == made
    assert await stores.schedules.repeated("once", "d", team="blue") is None
    await stores.schedules.create(new(3, name="nightly", team="blue", request_id="once"))
    for wish, reason in (
        (new(4, name="nightly"), Reason.SCHEDULE_EXISTS),
        (new(5, name="nightly", request_id="other"), Reason.SCHEDULE_EXISTS),
        (new(6, name="other", request_id="once", digest="e"), Reason.REQUEST_ID_REUSED),
    ):
        with pytest.raises(MeshError) as error:
            await stores.schedules.create(wish)
        assert error.value.reason is reason


async def test_what_is_not_there_is_said(stores: Stores) -> None:
    for call in (
        stores.schedules.get("nobody"),
        stores.schedules.change("nobody", lambda schedule: schedule),
        stores.schedules.delete("nobody", lambda _: None),
    ):
        with pytest.raises(MeshError, match="nobody") as error:
            await call
        assert error.value.reason is Reason.SCHEDULE_NOT_FOUND


async def test_pages_are_by_name_and_of_what_the_caller_sees(stores: Stores) -> None:
    for number, name in enumerate(("b", "a", "c")):
        await stores.schedules.create(new(number, name=name))
    await stores.schedules.create(new(7, name="b", team="blue"))
    await stores.schedules.create(new(8, name="d", model="hidden"))

    async def names(after: tuple[str, str] = ("", ""), limit: int = 9, sight: Sight = EVERYTHING) -> list[str]:
        return [item.name for item in await stores.schedules.page(after=after, limit=limit, sight=sight)]

    assert await names() == ["a", "b", "b", "c", "d"]
    assert await names(sight=RED) == ["a", "b", "c"]
    assert await names(limit=2) == ["a", "b"]
    assert await names(after=("b", "batch_schedule_0")) == ["b", "c", "d"]


async def test_what_is_due_is_what_has_come_or_waits(stores: Stores) -> None:
    for number in (1, 2, 3, 4):
        await stores.schedules.create(new(number))

    async def change(number: int, **fields: object) -> None:
        await stores.schedules.change(f"batch_schedule_{number}", lambda item: replace(item, **fields))  # type: ignore[arg-type]

    await change(2, next_at=LATER)
    await change(3, next_at=LATER, waiting=(NOON,), overlap=Overlap.QUEUE)
    await change(4, paused=True, next_at=None)

    async def due(now: datetime, after: str = "") -> list[str]:
        return [item.schedule_id[-1] for item in await stores.schedules.due(now, after=after, limit=9)]

    assert await due(NOON - timedelta(seconds=1)) == ["3"]
    assert await due(NOON) == ["1", "3"]
    assert await due(LATER) == ["1", "2", "3"]
    assert await due(LATER, after="batch_schedule_2") == ["3"]


async def test_a_step_and_its_job_are_written_both_or_neither(stores: Stores) -> None:
    made = await stores.schedules.create(new(1))
    step = Step(LATER, (), NOON)
    assert await stores.schedules.advance(made, step, job=job(1))
    assert not await stores.schedules.advance(made, step, job=job(2))
    after = await stores.schedules.get("batch_schedule_1")
    assert (after.next_at, after.runs, after.last_job_id, after.last_run_at) == (LATER, 1, "batch_job_1", NOON)
    assert after.etag == made.etag
    (only,) = await stores.jobs.query(JobQuery(schedule_id="batch_schedule_1"))
    assert (only.job_id, only.schedule_id) == ("batch_job_1", "batch_schedule_1")
    # Its output is taken, so the step is not taken either.
    with pytest.raises(MeshError) as error:
        await stores.schedules.advance(after, Step(None, (), LATER), job=job(3, output="/out-1.csv"))
    assert error.value.reason is Reason.OUTPUT_UNWRITABLE
    assert await stores.schedules.get("batch_schedule_1") == after


async def test_a_run_without_a_job_says_why_until_the_next_one(stores: Stores) -> None:
    made = await stores.schedules.create(new(1))
    assert await stores.schedules.advance(made, Step(LATER, (), NOON), error="INPUT_UNREADABLE: no file")
    failed = await stores.schedules.get("batch_schedule_1")
    assert (failed.runs, failed.last_job_id, failed.last_error) == (1, "", "INPUT_UNREADABLE: no file")
    assert await stores.schedules.advance(failed, Step(LATER, (NOON,), skipped=NOON))
    waiting = await stores.schedules.get("batch_schedule_1")
    assert (waiting.runs, waiting.waiting, waiting.last_error) == (1, (NOON,), failed.last_error)
    assert await stores.schedules.advance(waiting, Step(LATER, (), NOON), job=job(1))
    assert (await stores.schedules.get("batch_schedule_1")).last_error == ""


async def test_who_changes_a_schedule_overtakes_who_decides_on_it(stores: Stores) -> None:
    made = await stores.schedules.create(new(1))
    changed = await stores.schedules.change("batch_schedule_1", lambda item: replace(item, cron="5 * * * *"))
    assert changed.etag != made.etag
    assert changed.cron == "5 * * * *"
    assert await stores.schedules.change("batch_schedule_1", lambda item: item) == changed
    assert not await stores.schedules.advance(made, Step(LATER, (), NOON), job=job(1))
    assert await stores.jobs.query(JobQuery()) == []
    await stores.schedules.delete("batch_schedule_1", lambda _: None)
    assert not await stores.schedules.advance(changed, Step(LATER, (), NOON), job=job(1))
    assert await stores.jobs.query(JobQuery()) == []


async def test_of_many_that_decide_at_once_one_writes(stores: Stores) -> None:
    made = await stores.schedules.create(new(1))
    step = Step(LATER, (), NOON)
    written = await asyncio.gather(*(stores.schedules.advance(made, step, job=job(number)) for number in range(8)))
    assert sorted(written) == [False] * 7 + [True]
    assert len(await stores.jobs.query(JobQuery())) == 1
