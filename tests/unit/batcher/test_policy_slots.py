"""How many batches a backend runs at a time is seen from when they come back."""

import pytest

from services.batcher.domain.slots import Slots


def seen(*, fixed_s: float, row_s: float, instances: int, rate: float = 100.0) -> Slots:
    """After batches alone and batches two at a time, of 1 to 64 rows."""
    slots = Slots()
    slots.rows_max = 64
    now_s = 1.0
    for number in range(400):
        rows = 2 ** (number % 7)
        takes_s = fixed_s + row_s * rows
        before_s, sent_s = now_s, now_s + 0.001
        now_s = sent_s + takes_s
        slots.rows_sent = int(rate * now_s)
        slots.observe(rows=rows, sent_s=sent_s, before_s=before_s, now_s=now_s)
        # One more was sent along with it: it comes back after its own time, or half of that where two are run.
        before_s, now_s = now_s, now_s + takes_s / instances
        slots.rows_sent = int(rate * now_s)
        slots.observe(rows=rows, sent_s=sent_s, before_s=before_s, now_s=now_s)
    return slots


@pytest.mark.parametrize("instances", [1, 2])
def test_batches_at_a_time_are_seen(instances: int) -> None:
    assert seen(fixed_s=0.01, row_s=0.0001, instances=instances).count == pytest.approx(instances, rel=0.05)


def test_one_at_a_time_is_right_only_where_one_is_run_and_joining_saves() -> None:
    assert seen(fixed_s=0.01, row_s=0.0001, instances=1).single(16)
    assert not seen(fixed_s=0.01, row_s=0.0001, instances=2).single(16)
    assert not seen(fixed_s=0.0, row_s=0.001, instances=1).single(16)


def test_nothing_is_concluded_from_nothing() -> None:
    slots = Slots()
    assert not slots.single(16)
    assert slots.carries(1)
    assert not slots.suffices(1, 2)
    assert slots.spacing_s(16) == 0.0


def test_what_does_not_carry_the_load_is_ruled_out() -> None:
    light = seen(fixed_s=0.01, row_s=0.0001, instances=2, rate=1000)
    heavy = seen(fixed_s=0.01, row_s=0.0001, instances=2, rate=6000)
    assert light.carries(1)
    assert not heavy.carries(1), "64 rows in 16.4 ms are 3,900 a second"
    assert heavy.carries(2)
    assert light.suffices(64, 2)
    assert not light.suffices(4, 2), "4 rows in 10.4 ms on each of two are 770 a second"


def test_batches_are_spaced_only_where_several_are_run_and_joining_saves() -> None:
    assert seen(fixed_s=0.01, row_s=0.0001, instances=2).spacing_s(16) == pytest.approx(0.9 * 0.0116 / 2, rel=0.1)
    assert seen(fixed_s=0.01, row_s=0.0001, instances=1).spacing_s(16) == 0.0
    assert seen(fixed_s=0.0, row_s=0.001, instances=2).spacing_s(16) == 0.0


def test_what_was_concluded_is_found_out_anew() -> None:
    slots = seen(fixed_s=0.01, row_s=0.0001, instances=1)
    assert slots.single(16)
    slots.forget()
    assert not slots.single(16)
