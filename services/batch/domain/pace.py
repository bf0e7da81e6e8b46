"""How fast a job goes now, and how long it will still take.

The mean since the start says it badly: it counts the time in which the input was cut and nothing was predicted, and
after the pace has changed it takes as long again to believe it. So the pace is that of the last tenth of the rows; or,
where that is not plainly another one, of the last three tenths, because steps end in waves and few of them mislead.
Marks are taken when steps are recorded, in the time in which the job ran: pauses and waits for its turn do not count.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

MARKS_MAX = 64
"""Marks that are kept. Steps end up to six at once, so that many tell the pace to within a tenth."""
_LATELY, _LATELY_MARKS = 0.1, 16
"""The share of the rows over which the pace of late is taken, and the fewest steps, as far as there are so many."""
_LONGER, _LONGER_MARKS = 0.3, MARKS_MAX
_SAME = 1.2
"""Within this factor the pace has not changed, and more steps tell it better."""


@dataclass(frozen=True, slots=True)
class Mark:
    """`rows` were done when the job had run for `running_s` seconds."""

    running_s: float
    rows: int


def rows_per_s(marks: Sequence[Mark], *, total_rows: int, running_s: float) -> float:
    """The pace after `running_s` seconds, in rows per second; 0 where there is nothing to tell from."""
    lately = _pace(_window(marks, total_rows * _LATELY, _LATELY_MARKS), running_s)
    longer = _pace(_window(marks, total_rows * _LONGER, _LONGER_MARKS), running_s)
    if lately <= 0 or longer <= 0:
        return lately
    return longer if max(lately / longer, longer / lately) <= _SAME else lately


def left_s(marks: Sequence[Mark], *, total_rows: int, running_s: float) -> float | None:
    """Seconds until all rows are done, if the job goes on as it does. None: nothing to tell from."""
    pace = rows_per_s(marks, total_rows=total_rows, running_s=running_s)
    if pace <= 0:
        return None
    last = marks[-1]
    # What has run since the last step went into the next ones.
    return max(0.0, (total_rows - last.rows) / pace - max(0.0, running_s - last.running_s))


def _pace(window: Sequence[Mark], running_s: float) -> float:
    if len(window) < 2:
        return 0.0
    first, last = window[0], window[-1]
    rows, took_s = last.rows - first.rows, last.running_s - first.running_s
    if rows <= 0 or took_s <= 0:
        return 0.0
    # A step that takes longer than any before it: the pace is at most what it would be if it ended now.
    silent_s = max(0.0, running_s - last.running_s)
    step = max(after.rows - before.rows for before, after in pairwise(window))
    return min(rows / took_s, (rows + step) / (took_s + silent_s)) if silent_s else rows / took_s


def _window(marks: Sequence[Mark], rows: float, marks_min: int) -> Sequence[Mark]:
    """The marks of the last so many rows, and of so many steps at least."""
    if not marks:
        return ()
    since = marks[-1].rows - rows
    first = max((place for place, mark in enumerate(marks) if mark.rows <= since), default=0)
    return marks[min(first, max(0, len(marks) - 1 - marks_min)) :]
