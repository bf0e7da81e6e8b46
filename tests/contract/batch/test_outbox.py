"""What both outboxes promise: a letter for each status that somebody wants to hear of, written with it."""

import pytest

from services.batch.domain.chunks import ChunkResult, Part, Plan, cut_rows
from services.batch.domain.job import Notice, Spent, Status
from services.batch.domain.pace import MARKS_MAX
from services.batch.ports import Change, NewJob
from services.batch.ports_outbox import Letter
from tests.support.batch_fakes import spec_of
from tests.support.batch_stores import Stores
from tests.support.waiting import eventually

LONG_S = 60.0
ENDS = ("completed", "failed", "cancelled")
HOOK = Notice("webhook", "https://a.example/", ("running", *ENDS))
CHANNEL = Notice("slack", "alerts", ("failed",))


async def begin(stores: Stores, *notices: Notice, mailbox: str = "") -> None:
    spec = spec_of("/in.csv", "/out.csv", notices=notices, notify_on_completion=mailbox)
    await stores.jobs.create(NewJob("batch_job_1", spec, "ann", "red"))


async def taken(stores: Stores) -> list[tuple[str, str, str]]:
    letters = await stores.outbox.take(limit=10, hold_s=LONG_S)
    return sorted((letter.job.status.value, letter.means, letter.address) for letter in letters)


async def test_each_status_is_told_to_those_who_want_to_hear_of_it(stores: Stores) -> None:
    await begin(stores, HOOK, CHANNEL, mailbox="ann@b.example")
    assert await taken(stores) == []
    (lease,) = await stores.work.claim("one", lease_s=LONG_S, limit=1)
    assert await taken(stores) == [("running", "webhook", HOOK.address)]
    await stores.work.fail(lease, reason="INTERNAL", message="broken")
    assert await taken(stores) == [
        ("failed", "email", "ann@b.example"),
        ("failed", "slack", "alerts"),
        ("failed", "webhook", HOOK.address),
    ]
    # The next attempt is news again.
    await stores.jobs.change("batch_job_1", lambda _: Change(status=Status.PENDING, fence=True, begin_again=True))
    (lease,) = await stores.work.claim("one", lease_s=LONG_S, limit=1)
    await stores.work.finish(lease, lambda: None)
    assert [told[:2] for told in await taken(stores)] == [
        ("completed", "email"),
        ("completed", "webhook"),
        ("running", "webhook"),
    ]


async def test_a_job_that_changes_hands_or_was_paused_is_told_of_once(stores: Stores) -> None:
    await begin(stores, HOOK)
    told = []
    for _ in range(3):
        (lease,) = await stores.work.claim("one", lease_s=LONG_S, limit=1)
        await stores.work.release(lease)
        told += await taken(stores)
    await stores.jobs.change("batch_job_1", lambda _: Change(status=Status.CANCELLED, fence=True, ended=True))
    told += await taken(stores)
    assert [status for status, _, _ in told] == ["running", "cancelled"]


async def test_what_did_not_happen_is_not_told(stores: Stores) -> None:
    await begin(stores, HOOK)
    (lease,) = await stores.work.claim("one", lease_s=LONG_S, limit=1)
    await taken(stores)

    def broken() -> None:
        raise OSError("disk full")

    with pytest.raises(Exception, match=r"disk full|database"):
        await stores.work.finish(lease, broken)
    assert await stores.outbox.waiting() == 1
    assert await taken(stores) == []


async def test_the_letter_holds_the_job_as_it_was_then_and_outlives_it(stores: Stores) -> None:
    await begin(stores, HOOK)
    (lease,) = await stores.work.claim("one", lease_s=LONG_S, limit=1)
    plan = Plan("10:1", ("id", "a", "b"), key_is_integer=True, chunks=cut_rows(10, 4))
    await stores.work.set_plan(lease, plan)
    (chunk,), _ = await stores.work.lease_chunks("one", lease_s=LONG_S, limit=1, after={})
    await stores.work.complete_chunk(chunk, ChunkResult(chunk.chunk, Part("p", 1, 4), [], Spent(requests=3)))
    await stores.work.fail(lease, reason="INTERNAL", message="broken")
    failed = await stores.jobs.get("batch_job_1")
    await stores.jobs.change("batch_job_1", lambda _: Change(status=Status.CANCELLED, fence=True, ended=True))
    await stores.jobs.delete("batch_job_1", lambda _: None)
    letters = {letter.job.status: letter for letter in await stores.outbox.take(limit=10, hold_s=LONG_S)}
    assert letters[Status.FAILED].job == failed
    assert letters[Status.RUNNING].job.completed_at is None


async def one(stores: Stores) -> Letter:
    await begin(stores, Notice("webhook", "https://a.example/", ("running",)))
    await stores.work.claim("one", lease_s=LONG_S, limit=1)
    (letter,) = await stores.outbox.take(limit=10, hold_s=LONG_S)
    return letter


