"""Notifications under whatever receivers, stores and processes may do, in virtual time.

What was told of happened; what happened is told, once where nobody dies, within a day or never; each wait is bounded.
"""

import asyncio
import random
from collections.abc import Coroutine
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.batch.couriers import about
from services.batch.domain.job import Notice, Status
from services.batch.ports import Change, NewJob, StoreAwayError
from services.batch.ports_outbox import Letter
from services.common.delivery.letters import UndeliveredError
from services.common.delivery.notifier import Notifier
from services.common.delivery.pace import BUDGET_S, again_after_s
from tests.support.batch_fakes import CountingBoard, MemoryBatchStore, spec_of
from tests.support.batch_outbox import MemoryCourier
from tests.support.clock import FakeClock

T = TypeVar("T")
HOOK = "https://a.example/"
HOUR_S = 3600.0
WAYS = (Status.RUNNING, Status.COMPLETED, Status.FAILED, Status.CANCELLED)


class OutboxMachine(RuleBasedStateMachine):
    """Jobs that change their status, and a notifier that now and then looks."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.store = MemoryBatchStore(self.clock)
        self.courier = MemoryCourier(self.clock)
        self.board = CountingBoard()
        self.happened: list[tuple[str, int, str]] = []
        self.made = 0
        self.deaths = 0

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run(work)

    def notifier(self) -> Notifier[Letter]:
        return Notifier(
            outbox=self.store.outbox,
            couriers={"webhook": self.courier},
            about=about,
            board=self.board,
            clock=self.clock,
            rng=random.Random(1),
            period_s=1.0,
        )

    @rule(ways=st.lists(st.sampled_from(WAYS), min_size=1, max_size=4))
    def a_job_goes_its_way(self, ways: list[Status]) -> None:
        self.made += 1
        job_id = f"job-{self.made}"
        notice = Notice("webhook", HOOK, tuple(way.value for way in WAYS))
        spec = spec_of("/in.csv", f"/{job_id}.csv", notices=(notice,))
        self.wait(self.store.create(NewJob(job_id, spec, "", "")))
        for way in dict.fromkeys(ways):
            self.wait(self.store.change(job_id, lambda _, way=way: Change(status=way)))  # type: ignore[misc]
            self.happened.append((job_id, 1, way))

    @rule(passing=st.booleans(), asked_s=st.sampled_from([0.0, 30.0, 7200.0]))
    def the_receiver_will_be_in_trouble(self, *, passing: bool, asked_s: float) -> None:
        self.courier.trouble.append(UndeliveredError("trouble", passing=passing, asked_s=asked_s))

    @rule(seconds=st.floats(0.1, 3 * HOUR_S))
    def time_passes_and_it_looks(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.wait(self.notifier().deliver_due())

    @rule()
    def the_store_goes_away_in_the_middle(self) -> None:
        self.store.outbox.away = True
        try:
            self.wait(self.notifier().deliver_due())
        except StoreAwayError:
            pass
        finally:
            self.store.outbox.away = False

    @rule()
    def a_process_dies_between_sending_and_saying_so(self) -> None:
        for letter in self.wait(self.store.outbox.take(limit=1, hold_s=60)):
            self.deaths += 1
            self.courier.arrived.append((self.clock.now(), letter))

    @invariant()
    def only_what_happened_is_told_and_repeats_bear_the_same_id(self) -> None:
        ids: dict[tuple[str, int, str], set[str]] = {}
        for _, letter in self.courier.arrived:
            key = (letter.job.job_id, letter.job.attempt, letter.job.status)
            assert key in self.happened
            ids.setdefault(key, set()).add(letter.notice_id)
        assert all(len(found) == 1 for found in ids.values())
        assert len(self.courier.arrived) <= len(ids) + self.deaths

    def teardown(self) -> None:
        # With a receiver that is well again everything ends within the budget.
        self.courier.trouble = []
        for _ in range(300):
            self.time_passes_and_it_looks(600.0)
        outcomes = {item.letter.notice_id: item.outcome for item in self.store.outbox.letters}
        assert set(outcomes.values()) <= {"sent", "given_up"}
        assert len(outcomes) == len(self.happened)
        arrived = {letter.notice_id for _, letter in self.courier.arrived}
        assert {notice for notice, outcome in outcomes.items() if outcome == "sent"} <= arrived
        assert self.board.letters == 0


TestOutbox = OutboxMachine.TestCase
TestOutbox.settings = settings(max_examples=40, stateful_step_count=15, deadline=None)


@given(st.integers(1, 200), st.floats(0, 2 * BUDGET_S), st.floats(0, 1e9), st.floats(0, 1))
def test_waits_are_bounded_and_none_goes_beyond_the_day(
    tries: int, age_s: float, asked_s: float, chance: float
) -> None:
    after_s = again_after_s(tries, age_s, asked_s, chance)
    if after_s is None:
        assert age_s + max(900.0, asked_s) > BUDGET_S
    else:
        assert max(2.5, asked_s) <= after_s <= max(900.0, asked_s)
        assert age_s + after_s <= BUDGET_S


def test_a_receiver_that_never_answers_is_given_up_after_a_day_and_not_asked_too_often() -> None:
    clock = FakeClock()
    machine = OutboxMachine()
    machine.clock = clock
    machine.store, machine.courier = MemoryBatchStore(clock), MemoryCourier(clock)
    machine.a_job_goes_its_way([Status.COMPLETED])
    for _ in range(2 * 86_400 // 60):
        machine.courier.trouble = [UndeliveredError("away", passing=True)]
        machine.time_passes_and_it_looks(60.0)
    (item,) = machine.store.outbox.letters
    assert (item.outcome, item.problem) == ("given_up", "away")
    assert 90 < item.letter.tries < 250
    assert machine.courier.tried[-1] - item.letter.created_at <= timedelta(days=1, minutes=1)
    assert machine.board.tellings[-1] == ("webhook", "given_up")


def test_what_will_not_pass_is_given_up_at_once_and_what_passes_is_not() -> None:
    for passing, outcome, tellings in ((False, "given_up", ["given_up"]), (True, "sent", ["postponed", "sent"])):
        machine = OutboxMachine()
        machine.a_job_goes_its_way([Status.FAILED])
        machine.the_receiver_will_be_in_trouble(passing=passing, asked_s=30.0)
        for _ in range(3):
            machine.time_passes_and_it_looks(29.0)
        (item,) = machine.store.outbox.letters
        assert (item.outcome, item.problem) == (outcome, "" if passing else "trouble")
        assert [word for _, word in machine.board.tellings] == tellings
        # No sooner than the receiver asked for.
        assert [(moment - item.letter.created_at).total_seconds() for moment in machine.courier.tried] == (
            [29.0, 87.0] if passing else [29.0]
        )


def test_a_means_that_is_taken_away_is_waited_for() -> None:
    machine = OutboxMachine()
    machine.a_job_goes_its_way([Status.FAILED])
    (item,) = machine.store.outbox.letters
    item.letter = replace(item.letter, means="slack")
    machine.time_passes_and_it_looks(1.0)
    assert (item.outcome, item.problem) == ("", "slack is not set up here any more")
