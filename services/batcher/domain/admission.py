"""Who may wait, and when those who may not should come back."""

from math import exp

_RETRY_MIN_S = 0.05
_RETRY_MAX_S = 10.0
_RETRY_UNKNOWN_S = 1.0
_WINDOW_S = 1.0


class DrainRate:
    """Rows a second that leave answered: a moving average over about the last second."""

    __slots__ = ("_at_s", "_rate")

    def __init__(self) -> None:
        self._rate = 0.0
        self._at_s: float | None = None

    def add(self, rows: int, now_s: float) -> None:
        """`rows` were answered."""
        self._rate = self.rows_per_s(now_s) + rows / _WINDOW_S
        self._at_s = now_s

    def rows_per_s(self, now_s: float) -> float:
        """The rate, which fades while nothing is answered."""
        if self._at_s is None:
            return 0.0
        return self._rate * exp((self._at_s - now_s) / _WINDOW_S)


def retry_after_s(rows_waiting: int, rows_per_s: float) -> float:
    """When half of what waits will have gone at the present rate."""
    if rows_per_s < 1.0:
        return _RETRY_UNKNOWN_S
    return min(_RETRY_MAX_S, max(_RETRY_MIN_S, rows_waiting / rows_per_s / 2))
