"""Hours out of minutes: which are due, what goes where, and which of the two a long window is read from."""

from collections.abc import Mapping
from dataclasses import dataclass

from services.monitor.domain.aggregate import Cell, CellKey, Cells
from services.monitor.domain.window import Step

HOUR = Step.HOUR.minutes
SETTLE_MINUTES = 10
"""An hour is rolled up this long after its end. What comes later still is added to minutes and hours alike."""
HOURS_A_ROUND_MAX = 48
"""The most hours in one round, so that catching up after a pause lets the log through in between."""


def hours_due(*, until: int, now: int) -> range:
    """The first minutes of the hours to roll up now, oldest first, where all before `until` are done."""
    end = (now - SETTLE_MINUTES) // HOUR * HOUR
    return range(until, min(end, until + HOURS_A_ROUND_MAX * HOUR), HOUR)


def rolled_up(cells: Mapping[CellKey, Cell], *, until: int) -> Cells:
    """The cells of minutes before `until`, by hour."""
    hours = Cells()
    for key, cell in cells.items():
        if key.minute < until:
            hours[CellKey(key.minute // HOUR * HOUR, key.model, key.version, key.deployment)].merge(cell)
    return hours


@dataclass(frozen=True)
class Source:
    """A part of a window and the granularity to read it from."""

    granularity: Step
    first: int
    end: int


def sources(first: int, end: int, *, step_minutes: int, until: int) -> tuple[Source, ...]:
    """What to read for the minutes from `first` to before `end`: whole hours that are rolled up as hours, where the
    steps asked for are whole hours or the whole window; the rest as minutes.
    """
    hours_first, hours_end = -(-first // HOUR) * HOUR, min(end // HOUR * HOUR, until)
    if step_minutes % HOUR or hours_first >= hours_end:
        return (Source(Step.MINUTE, first, end),)
    parts = (
        Source(Step.MINUTE, first, hours_first),
        Source(Step.HOUR, hours_first, hours_end),
        Source(Step.MINUTE, hours_end, end),
    )
    return tuple(part for part in parts if part.first < part.end)
