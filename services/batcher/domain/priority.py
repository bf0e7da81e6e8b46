"""Whose work goes first."""

from enum import IntEnum


class Priority(IntEnum):
    """The lower number goes first."""

    CALLER = 0
    """Somebody waits for the answer."""
    EXPLANATION = 1
    """Somebody waits, but for what is said about an answer that is there."""
    SHADOW = 2
    """A copy of a caller's request, whose answer is only looked at later: it gets only what is idle."""
    BACKGROUND = 3
    """Work of a batch job: it gets only what is idle, and is never starved."""

    @property
    def idle_only(self) -> bool:
        """Whether it may use only what nobody who waits for an answer uses."""
        return self >= Priority.SHADOW

    # An enum's own hash is written in Python, and every request's group is found by this.
    __hash__ = int.__hash__
