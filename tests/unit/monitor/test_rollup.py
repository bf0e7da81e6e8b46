"""Hours: when they are rolled up, and what a window is read from."""

import pytest

from services.monitor.domain.aggregate import Cell, CellKey, Cells
from services.monitor.domain.measures import REQUESTS
from services.monitor.domain.rollup import HOURS_A_ROUND_MAX, Source, hours_due, rolled_up, sources
from services.monitor.domain.window import Step

HOUR = 60


def test_an_hour_is_due_once_it_has_settled() -> None:
    assert list(hours_due(until=10 * HOUR, now=11 * HOUR + 9)) == []
    assert list(hours_due(until=10 * HOUR, now=11 * HOUR + 10)) == [10 * HOUR]


def test_catching_up_comes_in_rounds() -> None:
    assert len(hours_due(until=0, now=1000 * HOUR)) == HOURS_A_ROUND_MAX


@pytest.mark.parametrize(
    ("first", "end", "step_minutes", "until", "expected"),
    [
        (30, 200, 0, 180, [(Step.MINUTE, 30, 60), (Step.HOUR, 60, 180), (Step.MINUTE, 180, 200)]),
        (60, 180, 0, 180, [(Step.HOUR, 60, 180)]),
        (30, 200, 0, 100_000, [(Step.MINUTE, 30, 60), (Step.HOUR, 60, 180), (Step.MINUTE, 180, 200)]),
        (30, 200, 0, 0, [(Step.MINUTE, 30, 200)]),
        (30, 110, 0, 180, [(Step.MINUTE, 30, 110)]),
        (30, 200, 1, 180, [(Step.MINUTE, 30, 200)]),
        (0, 1440, 1440, 600, [(Step.HOUR, 0, 600), (Step.MINUTE, 600, 1440)]),
    ],
)
def test_a_window_is_read_from_as_few_cells_as_give_it(
    first: int, end: int, step_minutes: int, until: int, expected: list[tuple[Step, int, int]]
) -> None:
    found = sources(first, end, step_minutes=step_minutes, until=until)
    assert found == tuple(Source(*part) for part in expected)


def test_only_what_is_before_the_mark_goes_to_hours() -> None:
    cells = Cells()
    for minute in (61, 119, 120):
        one = Cell()
        one.counts[REQUESTS] = 1
        cells[CellKey(minute, "digits", "v1.0.0", "main")] = one
    hours = rolled_up(cells, until=120)
    assert {key.minute: cell.counts[REQUESTS] for key, cell in hours.items()} == {60: 2}
    assert cells[CellKey(61, "digits", "v1.0.0", "main")].counts[REQUESTS] == 1
