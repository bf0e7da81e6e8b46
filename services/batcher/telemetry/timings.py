"""Times of answered requests: noted one by one, counted many at once, which takes half the time of counting each."""

import numpy as np

from services.batcher.domain.batch_run import BatchRun
from services.batcher.telemetry.buckets import LATENCY_BOUNDS_S
from services.batcher.telemetry.version_stats import VersionStats

_AT_ONCE = 512
"""Requests that are noted before they are counted."""
_BOUNDS = np.array(LATENCY_BOUNDS_S)
_BUCKETS = len(LATENCY_BOUNDS_S) + 1
_MOMENTS = 5
_FIRST = np.arange(_MOMENTS) * _BUCKETS
"""Of each histogram its first bucket, where all lie one after the other."""


class Timings:
    """What was noted since it was last counted. Whoever reads the counts has it `settle` first."""

    __slots__ = ("_moments", "_stats")

    def __init__(self) -> None:
        self._stats: list[VersionStats] = []
        self._moments: list[float] = []

    def note(self, stats: VersionStats, arrived_s: float, queued_s: float, run: BatchRun, ended_s: float) -> None:
        """An answered request, and where its time went. `run`: the batch that it was in."""
        self._stats.append(stats)
        self._moments += (arrived_s, queued_s, run.sent_s, run.landed_s, ended_s)
        if len(self._stats) >= _AT_ONCE:
            self.settle()

    def settle(self) -> None:
        """Counts what was noted."""
        noted, moments = self._stats, self._moments
        if not noted:
            return
        self._stats, self._moments = [], []
        table = np.array(moments).reshape(-1, _MOMENTS)
        first = noted[0]
        if noted.count(first) == len(noted):
            _count(first, table)
            return
        rows: dict[VersionStats, list[int]] = {}
        for row, stats in enumerate(noted):
            rows.setdefault(stats, []).append(row)
        for stats, own in rows.items():
            _count(stats, table[own])


def _count(stats: VersionStats, moments: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> None:
    spent = np.empty_like(moments)
    spent[:, 0] = moments[:, -1] - moments[:, 0]
    np.subtract(moments[:, 1:], moments[:, :-1], out=spent[:, 1:])
    places = np.searchsorted(_BOUNDS, spent) + _FIRST
    counts = np.bincount(places.ravel(), minlength=_MOMENTS * _BUCKETS).tolist()
    stats.took_all([counts[at : at + _BUCKETS] for at in _FIRST.tolist()], spent.sum(axis=0).tolist())
