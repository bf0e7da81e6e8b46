"""What is learned of a batch's time never falls with its size, is near the truth, and follows when that changes."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.batcher.domain.latency_model import LatencyModel

batches = st.lists(st.tuples(st.integers(0, 5000), st.floats(0, 100)), max_size=200)


def taught(seen: list[tuple[int, float]], parent: LatencyModel | None = None) -> LatencyModel:
    model = LatencyModel(parent)
    for rows, seconds in seen:
        model.observe(rows, seconds)
    return model


@given(seen=batches, asked=st.lists(st.floats(0, 1e5), min_size=2))
def test_more_rows_never_take_less_time(seen: list[tuple[int, float]], asked: list[float]) -> None:
    model = taught(seen)
    expected = [model.expected_s(rows) for rows in sorted(asked)]
    assert expected == sorted(expected)
    assert all(0 <= usual_s <= model.p95_s(rows) for usual_s, rows in zip(expected, sorted(asked), strict=True))
    curve = model.curve()
    assert [point.rows for point in curve] == sorted({point.rows for point in curve})
    assert [point.expected_s for point in curve] == sorted(point.expected_s for point in curve)


@given(seen=batches, seconds=st.floats(0, 10), rows_max=st.integers(1, 4096))
def test_the_rows_that_fit_are_the_most_that_fit(seen: list[tuple[int, float]], seconds: float, rows_max: int) -> None:
    model = taught(seen)
    rows = model.rows_within(seconds, rows_max=rows_max)
    assert 1 <= rows <= rows_max
    if rows > 1:
        assert model.p95_s(rows) <= seconds
    if rows < rows_max:
        assert model.p95_s(rows + 1) > seconds


@given(seen=batches, times=st.floats(1, 10), rows_max=st.integers(1, 4096))
def test_brief_batches_are_the_largest_that_take_hardly_longer_than_the_smallest(
    seen: list[tuple[int, float]], times: float, rows_max: int
) -> None:
    model = taught(seen)
    rows = model.rows_brief(times, rows_max=rows_max)
    assert 1 <= rows <= rows_max
    curve = model.curve()
    longest_s = times * curve[0].expected_s if curve else 0.0
    assert model.expected_s(rows) <= longest_s or rows == 1
    assert rows == rows_max or model.expected_s(rows + 1) > longest_s


@given(rows=st.lists(st.integers(0, 2**40), max_size=300))
def test_memory_is_bounded_whatever_sizes_come(rows: list[int]) -> None:
    assert len(taught([(one, 0.001) for one in rows]).curve()) <= 2 * 42


def play(model: LatencyModel, seed: int, *, batches: int, fixed_s: float, row_s: float, outliers: float = 0.0) -> None:
    """Batches of 1 to 64 rows, their times scattered around a line, with pauses of twenty times now and then."""
    chance = random.Random(seed)
    for _ in range(batches):
        rows = min(64, 1 + int(chance.expovariate(1 / 12)))
        seconds = (fixed_s + row_s * rows) * chance.lognormvariate(0, 0.1)
        model.observe(rows, seconds * 20 if chance.random() < outliers else seconds)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("fixed_s", "row_s"), [(0.0004, 0.000005), (0.01, 0.0001), (0.0, 0.001)])
def test_a_line_is_learned_though_batches_scatter_and_pause(seed: int, fixed_s: float, row_s: float) -> None:
    model = LatencyModel()
    play(model, seed, batches=2000, fixed_s=fixed_s, row_s=row_s, outliers=0.02)
    for rows in (1, 4, 16, 48):
        assert model.expected_s(rows) == pytest.approx(fixed_s + row_s * rows, rel=0.2)
        assert model.p95_s(rows) == pytest.approx(1.2 * (fixed_s + row_s * rows), rel=0.4)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("times", [5.0, 0.2])
def test_a_machine_that_changes_is_followed_at_all_sizes(seed: int, times: float) -> None:
    model = LatencyModel()
    play(model, seed, batches=1000, fixed_s=0.001, row_s=0.00002)
    play(model, seed, batches=400, fixed_s=0.001 * times, row_s=0.00002 * times)
    for rows in (1, 16, 64):
        assert model.expected_s(rows) == pytest.approx(times * (0.001 + 0.00002 * rows), rel=0.4)


def test_one_pause_changes_next_to_nothing() -> None:
    model = LatencyModel()
    play(model, 1, batches=200, fixed_s=0.001, row_s=0.00001)
    before_s = model.expected_s(8)
    model.observe(8, 10.0)
    play(model, 2, batches=64, fixed_s=0.001, row_s=0.00001)
    assert model.expected_s(8) == pytest.approx(before_s, rel=0.1)


def test_nothing_is_known_before_the_first_batch_and_one_size_stays_flat() -> None:
    model = LatencyModel()
    assert (model.known, model.expected_s(5), model.p95_s(5), model.rows_within(0.0, rows_max=32)) == (False, 0, 0, 32)
    model.observe(4, 0.5)
    assert (model.known, model.expected_s(1), model.expected_s(400)) == (True, 0.5, 0.5)


def test_a_group_answers_as_its_version_does_until_it_knows_better() -> None:
    version = LatencyModel()
    for _ in range(50):
        version.observe(8, 0.010)
    group = LatencyModel(version)
    assert group.known
    assert group.expected_s(8) == pytest.approx(0.010)
    for _ in range(50):
        group.observe(8, 0.030)
    assert group.expected_s(8) == pytest.approx(0.030)
    assert version.seen == 100


def test_a_size_that_did_not_come_lately_is_left_out_where_it_is_to_be() -> None:
    for model, expected_s in ((LatencyModel(keeps=100), 0.014), (LatencyModel(), 0.012)):
        for _ in range(50):
            model.observe(16, 0.012)
        for _ in range(300):
            model.observe(32, 0.014)
        assert model.expected_s(16) == pytest.approx(expected_s)


def test_rows_are_enough_where_more_gain_next_to_nothing() -> None:
    linear, fixed, unknown = LatencyModel(), LatencyModel(), LatencyModel()
    for rows in (1, 2, 4, 8, 16, 32, 64):
        for _ in range(50):
            linear.observe(rows, 0.0001 + 0.001 * rows)
            fixed.observe(rows, 0.01 + 0.0001 * rows)
    assert linear.rows_enough(0.98, rows_max=64) == pytest.approx(5, abs=1), "r / (0.1 + r) is 0.98 of 64 / 64.1 there"
    assert fixed.rows_enough(0.98, rows_max=64) >= 60
    assert unknown.rows_enough(0.98, rows_max=64) == 64
