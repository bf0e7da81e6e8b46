"""Each test of drift gives what scipy.stats gives."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import jensenshannon

from services.monitor.domain.drift.statistics import (
    above_p,
    at_most_p,
    chi_squared_of,
    corrected,
    jensen_shannon,
    kolmogorov_p,
    ranks_of,
)

counts = st.lists(st.integers(1, 10_000), min_size=2, max_size=8)


@given(scaled=st.floats(0, 10))
def test_kolmogorov(scaled: float) -> None:
    assert kolmogorov_p(scaled) == pytest.approx(stats.kstwobign.sf(scaled), rel=1e-6, abs=1e-12)


@given(first=counts, data=st.data())
def test_chi_squared_and_jensen_shannon(first: list[int], data: st.DataObject) -> None:
    second = data.draw(st.lists(st.integers(1, 10_000), min_size=len(first), max_size=len(first)))
    table = np.array([first, second], dtype=np.float64)
    known = stats.chi2_contingency(table, correction=False)
    assert chi_squared_of(table) == pytest.approx((known.statistic, known.pvalue), rel=1e-6, abs=1e-9)
    assert jensen_shannon(table[0], table[1]) == pytest.approx(
        np.nan_to_num(jensenshannon(table[0], table[1], base=2.0)), abs=1e-6
    )


def test_distributions_that_have_nothing_in_common_are_as_far_apart_as_can_be() -> None:
    assert jensen_shannon(np.array([3.0, 0.0]), np.array([0.0, 5.0])) == 1.0


@given(count=st.integers(1, 2000), share=st.floats(0, 1), data=st.data())
def test_at_most(count: int, share: float, data: st.DataObject) -> None:
    right = data.draw(st.integers(0, count))
    known = stats.binomtest(right, count, share, alternative="less").pvalue
    assert at_most_p(right, count, share) == pytest.approx(known, rel=1e-6, abs=1e-12)


@given(deviations=st.floats(-8, 8))
def test_above(deviations: float) -> None:
    assert above_p(deviations) == pytest.approx(stats.norm.sf(deviations), rel=1e-9)


@given(values=st.lists(st.integers(-5, 5), min_size=1, max_size=50))
def test_ranks(values: list[int]) -> None:
    given_values = np.array(values, dtype=np.float64)
    assert ranks_of(given_values).tolist() == stats.rankdata(given_values).tolist()


@given(p_values=st.lists(st.floats(0, 1), min_size=1, max_size=50))
def test_corrected(p_values: list[float]) -> None:
    assert corrected(p_values) == pytest.approx(stats.false_discovery_control(p_values, method="bh"), abs=1e-12)