async def test_a_letter_is_one_process_own_for_a_while(stores: Stores) -> None:
    await begin(stores, Notice("webhook", "https://a.example/", ("running",)))
    await stores.work.claim("one", lease_s=LONG_S, limit=1)
    (first,) = await stores.outbox.take(limit=10, hold_s=0.1)
    assert await stores.outbox.take(limit=10, hold_s=LONG_S) == []
    again = await eventually(lambda: stores.outbox.take(limit=10, hold_s=LONG_S), what="it is due again")
    assert [(letter.notice_id, letter.tries) for letter in again] == [(first.notice_id, 2)]
    # Who was overtaken says nothing about when to try next; that it arrived holds whoever says so.
    await stores.outbox.postpone(first, after_s=0, why="slow")
    assert await stores.outbox.take(limit=10, hold_s=LONG_S) == []
    await stores.outbox.end(first, "sent")
    assert await stores.outbox.waiting() == 0


async def test_a_postponed_letter_comes_again_and_an_ended_one_never(stores: Stores) -> None:
    letter = await one(stores)
    await stores.outbox.postpone(letter, after_s=0.05, why="away")
    assert await stores.outbox.take(limit=10, hold_s=LONG_S) == []
    (again,) = await eventually(lambda: stores.outbox.take(limit=10, hold_s=0.01), what="it is due again")
    assert (again.notice_id, again.created_at, again.job, again.tries) == (
        letter.notice_id,
        letter.created_at,
        letter.job,
        2,
    )
    assert await stores.outbox.waiting() == 1
    await stores.outbox.end(again, "given_up", why="gone")
    await stores.outbox.end(again, "sent")
    await stores.outbox.postpone(again, after_s=0, why="")
    assert await stores.outbox.waiting() == 0
    assert await stores.outbox.take(limit=10, hold_s=LONG_S) == []


async def test_marks_are_kept_with_the_progress_and_bounded(stores: Stores) -> None:
    await begin(stores)
    (lease,) = await stores.work.claim("one", lease_s=LONG_S, limit=1)
    plan = Plan("100:1", ("id", "a", "b"), key_is_integer=True, chunks=cut_rows(100, 1))
    await stores.work.set_plan(lease, plan)
    chunks, _ = await stores.work.lease_chunks("one", lease_s=LONG_S, limit=90, after={})
    for chunk in chunks:
        job = await stores.work.complete_chunk(chunk, ChunkResult(chunk.chunk, Part("p", 1, 1), [], Spent()))
    assert [mark.rows for mark in job.pace] == list(range(91 - MARKS_MAX, 91))
    assert list(job.pace) == sorted(job.pace, key=lambda mark: mark.running_s)
    assert job.pace[-1].running_s == pytest.approx(job.running_s, abs=0.05)
    assert job.rows_per_s > 0
    renewed = await stores.work.renew(lease, lease_s=LONG_S)
    assert renewed.pace == job.pace
    await stores.work.reopen_chunk(lease, 3)
    assert [mark.rows for mark in (await stores.jobs.get("batch_job_1")).pace] == [89]
    await stores.work.fail(lease, reason="INTERNAL", message="broken")
    again = Change(status=Status.PENDING, fence=True, begin_again=True, forget_progress=True)
    assert (await stores.jobs.change("batch_job_1", lambda _: again)).pace == ()
    (lease,) = await stores.work.claim("one", lease_s=LONG_S, limit=1)
    await stores.work.set_plan(lease, plan)
    assert [mark.rows for mark in (await stores.jobs.get("batch_job_1")).pace] == [0]


async def test_a_job_says_what_became_of_its_letters(stores: Stores) -> None:
    await begin(stores, HOOK, CHANNEL)
    assert await stores.outbox.deliveries("batch_job_1", limit=10) == []
    (lease,) = await stores.work.claim("one", lease_s=LONG_S, limit=1)
    (first,) = await stores.outbox.take(limit=10, hold_s=LONG_S)
    await stores.outbox.end(first, "sent")
    await stores.work.fail(lease, reason="INTERNAL", message="broken")
    channel, hook = sorted(await stores.outbox.take(limit=10, hold_s=LONG_S), key=lambda letter: letter.means)
    await stores.outbox.postpone(channel, after_s=LONG_S, why="away")
    await stores.outbox.end(hook, "given_up", why="a.example answered 404")
    found = await stores.outbox.deliveries("batch_job_1", limit=10)
    assert {(one.means, one.address, one.status, one.outcome, one.tries, one.problem) for one in found} == {
        ("slack", "alerts", "failed", None, 1, "away"),
        ("webhook", HOOK.address, "failed", "given_up", 1, "a.example answered 404"),
        ("webhook", HOOK.address, "running", "sent", 1, ""),
    }
    assert [one.created_at for one in found] == sorted((one.created_at for one in found), reverse=True)
    assert found[-1].status == "running"
    for one in found:
        assert one.attempt == 1
        assert (one.ended_at is None) == (one.outcome is None)
        assert one.outcome is not None or one.due_at > one.created_at
    assert await stores.outbox.deliveries("batch_job_1", limit=2) == found[:2]
    assert await stores.outbox.deliveries("batch_job_2", limit=10) == []
