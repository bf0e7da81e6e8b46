"""Who may wait: whoever can still be answered in time. And when those who may not should come back.

The estimate is what waits before a request at the pace at which a busy version's rows come back, and then a batch's own
time. Only a measured pace that is fresh refuses anybody: a version that was idle, or has just changed, takes everybody.
"""

from math import ceil, exp, inf

_RETRY_MIN_S = 0.05
_RETRY_MAX_S = 10.0
_RETRY_UNKNOWN_S = 1.0
_WINDOW_S = 1.0
"""Of busy time: what was longer ago counts less than a third."""
_KNOWN_BATCHES = 8
"""Before as many were answered nothing is known."""
_FRESH_S = 2.0
_FRESH_BATCHES = 3.0
"""A measurement is believed this long after the last answer, and for this many batches' time at least: beyond it,
whoever comes is the probe that renews it."""
_WEIGHT = 0.2
"""Of the newest batch in the moving average of a batch's time."""
_LEAST_WINDOW_S = 300.0
"""The quickest batch is forgotten after one to two of these."""


class Pace:
    """How fast one version's rows come back while requests wait, and how long a batch takes."""

    __slots__ = (
        "_answered",
        "_busy",
        "_busy_s",
        "_landed_s",
        "_least_before_s",
        "_least_now_s",
        "_least_since_s",
        "_rows",
        "least_s",
        "row_s",
        "service_s",
    )

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """What runs the version has changed: nothing is known."""
        self._rows = 0.0
        self._busy_s = 0.0
        self._busy = 0
        self._answered = 0
        self._landed_s = -inf
        self._least_before_s = self._least_now_s = inf
        self._least_since_s = -inf
        self.row_s = 0.0
        """Seconds that each waiting row takes; 0 while not known."""
        self.service_s = 0.0
        """The usual time of a batch, from its departure to its answer; 0 while not known."""
        self.least_s = 0.0
        """The quickest batch of the last minutes; 0 while not known."""

    def landed(self, *, rows: int, seconds: float, now_s: float, busy: bool) -> None:
        """A batch of `rows` rows was answered, `seconds` after its departure. `busy`: others waited for its slot."""
        self._answered += 1
        self.service_s = self.service_s + _WEIGHT * (seconds - self.service_s) if self._answered > 1 else seconds
        self._quickest(seconds, now_s)
        if busy:
            # Time in which nothing ran is not counted: no interval is longer than the batch that ends it.
            interval_s = min(now_s - self._landed_s, seconds)
            fade = exp(-interval_s / _WINDOW_S)
            self._rows = self._rows * fade + rows
            self._busy_s = self._busy_s * fade + interval_s
            self._busy += 1
            if self._busy >= _KNOWN_BATCHES:
                self.row_s = self._busy_s / self._rows
        self._landed_s = now_s

    def fresh(self, now_s: float) -> bool:
        """Whether what was measured may be believed."""
        return now_s - self._landed_s <= max(_FRESH_S, _FRESH_BATCHES * self.service_s)

    def answered_after_s(self, rows: float, *, rows_max: int) -> float:
        """When the last of `rows` waiting rows should be answered, in seconds from now. They leave in whole batches of
        `rows_max` rows."""
        return ceil(rows / rows_max) * rows_max * self.row_s + self.service_s

    def hopeless_s(self, now_s: float) -> float:
        """Nobody with less time than this can be answered; 0 while not known."""
        return self.least_s if self.fresh(now_s) else 0.0

    def retry_after_s(self, rows_waiting: int) -> float:
        """When half of what waits will have gone."""
        if not self._rows:
            return _RETRY_UNKNOWN_S
        return min(_RETRY_MAX_S, max(_RETRY_MIN_S, rows_waiting * self._busy_s / self._rows / 2))

    def _quickest(self, seconds: float, now_s: float) -> None:
        if now_s - self._least_since_s > _LEAST_WINDOW_S:
            self._least_before_s, self._least_now_s, self._least_since_s = self._least_now_s, seconds, now_s
        elif seconds < self._least_now_s:
            self._least_now_s = seconds
        if self._answered >= _KNOWN_BATCHES:
            self.least_s = min(self._least_before_s, self._least_now_s)
