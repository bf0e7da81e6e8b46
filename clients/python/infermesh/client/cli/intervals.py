"""Intervals drawn in one line of text, so that they can be read at 80 columns and without colours.

    ├────────●────────┤      ┃      a value with its interval, below a limit
    ◀────●────┤   │                 an interval that goes on to the left of what is shown, left of zero

The line of dots between brackets is the interval, the dot the value, a bar whatever it is compared with.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

LIMIT = "┃"
ZERO = "│"
_UNBOUNDED = 1e300
"""From here on a number stands for infinity, which JSON has not."""
_GAP = 0.06
"""The part of the width that stays free at each end."""


@dataclass(frozen=True, slots=True)
class Axis:
    """What a line of `width` characters shows: the values from `low` to `high`."""

    low: float
    high: float
    width: int

    def place(self, value: float) -> int:
        """The character that a value falls on; beyond the ends it is the one at the end."""
        if math.isnan(value):
            raise ValueError("the value is not a number; there is no place for it")
        share = (value - self.low) / (self.high - self.low)
        return min(self.width - 1, max(0, round(min(1.0, max(0.0, share)) * (self.width - 1))))

    def shows(self, value: float) -> bool:
        """Whether a value lies on the axis."""
        return self.low <= value <= self.high


def bound(value: float) -> float:
    """An end of an interval as it came: what stands for infinity is infinite."""
    return math.copysign(math.inf, value) if abs(value) >= _UNBOUNDED else value


def axis(values: Iterable[float], *, width: int, least: float | None = None, most: float | None = None) -> Axis:
    """An axis on which all finite `values` are, with a little room at each end; `least` and `most` bound it."""
    finite = [value for value in values if math.isfinite(value)] or [0.0]
    low, high = min(finite), max(finite)
    span = high - low or abs(high) or 1.0
    low, high = low - span * _GAP, high + span * _GAP
    if least is not None:
        low = max(low, least)
    if most is not None:
        high = min(high, most)
    return Axis(low, high, width) if high > low else Axis(low, low + span, width)


def drawn(
    axis: Axis, *, low: float, value: float, high: float, marks: Mapping[float, str] | None = None, dot: str = "●"
) -> str:
    """The interval from `low` to `high` with its `value`, and a character at each of `marks`; `axis.width` characters.

    An end that is beyond the axis is an arrow, a value that is not known (NaN) has no dot. The dot hides a mark, and a
    mark the interval, because what one looks for is on which side of the mark the whole interval is.
    """
    line = [" "] * axis.width
    if not (math.isnan(low) or math.isnan(high)) and low <= high:
        begin, end = axis.place(low), axis.place(high)
        for place in range(begin, end + 1):
            line[place] = "─"
        line[begin] = "├" if axis.shows(low) else "◀" if low < axis.low else "▶"
        line[end] = "┤" if axis.shows(high) else "▶" if high > axis.high else "◀"
    for mark, character in (marks or {}).items():
        if not math.isnan(mark) and axis.shows(mark):
            line[axis.place(mark)] = character
    if not math.isnan(value) and axis.shows(value):
        line[axis.place(value)] = dot
    return "".join(line)


def ticks(axis: Axis, labels: Mapping[float, str]) -> str:
    """Labels under the characters that they belong to; of two that would touch, the one given first stays."""
    line = [" "] * axis.width
    for value, label in labels.items():
        if math.isnan(value) or not axis.shows(value) or len(label) > axis.width:
            continue
        begin = min(axis.width - len(label), max(0, axis.place(value) - len(label) // 2))
        around = line[max(0, begin - 1) : begin + len(label) + 1]
        if all(character == " " for character in around):
            line[begin : begin + len(label)] = label
    return "".join(line).rstrip()
