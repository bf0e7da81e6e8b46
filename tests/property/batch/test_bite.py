"""How many rows are explained in one request."""

from hypothesis import given
from hypothesis import strategies as st

from services.batch.domain.bite import Bite


@given(most=st.integers(1, 32), fitting=st.integers(1, 40), requests=st.integers(1, 60))
def test_it_stays_within_its_bounds_and_comes_to_what_fits(most: int, fitting: int, requests: int) -> None:
    bite, wasted = Bite(most), 0
    for _ in range(requests):
        size = bite.size
        assert 1 <= size <= most
        if size <= fitting:
            bite.answered(size)
        else:
            wasted += 1
            bite.late(size)
    # Once it knows what is too much it comes there by ones from half of it, and loses a request each time.
    assert wasted <= 3 + requests / max(2, fitting // 2)
    if requests >= 20 and fitting >= most:
        assert (bite.size, wasted) == (most, 0)


@given(most=st.integers(2, 32), together=st.integers(1, 10))
def test_requests_that_are_late_together_halve_it_once(most: int, together: int) -> None:
    bite = Bite(most)
    for _ in range(6):
        bite.answered(bite.size)
    for _ in range(together):
        bite.late(most)
    assert bite.size == most // 2


def test_a_small_rest_says_nothing_of_larger_requests() -> None:
    bite = Bite(32)
    bite.answered(1)
    assert bite.size == 4
    bite.answered(4)
    assert bite.size == 8
    bite.resize(5)
    assert bite.size == 5
