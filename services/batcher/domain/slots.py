"""How many batches a backend really runs at a time, and so which numbers at a time can be right at all.

A batch that found the backend free shows what a batch takes alone; one that was sent before the one ahead came back
shows how soon after it the next one comes. The first over the second is how many are run at a time: two instances give
2, one instance 1, and one instance that would wait for the way there and back between two batches something between.

Two conclusions are sure enough to spare callers the trial. Fewer at a time than carry the load are no choice: the line
would grow. And where the next batch only begins when the one ahead has ended, to send it earlier only closes it
earlier, to those who come in the meantime: where joining saves anything, one at a time is right.
"""

from math import exp

from services.batcher.domain.latency_model import LatencyModel

_WEIGHT = 0.02
_SEEN_FIRST = 3
"""As many are taken for granted to have said that one is run at a time."""
_SEEN_MIN = 30
"""Batches that followed another one, before anything is concluded."""
_FRESH = 500
"""Batches since the last one that was seen alone, after which its times are no longer what others are compared to."""
_REACH = 1.5
"""Times the largest batch seen alone, to which its time is believed to go on as it did."""
_SHARE_MIN = 0.02
_SHARE_MAX = 2.0
_ALONE_MAX = 1.12
"""So many at a time, or fewer, are one."""
_SHARED_MIN = 1.2
"""So many are more than one: between the two what was concluded stands."""
_SAVING_MIN = 0.2
"""Of the time of two batches joined, what joining must save to be worth anything."""
_SPACING = 0.9
"""Of an even part of a batch's time: the backend should not run dry where batches take longer or shorter."""
_SPACING_MIN_S = 0.002
"""Timers of an event loop are too coarse for less."""
_WINDOW_S = 0.05
_PEAK_FADE_S = 30.0
"""The highest rate fades to 1/e over this long."""
_SPARE = 1.25
"""Times the highest rate that batches must be able to carry, to be sure that they do."""
_CARRY = 0.95
"""Of the most that any number at a time carries, as good as the most."""


class Slots:
    """Of one version."""

    __slots__ = (
        "_known",
        "_peak",
        "_seen",
        "_share",
        "_since",
        "_single",
        "_window_rows",
        "_window_s",
        "alone",
        "capacity",
        "rows_max",
        "rows_sent",
    )

    def __init__(self) -> None:
        self.alone = LatencyModel()
        """How long batches take that find the backend free."""
        self.capacity = 1.0
        """Of all backends; what is run at a time is told for one of capacity 1."""
        self.rows_max = 1
        """The most rows of a batch."""
        self.rows_sent = 0
        """All that departed so far."""
        self._share = 1.0
        """The time from one landing to the next, over what the batch would take alone."""
        self._seen = self._since = 0
        """How many followed another one, and how many came back since one was seen alone."""
        self._known = self._single = False
        self._window_s = 0.0
        self._window_rows = 0
        self._peak = 0.0
        """Rows a second, at most, lately, of all backends."""

    @property
    def count(self) -> float:
        """Batches that are run at a time, as far as was seen: at least about 1."""
        return 1.0 / self._share

    def observe(self, *, rows: int, sent_s: float, before_s: float, now_s: float) -> None:
        """A batch came back, the one before it at `before_s`."""
        alone = self.alone
        self._since += 1
        if before_s <= sent_s:
            self._since = 0
            alone.observe(rows, now_s - sent_s)
        elif self._since < _FRESH and alone.rows_seen[1] * _REACH >= rows:
            share = (now_s - before_s) / alone.expected_s(rows)
            self._seen += 1
            weight = max(_WEIGHT, 1 / (_SEEN_FIRST + self._seen))
            self._share += weight * (min(_SHARE_MAX, max(_SHARE_MIN, share)) - self._share)
            self._known = self._known or self._seen >= _SEEN_MIN
        if now_s >= self._window_s + _WINDOW_S:
            self._rate(now_s)

    def forget(self) -> None:
        """Whether it is one at a time is to be found out anew."""
        self._seen = 0
        self._single = False

    def _rate(self, now_s: float) -> None:
        lasted_s = now_s - self._window_s
        rate = (self.rows_sent - self._window_rows) / lasted_s
        self._peak = max(rate, self._peak * exp(-lasted_s / _PEAK_FADE_S))
        self._window_s, self._window_rows = now_s, self.rows_sent

    def single(self, rows: float) -> bool:
        """Whether batches of about `rows` rows are run one after another, and joining them saves something."""
        if self._seen >= _SEEN_MIN:
            count = self.count
            if count >= _SHARED_MIN:
                self._single = False
            elif count <= _ALONE_MAX and not self._single:
                self._single = self.saving(rows) > _SAVING_MIN
        return self._single

    def saving(self, rows: float) -> float:
        """What it saves to join two batches of `rows` rows, as a share of the time of the joined one; 0.0 where such
        sizes were not seen."""
        alone = self.alone
        least, most = alone.rows_seen
        if rows < least or 2 * rows > most * _REACH:
            return 0.0
        return 2 * alone.expected_s(rows) / alone.expected_s(2 * rows) - 1

    def spacing_s(self, rows: float) -> float:
        """How long after one batch, to whichever backend, the next of `rows` rows should leave. What is sent sooner,
        where several are run at a time, only divides those who come among more batches. 0.0: it makes no difference."""
        if self.count < _SHARED_MIN or not self._known:
            return 0.0
        spacing_s = _SPACING * self.alone.expected_s(rows) / (self.count * self.capacity)
        return spacing_s if spacing_s > _SPACING_MIN_S and self.saving(rows) > _SAVING_MIN else 0.0

    def suffices(self, rows: int, in_flight: int) -> bool:
        """Whether batches of `rows` rows, `in_flight` at a time, are sure to carry the load of late."""
        if not self._known or self.alone.rows_seen[1] * _REACH < rows:
            return False
        rate = self.capacity * min(in_flight, self.count) * rows / self.alone.expected_s(rows)
        return rate > _SPARE * self._peak

    def carries(self, in_flight: int) -> bool:
        """Whether so many batches at a time carry the load of late, or about as much as any number does; where that is
        not known, they may."""
        rows_max = self.rows_max
        if not self._known or self.alone.rows_seen[1] * _REACH < rows_max or in_flight >= self.count:
            return True
        one = self.capacity * rows_max / self.alone.expected_s(rows_max)
        return in_flight * one >= min(self._peak, _CARRY * self.count * one)
