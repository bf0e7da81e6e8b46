"""Percentiles of requests that many batchers answered over hours are those of all the requests together.

The requests go the way they go in a mesh: in chunks of batchers, into cells by minute, through their stored form, up to
hours, and out of as few cells as a window needs; beside it numpy sees them all at once.
"""

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from services.monitor.domain.aggregate import MINUTE_US, Cell, Cells
from services.monitor.domain.figures import figures
from services.monitor.domain.rollup import HOUR, rolled_up, sources
from services.monitor.domain.sketch import GROWTH, LATENCY_MAX_US, LatencySketch
from services.monitor.domain.window import Step
from tests.support.monitor_log import group_of

NOW = 29_000_000 // HOUR * HOUR
HOURS = 5
ERROR = (GROWTH - 1) / 2
"""What the sketch states."""
Numbers = npt.NDArray[np.int64]


def latencies(shape: str, size: int, random: np.random.Generator) -> Numbers:
    """Latencies in microseconds of one sort of service."""
    if shape == "lognormal":
        drawn = random.lognormal(9, 1, size)
    elif shape == "pareto":
        drawn = 500 * (1 + random.pareto(0.8, size))
    elif shape == "two modes":
        drawn = np.where(random.random(size) < 0.9, random.normal(3_000, 300, size), random.normal(90_000, 9_000, size))
    elif shape == "constant":
        drawn = np.full(size, float(random.integers(1, 100_000)))
    elif shape == "uniform":
        drawn = random.uniform(1, LATENCY_MAX_US, size)
    else:
        drawn = random.choice([1.0, 2.0, 50_000.0, 50_001.0, float(LATENCY_MAX_US)], size)
    return np.clip(np.rint(drawn), 1, LATENCY_MAX_US).astype(np.int64)


def stored(cell: Cell) -> Cell:
    """A cell as it comes out of its stored form again."""
    sketch = cell.latency
    return Cell(
        cell.counts,
        LatencySketch.decode(
            sketch.encode_buckets(),
            count=sketch.count,
            sum_us=sketch.sum_us,
            sum_squares_us2=sketch.sum_squares_us2,
        ),
    )


def counted(values: Numbers, minutes: Numbers, batchers: Numbers, random: np.random.Generator) -> Cells:
    """The cells by minute, after each batcher sent what it answered in chunks and each chunk was merged and stored."""
    whole = Cells()
    for batcher in np.unique(batchers):
        mine = np.flatnonzero(batchers == batcher)
        random.shuffle(mine)
        for chunk in np.array_split(mine, min(len(mine), 4)):
            part = Cells()
            times_us = (minutes[chunk] * MINUTE_US).tolist()
            part.add_group(group_of(values[chunk].tolist(), times_us=times_us), now_us=NOW * MINUTE_US, reason_name=str)
            whole.merge(part)
            for key in part:
                whole[key] = stored(whole[key])
    return whole


def read(minutes: Cells, hours: Cells, first: int, end: int, *, until: int) -> Cell:
    """What a window adds up to, out of hours where they are rolled up."""
    total = Cell()
    for source in sources(first, end, step_minutes=0, until=until):
        cells = hours if source.granularity is Step.HOUR else minutes
        for key, cell in cells.items():
            if source.first <= key.minute < source.end:
                total.merge(cell)
    return total


@given(
    shape=st.sampled_from(["lognormal", "pareto", "two modes", "constant", "uniform", "few values"]),
    size=st.one_of(st.integers(1, 40), st.integers(1, 1_000)),
    batchers=st.integers(1, 5),
    seed=st.integers(0, 2**32 - 1),
    edges=st.tuples(st.integers(0, HOURS * HOUR - 1), st.integers(1, HOURS * HOUR)),
    rolled_hours=st.integers(0, HOURS),
)
@settings(max_examples=60, deadline=None)
def test_percentiles_over_batchers_minutes_and_hours_are_those_of_all_requests(
    *, shape: str, size: int, batchers: int, seed: int, edges: tuple[int, int], rolled_hours: int
) -> None:
    random = np.random.default_rng(seed)
    values = latencies(shape, size, random)
    begin = NOW - HOURS * HOUR
    at = random.integers(begin, NOW, size)
    minutes = counted(values, at, random.integers(0, batchers, size), random)
    until = begin + rolled_hours * HOUR
    hours = Cells({key: stored(cell) for key, cell in rolled_up(minutes, until=until).items()})

    first, end = begin + min(edges), begin + max(edges[0] + 1, edges[1])
    within = values[(at >= first) & (at < end)]
    found = figures(read(minutes, hours, first, end, until=until), seconds=60.0)
    assert found.request_count == len(within)
    if not len(within):
        assert found.latency_p99_ms == 0
        return
    for share, got_ms in ((50, found.latency_p50_ms), (95, found.latency_p95_ms), (99, found.latency_p99_ms)):
        exact_us = float(np.percentile(within, share, method="inverted_cdf"))
        assert abs(got_ms * 1000 - exact_us) <= ERROR * exact_us, (share, got_ms * 1000, exact_us)
    assert abs(found.latency_avg_ms * 1000 - float(within.mean())) <= 1e-6 * float(within.mean())


@given(count=st.integers(1, 10**7), share=st.sampled_from([50, 95, 99]))
def test_a_rank_is_not_moved_by_how_shares_are_rounded(count: int, share: int) -> None:
    # All below the rank in one bucket, all from it on in another: one off shows at once.
    rank = max(1, -(-share * count // 100))
    sketch = LatencySketch()
    below, above = rank - 1, count - rank + 1
    cell = Cell(latency=sketch)
    for value, times in ((1_000, below), (1_000_000, above)):
        one = LatencySketch()
        one.add(np.array([value], dtype=np.int64))
        buckets = np.array(list(one.buckets()), dtype=np.int64)
        if times:
            sketch.merge(
                LatencySketch.decode(
                    bytes((1, 4)) + buckets.astype("<u2").tobytes() + np.array([times], dtype="<u4").tobytes(),
                    count=times,
                    sum_us=value * times,
                    sum_squares_us2=value * value * times,
                )
            )
    found = figures(cell, seconds=1.0)
    got_ms = {50: found.latency_p50_ms, 95: found.latency_p95_ms, 99: found.latency_p99_ms}[share]
    assert abs(got_ms - 1_000) <= ERROR * 1_000
