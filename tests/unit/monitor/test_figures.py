"""From requests to the figures that people read."""

import pytest

from services.monitor.domain.aggregate import LATE_MAX_US, MINUTE_US, Cell, CellKey, Cells, merged
from services.monitor.domain.figures import figures
from services.monitor.domain.records import CLASSES_MAX, OTHER, Kind, bounded_classes
from tests.support.monitor_log import group_of

NOW_US = 29_000_000 * MINUTE_US


def cell_of(latencies_us: list[int], **columns: list[int]) -> Cell:
    cells = Cells()
    group = group_of(latencies_us, times_us=[NOW_US] * len(latencies_us), **columns)  # type: ignore[arg-type]
    cells.add_group(group, now_us=NOW_US, reason_name=lambda number: {403: "QUEUE_FULL"}.get(number, str(number)))
    return merged(cells.values())


def test_nothing_is_all_zeros() -> None:
    nothing = figures(Cell(), seconds=60)
    assert (nothing.request_count, nothing.error_rate, nothing.latency_p99_ms, nothing.throughput_per_sec) == (0,) * 4
    assert nothing.predictions_by_class == {}
    assert nothing.predictions_by_confidence == {}


def test_failures_count_as_errors_and_not_as_latencies() -> None:
    cell = cell_of([1000, 1000, 9_000_000], codes=[0, 0, 8], reasons=[0, 0, 403])
    found = figures(cell, seconds=30)
    assert (found.request_count, found.error_count) == (3, 1)
    assert found.error_rate == pytest.approx(1 / 3)
    assert found.latency_avg_ms == 1
    assert found.throughput_per_sec == 0.1
    assert cell.counts["error_count", "QUEUE_FULL"] == 1


def test_retries_shadows_and_warm_ups_are_no_traffic() -> None:
    cell = cell_of([1000] * 5, kinds=[Kind.CALLER, Kind.RETRY, Kind.SHADOW, Kind.WARM_UP, Kind.BATCH_JOB])
    assert figures(cell, seconds=1).request_count == 2
    assert cell.counts["shadow_count", ""] == 1


def test_a_clock_that_is_wrong_does_not_make_partitions() -> None:
    cells = Cells()
    group = group_of([1, 1, 1], times_us=[0, NOW_US, 10 * NOW_US])
    cells.add_group(group, now_us=NOW_US, reason_name=str)
    assert sorted(key.minute for key in cells) == [
        (NOW_US - LATE_MAX_US) // MINUTE_US,
        NOW_US // MINUTE_US,
        NOW_US // MINUTE_US + 5,
    ]


def test_shares_add_up_to_one() -> None:
    cells = Cells()
    cells.add_group(group_of([1], times_us=[NOW_US], by_class={"a": 3, "b": 1}), now_us=NOW_US, reason_name=str)
    assert figures(cells[CellKey(NOW_US // MINUTE_US, "digits", "v1.0.0", "main")], seconds=1).predictions_by_class == {
        "a": 0.75,
        "b": 0.25,
    }


def test_classes_are_bounded_and_none_is_lost() -> None:
    many = {f"class_{place:05d}": 1 + (place < 10) for place in range(5000)}
    bounded = bounded_classes(many)
    assert len(bounded) == CLASSES_MAX
    assert sum(bounded.values()) == sum(many.values())
    assert bounded["class_00003"] == 2
    assert bounded[OTHER] == 5000 - (CLASSES_MAX - 1)
