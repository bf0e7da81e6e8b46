"""Whose work goes first."""

from enum import IntEnum


class Priority(IntEnum):
    """The lower number goes first."""

    CALLER = 0
    """Somebody waits for the answer."""
    SHADOW = 1
    """A copy of a caller's request, whose answer is only looked at later."""
    BACKGROUND = 2
    """Work of a batch job: it gets only what is idle."""

    # An enum's own hash is written in Python, and every request's group is found by this.
    __hash__ = int.__hash__
