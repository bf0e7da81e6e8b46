"""Times that are counted many at once are counted as each by itself would be."""

import itertools
from bisect import bisect_left

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.batcher.domain.batch_run import BatchRun
from services.batcher.telemetry.buckets import LATENCY_BOUNDS_S
from services.batcher.telemetry.timings import Timings
from services.batcher.telemetry.version_stats import VersionStats

VERSIONS = 3
SPENT_S = st.sampled_from((0.0, 5e-5, 1e-3, 0.02, 7.0, 20.0))
"""Of one stage; bounds of buckets among them."""


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(st.integers(0, VERSIONS - 1), st.tuples(SPENT_S, SPENT_S, SPENT_S, SPENT_S)), max_size=60),
    st.integers(1, 25),
)
def test_what_is_counted_at_once_is_what_counting_each_gives(
    some: list[tuple[int, tuple[float, float, float, float]]], times: int
) -> None:
    timings, every = Timings(), [VersionStats("m", f"v{number}.0.0") for number in range(VERSIONS)]
    expected = {(number, stage): [0] * (len(LATENCY_BOUNDS_S) + 1) for number in range(VERSIONS) for stage in range(5)}
    noted = some * times
    for number, spent in noted:
        moments = [0.0, *itertools.accumulate(spent)]
        run = BatchRun(moments[2], moments[3], 0.0, 1, 1, "triton-0")
        timings.note(every[number], moments[0], moments[1], run, moments[4])
        for stage, seconds in enumerate((moments[4], *np.diff(moments))):
            expected[number, stage][bisect_left(LATENCY_BOUNDS_S, seconds)] += 1
    timings.settle()
    for number, stats in enumerate(every):
        counts = [stats.latency, *(counts for _, counts, _ in stats.stages())]
        assert counts == [expected[number, stage] for stage in range(5)]
        own = [spent for which, spent in noted if which == number]
        assert stats.latency_s == pytest.approx(sum(map(sum, own)))
        assert sum(seconds for *_, seconds in stats.stages()) == pytest.approx(stats.latency_s)
