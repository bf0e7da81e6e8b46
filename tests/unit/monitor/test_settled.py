"""Which part of a window need not be read again."""

from datetime import timedelta

from services.monitor.domain.aggregate import Cell
from services.monitor.domain.evidence import WatchKey
from services.monitor.domain.measures import REQUESTS
from services.monitor.domain.settled import (
    LATE_AFTER,
    SETTLED_AFTER,
    Settled,
    SettledWindows,
    merged_cells,
    settled_until,
)
from tests.support.clock import NOON

BEGINS = NOON + timedelta(seconds=30)
KEY = WatchKey("digits", BEGINS)


def test_what_is_settled_is_late_for_a_while_already() -> None:
    assert timedelta(minutes=2) <= SETTLED_AFTER - LATE_AFTER


def test_a_window_settles_by_whole_minutes_and_never_back() -> None:
    fresh = Settled(BEGINS, BEGINS, 0)
    assert settled_until(fresh, NOON + timedelta(minutes=5)) == BEGINS
    assert settled_until(fresh, NOON + timedelta(minutes=6)) == NOON + timedelta(minutes=1)
    later = Settled(BEGINS, NOON + timedelta(minutes=9), 0)
    assert settled_until(later, NOON + timedelta(minutes=10)) == NOON + timedelta(minutes=9)


def test_a_late_change_or_another_beginning_asks_for_all_again() -> None:
    windows = SettledWindows()
    kept = Settled(BEGINS, NOON + timedelta(minutes=9), 3, {"v1.0.0": Cell()})
    windows.keep(KEY, kept)
    assert windows.known(KEY, begins=BEGINS, changes=3) is kept
    assert windows.known(KEY, begins=BEGINS, changes=4) == Settled(BEGINS, BEGINS, 4)
    moved = NOON + timedelta(minutes=1)
    assert windows.known(KEY, begins=moved, changes=3) == Settled(moved, moved, 3)


def test_windows_that_nobody_asks_for_are_forgotten() -> None:
    windows = SettledWindows()
    for place in range(600):
        windows.keep(KEY, Settled(BEGINS, NOON + timedelta(minutes=9), 0))
        windows.keep(WatchKey(f"model-{place}", BEGINS), Settled(BEGINS, NOON + timedelta(minutes=9), 0))
    assert windows.known(KEY, begins=BEGINS, changes=0).until > BEGINS
    assert windows.known(WatchKey("model-0", BEGINS), begins=BEGINS, changes=0).until == BEGINS
    assert windows.known(WatchKey("model-599", BEGINS), begins=BEGINS, changes=0).until > BEGINS


def test_parts_add_up_and_stay_as_they_are() -> None:
    one, two = Cell(), Cell()
    one.counts[REQUESTS], two.counts[REQUESTS] = 3, 4
    total = merged_cells({"v1.0.0": one}, {"v1.0.0": two, "v2.0.0": two})
    assert {version: cell.counts[REQUESTS] for version, cell in total.items()} == {"v1.0.0": 7, "v2.0.0": 4}
    assert (one.counts[REQUESTS], two.counts[REQUESTS]) == (3, 4)
