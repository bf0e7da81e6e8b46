"""Intervals drawn in a line of text: as wide as asked, in the order of their values, whatever the values are."""

import math

from hypothesis import assume, given
from hypothesis import strategies as st
from infermesh.client.cli.intervals import LIMIT, axis, drawn, ticks

finite = st.floats(-1e9, 1e9)
widths = st.integers(10, 80)
anything = st.floats(allow_nan=True, allow_infinity=True)


@given(st.lists(finite, max_size=6), widths)
def test_an_axis_shows_what_it_was_made_for(values: list[float], width: int) -> None:
    made = axis(values, width=width)
    assert made.low < made.high
    assert all(made.shows(value) for value in values)
    assert all(0 <= made.place(value) < width for value in values)


@given(st.lists(finite, min_size=2, max_size=2), finite, widths)
def test_places_keep_the_order_of_values(pair: list[float], other: float, width: int) -> None:
    low, high = sorted(pair)
    made = axis([low, high, other], width=width)
    assert made.place(low) <= made.place(high)


@given(st.tuples(anything, anything, anything), anything, st.lists(finite, min_size=1, max_size=3), widths)
def test_a_line_is_as_wide_as_its_axis_whatever_it_shows(
    interval: tuple[float, float, float], mark: float, shown: list[float], width: int
) -> None:
    low, value, high = interval
    made = axis(shown, width=width)
    line = drawn(made, low=low, value=value, high=high, marks={mark: LIMIT})
    assert len(line) == width
    assert ("●" in line) == (not math.isnan(value) and made.shows(value))


@given(finite, finite, finite, finite, st.integers(20, 80))
def test_ends_value_and_limit_stand_where_their_values_do(
    first: float, second: float, third: float, limit: float, width: int
) -> None:
    low, value, high = sorted((first, second, third))
    made = axis((low, value, high, limit), width=width)
    places = [made.place(item) for item in (low, value, high, limit)]
    assume(len(set(places)) == 4)
    line = drawn(made, low=low, value=value, high=high, marks={limit: LIMIT})
    assert [line[place] for place in places] == ["├", "●", "┤", LIMIT]
    assert set(line[: min(places[0], places[3])]) <= {" "}


@given(st.dictionaries(finite, st.text("0123456789.%", min_size=1, max_size=8), min_size=1, max_size=6), widths)
def test_labels_never_touch_and_the_first_is_always_there(labels: dict[float, str], width: int) -> None:
    line = ticks(axis(labels, width=width), labels)
    assert len(line) <= width
    words = line.split()
    assert all(word in labels.values() for word in words)
    assert next(iter(labels.values())) in words
