"""Figures of the last moments out of counts that only grow, without any work between scrapes."""

from collections import deque
from collections.abc import Sequence

SPAN_MIN_S = 10.0
"""Figures cover at least this much, so that a second scraper does not make them jump."""
_STEP_MIN_S = SPAN_MIN_S / 4


class Window:
    """Remembers what was read at earlier scrapes: a handful of lists. Figures cover the time since the newest reading
    that is 10 s old or older, which is the last scrape where one comes every 10 s or less often."""

    def __init__(self, counts: int, *, now_s: float) -> None:
        self._readings: deque[tuple[float, Sequence[int]]] = deque([(now_s, (0,) * counts)])

    def since(self, counts: Sequence[int], *, now_s: float) -> tuple[float, list[int]]:
        """How many seconds the figures cover, and by how much each count grew in them."""
        readings = self._readings
        while len(readings) > 1 and readings[1][0] <= now_s - SPAN_MIN_S:
            readings.popleft()
        began_s, before = readings[0]
        if now_s - readings[-1][0] >= _STEP_MIN_S:
            readings.append((now_s, tuple(counts)))
        return now_s - began_s, [now - then for now, then in zip(counts, before, strict=True)]
