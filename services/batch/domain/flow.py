"""How many requests a job has in flight: as many as make it faster, and no more.

What waits at the batcher makes nothing faster, and its answers come later to whoever watches the job. The estimate is
that of TCP Vegas (Brakmo 1994): of `limit` requests in flight, those beyond limit x (shortest latency / latency now)
only wait. Few that wait: one more is let in; many: one fewer. So a quick model gets a second request while one is
answered, several servers get work for all of them, and a model that callers keep busy gets less.
"""

_WAITING_FEW = 1.0
_WAITING_MANY = 3.0
_WEIGHT = 0.3
"""Of the newest answer in the mean latency."""
_TRUSTED_ANSWERS = 300
"""After so many answers the shortest latency is measured anew: the model, or who else uses it, may have changed."""
_ALONE_ANSWERS = 2
"""Requests that are sent one by one to measure it: among others, each would wait for those, and every measurement would
allow for a longer queue than the one before."""


class Flow:
    """Of one job in one worker. Starts with two in flight."""

    def __init__(self, ceiling: int) -> None:
        self._ceiling = max(1, ceiling)
        self._wish = 2
        self._shortest_s = float("inf")
        self._mean_s = 0.0
        self._answers = 0
        self._alone = 0
        """Answers until the measurement is over; 0: there is none."""

    @property
    def limit(self) -> int:
        """Requests that may be in flight."""
        return 1 if self._alone else min(self._wish, self._ceiling)

    def resize(self, ceiling: int) -> None:
        """Changes the most that may ever be in flight."""
        self._ceiling = max(1, ceiling)
        self._wish = min(self._wish, self._ceiling)

    def answered(self, row_s: float) -> None:
        """An answer came after `row_s` seconds for each of its rows."""
        self._shortest_s = min(self._shortest_s, row_s)
        if self._alone:
            self._alone -= 1
            return
        self._mean_s = row_s if not self._mean_s else self._mean_s + _WEIGHT * (row_s - self._mean_s)
        self._answers += 1
        if self._answers % _TRUSTED_ANSWERS == 0 and self.limit > 1:
            # What was sent before comes back first.
            self._alone = self.limit + _ALONE_ANSWERS
            self._shortest_s = float("inf")
            return
        if self._answers % self.limit:
            # What a change did is seen only once all that was in flight is back.
            return
        waiting = self.limit * (1 - self._shortest_s / self._mean_s) if self._mean_s > 0 else 0.0
        if waiting < _WAITING_FEW:
            self._wish = min(self._ceiling, self._wish + 1)
        elif waiting > _WAITING_MANY:
            self._wish = max(1, self._wish - 1)
