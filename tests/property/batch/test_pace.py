"""The pace and the estimate of simulated jobs: steps of several workers, of uneven length, with pauses between."""

import heapq
import math
from collections.abc import Callable, Iterator
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.batch.domain.pace import MARKS_MAX, Mark, left_s, rows_per_s

SURE = 0.2


def run(
    steps: int, rows: int, workers: int, length_s: Callable[[float], float], *, planned_s: float = 0.0
) -> list[Mark]:
    """All marks of a job: `workers` at once take a step of `rows` rows each, which lasts `length_s` of the moment."""
    marks = [Mark(planned_s, 0)]
    ends = [planned_s + length_s(planned_s) * (worker + 1) / workers for worker in range(min(workers, steps))]
    heapq.heapify(ends)
    begun = len(ends)
    for done in range(1, steps + 1):
        now_s = heapq.heappop(ends)
        marks.append(Mark(now_s, done * rows))
        if begun < steps:
            heapq.heappush(ends, now_s + length_s(now_s))
            begun += 1
    return marks


def uneven(rng: Random, spread: float) -> Callable[[float], float]:
    """About a second, more or less by `spread`."""
    return lambda _: 1 + spread * (2 * rng.random() - 1)


def seen(marks: list[Mark]) -> Iterator[tuple[Mark, list[Mark]]]:
    """Each mark after the first tenth, with the marks that are kept by then. The end's own steps are no estimate."""
    total = marks[-1].rows
    for place, mark in enumerate(marks):
        if total / 10 <= mark.rows < total:
            yield mark, marks[max(0, place + 1 - MARKS_MAX) : place + 1]


def wrong_by(marks: list[Mark], now: Mark, kept: list[Mark]) -> float:
    """How far the estimated end is from the true one, as a share of what is left, a wave of steps allowed."""
    total, end_s = marks[-1].rows, marks[-1].running_s
    left = left_s(kept, total_rows=total, running_s=now.running_s)
    assert left is not None
    return (now.running_s + left - end_s) / (end_s - now.running_s)


@given(
    steps=st.integers(60, 400),
    rows=st.integers(1, 20_000),
    workers=st.integers(1, 6),
    length_s=st.floats(0.01, 30),
    planned_s=st.floats(0, 600),
    spread=st.floats(0, 0.3),
    seed=st.integers(0, 2**32),
)
def test_a_steady_job_is_known_to_a_fifth_after_its_first_tenth(
    *, steps: int, rows: int, workers: int, length_s: float, planned_s: float, spread: float, seed: int
) -> None:
    rng = Random(seed)
    marks = run(steps, rows, workers, lambda _: length_s * (1 + spread * (2 * rng.random() - 1)), planned_s=planned_s)
    total = marks[-1].rows
    true = total / (marks[-1].running_s - planned_s)
    for now, kept in seen(marks):
        # Steps end in waves of `workers`; which part of one is seen is chance.
        wave = workers / 16
        if total - now.rows >= 2 * workers * rows:
            assert abs(wrong_by(marks, now, kept)) <= SURE + wave / 2 + workers * rows / (total - now.rows)
        assert rows_per_s(kept, total_rows=total, running_s=now.running_s) == pytest.approx(true, rel=SURE + wave / 2)


def test_nearly_every_look_at_a_steady_job_is_right_within_a_fifth() -> None:
    rng = Random(2026)
    wrong: list[bool] = []
    for _ in range(200):
        steps, workers, spread = rng.choice((60, 100, 300)), rng.randint(1, 6), rng.uniform(0, 0.3)
        length_s = uneven(Random(rng.random()), spread)
        marks = run(steps, 100, workers, length_s, planned_s=rng.uniform(0, 60))
        looks = [look for look in seen(marks) if marks[-1].rows - look[0].rows >= 2 * workers * 100]
        wrong += [abs(wrong_by(marks, now, kept)) > SURE for now, kept in looks]
    assert len(wrong) > 10_000
    assert sum(wrong) / len(wrong) < 0.01


@given(
    steps=st.integers(120, 400),
    workers=st.integers(1, 6),
    factor=st.sampled_from([0.1, 0.25, 0.5, 2.0, 4.0, 10.0]),
    turn=st.floats(0.1, 0.7),
)
def test_a_change_of_pace_is_believed_once_a_tenth_was_done_at_it(
    steps: int, workers: int, factor: float, turn: float
) -> None:
    turn_s = steps / workers * turn
    marks = run(steps, 100, workers, lambda now_s: 1.0 if now_s < turn_s else factor)
    total = marks[-1].rows
    # By then every step that began before the turn has ended.
    changed = next((mark.rows for mark in marks if mark.running_s >= turn_s + 1.0), total)
    for now, kept in seen(marks):
        if now.rows - changed >= max(total / 10, 1600) + 2 * workers * 100 and total - now.rows >= 2 * workers * 100:
            wave = workers / 16
            assert abs(wrong_by(marks, now, kept)) <= SURE + wave + workers * 100 / (total - now.rows)


@given(silent_s=st.floats(0, 1e6))
def test_a_step_that_does_not_end_slows_the_estimate_and_never_ends_it(silent_s: float) -> None:
    marks = [Mark(float(second), 10 * second) for second in range(21)]
    left = left_s(marks, total_rows=1000, running_s=20 + silent_s)
    assert left is not None
    assert rows_per_s(marks, total_rows=1000, running_s=20 + silent_s) <= 10
    # What is left takes at least as long as at full pace, less what may be in hand.
    assert left >= 79 - silent_s
    if silent_s > 50:
        assert left > 80


@given(st.lists(st.tuples(st.floats(0, 1e6), st.integers(0, 10**9)), max_size=MARKS_MAX), st.floats(0, 1e6))
def test_whatever_was_marked_the_answer_is_a_number(pairs: list[tuple[float, int]], running_s: float) -> None:
    marks = [Mark(*pair) for pair in zip(*(sorted(side) for side in zip(*pairs, strict=True)), strict=True)]
    pace = rows_per_s(marks, total_rows=10**9, running_s=running_s)
    left = left_s(marks, total_rows=10**9, running_s=running_s)
    assert math.isfinite(pace)
    assert pace >= 0
    assert left is None or left >= 0


def test_nothing_is_told_from_nothing() -> None:
    assert left_s((), total_rows=10, running_s=5) is None
    assert left_s((Mark(1, 0),), total_rows=10, running_s=5) is None
