"""The as-of join equals its definition, and never looks into the future."""

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from services.batch.domain.point_in_time import MOMENT_MAX_US, NOWHERE, Timeline

names = st.one_of(st.none(), st.sampled_from(["a", "b", "c"]))
# A few moments only, so that ties and misses are common; and the far ends of what 64 bits hold.
moments = st.one_of(st.integers(-5, 5), st.integers(-MOMENT_MAX_US, MOMENT_MAX_US))
rows = st.lists(st.tuples(names, moments), max_size=30)
ages = st.one_of(st.none(), st.integers(0, 6), st.integers(0, 2**61))


def reference(history: list[tuple[str | None, int]], name: str | None, moment: int, age_max: int | None) -> int:
    """The definition, row by row."""
    best = NOWHERE
    for place, (entity, at) in enumerate(history):
        if entity is None or entity != name or at > moment:
            continue
        if best == NOWHERE or at >= history[best][1]:
            best = place
    if best != NOWHERE and age_max is not None and moment - history[best][1] > age_max:
        return NOWHERE
    return best


def joined(
    history: list[tuple[str | None, int]], asked: list[tuple[str | None, int]], age_max: int | None = None
) -> list[int]:
    timeline = Timeline([name for name, _ in history], np.array([at for _, at in history], dtype=np.int64))
    found = timeline.places(
        [name for name, _ in asked], np.array([at for _, at in asked], dtype=np.int64), age_max_us=age_max
    )
    return [int(place) for place in found]


@given(rows, rows, ages)
@example([("a", 1), ("a", 1)], [("a", 1)], None)
@example([(None, 1)], [(None, 1), ("z", 1)], None)
@example([], [("a", 1)], None)
def test_it_is_what_looking_at_every_row_finds(
    history: list[tuple[str | None, int]], asked: list[tuple[str | None, int]], age_max: int | None
) -> None:
    assert joined(history, asked, age_max) == [reference(history, name, at, age_max) for name, at in asked]


@given(rows, rows, ages)
def test_it_is_never_from_the_future_never_of_another_and_never_too_old(
    history: list[tuple[str | None, int]], asked: list[tuple[str | None, int]], age_max: int | None
) -> None:
    for (name, moment), place in zip(asked, joined(history, asked, age_max), strict=True):
        if place != NOWHERE:
            entity, at = history[place]
            assert entity == name
            assert at <= moment
            assert age_max is None or moment - at <= age_max


@given(rows, rows, st.lists(st.tuples(names, st.integers(6, 9)), max_size=10))
def test_what_happens_later_changes_nothing(
    history: list[tuple[str | None, int]],
    asked: list[tuple[str | None, int]],
    later: list[tuple[str | None, int]],
) -> None:
    known = [(name, at) for name, at in history if at <= 5]
    now = [(name, min(at, 5)) for name, at in asked]
    assert joined(known + later, now) == joined(known, now)
