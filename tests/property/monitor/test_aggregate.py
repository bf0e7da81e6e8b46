"""However requests are split, ordered and merged, the aggregate is the same; percentiles are within what is stated."""

import math
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from services.monitor.domain.aggregate import MINUTE_US, Cells
from services.monitor.domain.measures import REQUESTS
from services.monitor.domain.records import Group
from services.monitor.domain.sketch import LATENCY_MAX_US, LatencySketch
from tests.support.monitor_log import group_of

NOW_US = 29_000_000 * MINUTE_US

# Latency, minutes ago, code, kind, rows.
record = st.tuples(
    st.one_of(st.integers(0, 200_000), st.integers(0, LATENCY_MAX_US)),
    st.integers(-1, 3),
    st.sampled_from([0, 0, 0, 3, 8, 13]),
    st.sampled_from([0, 0, 0, 1, 2, 3, 4]),
    st.integers(1, 100),
)
Record = tuple[int, int, int, int, int]


def group(records: list[Record], version: str) -> Group:
    latencies, ages, codes, kinds, rows = (list(column) for column in zip(*records, strict=True))
    return group_of(
        latencies,
        times_us=[NOW_US - age * MINUTE_US for age in ages],
        version=version,
        codes=codes,
        reasons=[400 + code for code in codes],
        kinds=kinds,
        rows=rows,
    )


def cells_of(records: list[Record], version: str = "v1.0.0") -> Cells:
    cells = Cells()
    if records:
        cells.add_group(group(records, version), now_us=NOW_US, reason_name=str)
    return cells


@given(records=st.lists(record, min_size=1, max_size=60), seed=st.integers(0, 2**32), parts=st.integers(1, 8))
@settings(max_examples=150, deadline=None)
def test_any_split_and_order_gives_the_same_cells(records: list[Record], seed: int, parts: int) -> None:
    whole = cells_of(records)
    chance = random.Random(seed)
    shuffled = chance.sample(records, len(records))
    shards = [cells_of(shuffled[place::parts]) for place in range(parts)]
    chance.shuffle(shards)
    # Merged as a tree of random shape, as flushes, batchers and minutes merge.
    while len(shards) > 1:
        left = shards.pop(chance.randrange(len(shards)))
        shards[chance.randrange(len(shards))].merge(left)
    assert shards[0] == whole


@given(records=st.lists(record, min_size=1, max_size=60))
@settings(max_examples=100, deadline=None)
def test_every_caller_request_is_counted_once(records: list[Record]) -> None:
    cells = cells_of(records)
    callers = [entry for entry in records if entry[3] in (0, 4)]
    assert sum(cell.counts[REQUESTS] for cell in cells.values()) == len(callers)
    succeeded = [entry[0] for entry in callers if entry[2] == 0]
    assert sum(cell.latency.count for cell in cells.values()) == len(succeeded)
    assert sum(cell.latency.sum_us for cell in cells.values()) == sum(succeeded)
    squares = sum(cell.latency.sum_squares_us2 for cell in cells.values())
    assert squares == sum(latency**2 for latency in succeeded)


@given(
    latencies=st.lists(st.integers(1, LATENCY_MAX_US), min_size=1, max_size=300),
    share=st.sampled_from([0.01, 0.5, 0.9, 0.95, 0.99, 1.0]),
)
@settings(max_examples=200, deadline=None)
def test_percentiles_are_within_half_a_percent(latencies: list[int], share: float) -> None:
    sketch = LatencySketch()
    sketch.add(group_of(latencies, times_us=[]).latencies_us)
    exact = sorted(latencies)[max(1, math.ceil(share * len(latencies))) - 1]
    assert abs(sketch.quantile_us(share) - exact) <= 0.005 * exact


@given(latencies=st.lists(st.integers(0, LATENCY_MAX_US), max_size=300))
@settings(max_examples=100, deadline=None)
def test_a_sketch_survives_storage(latencies: list[int]) -> None:
    sketch = LatencySketch()
    if latencies:
        sketch.add(group_of(latencies, times_us=[]).latencies_us)
    stored = sketch.encode_buckets()
    restored = LatencySketch.decode(
        stored, count=sketch.count, sum_us=sketch.sum_us, sum_squares_us2=sketch.sum_squares_us2
    )
    assert restored == sketch
    assert restored.encode_buckets() == stored
