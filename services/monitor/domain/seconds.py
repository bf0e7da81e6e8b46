"""Sums by the second, so that a window may begin in the middle of a minute.

A second's latencies fill a few dozen of the sketch's two thousand buckets, so these cells hold only what is there.
"""

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TypedDict, cast

import numpy as np

from services.monitor.domain.aggregate import Cell, Tally
from services.monitor.domain.measures import REQUESTS, SHADOWS, Measure
from services.monitor.domain.sketch import CountedLatencies


@dataclass(frozen=True, order=True, slots=True)
class SecondKey:
    """A second since the Unix epoch, of all deployments of a version."""

    second: int
    model: str
    version: str


@dataclass
class SecondCell:
    """The sums of some requests of one second."""

    counts: Counter[Measure] = field(default_factory=Counter)
    buckets: Counter[int] = field(default_factory=Counter)
    count: int = 0
    sum_us: int = 0
    sum_squares_us2: int = 0

    @property
    def answered(self) -> int:
        """The requests and shadow copies in it."""
        return self.counts[REQUESTS] + self.counts[SHADOWS]

    def add(self, tally: Tally) -> None:
        """Adds what was just counted."""
        self.counts.update(tally.counts)
        found = tally.latencies
        if found is not None:
            self.count += found.count
            self.sum_us += found.sum_us
            self.sum_squares_us2 += found.sum_squares_us2
            for index, count in zip(found.indexes.tolist(), found.counts.tolist(), strict=True):
                self.buckets[index] += count

    def encode(self) -> str:
        """The sums as JSON."""
        return json.dumps(
            {
                "counts": [[name, values, count] for (name, values), count in sorted(self.counts.items())],
                "latency": [self.count, self.sum_us, self.sum_squares_us2],
                "buckets": sorted(self.buckets.items()),
            },
            separators=(",", ":"),
        )


class Seconds(dict[SecondKey, SecondCell]):
    """Cells by second, made when they are first needed."""

    def __missing__(self, key: SecondKey) -> SecondCell:
        cell = self[key] = SecondCell()
        return cell


class _Stored(TypedDict):
    counts: list[tuple[str, str, int]]
    latency: tuple[int, int, int]
    buckets: list[tuple[int, int]]


def add_encoded(cell: Cell, encoded: str) -> None:
    """Adds to `cell` what `SecondCell.encode` made JSON of."""
    stored = cast("_Stored", json.loads(encoded))
    for name, values, count in stored["counts"]:
        cell.counts[name, values] += count
    if stored["buckets"]:
        buckets = np.array(stored["buckets"], dtype=np.int64)
        cell.latency.add_counted(CountedLatencies(buckets[:, 0], buckets[:, 1], *stored["latency"]))
