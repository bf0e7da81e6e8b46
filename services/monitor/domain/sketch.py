"""Latencies as a mergeable sketch: logarithmic buckets, as in DDSketch (Masson, Rim, Lee; VLDB 2019).

Chosen over KLL and t-digest because merging is the addition of integers: any split and any order of the same requests
gives the same bytes, so a property test can demand equality, and the error is relative, which is what one asks of a
p99. The log's latencies are unsigned 32-bit microseconds, so the buckets are a fixed array and nothing ever collapses.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

GROWTH = 1.01
"""Each bucket reaches 1 % further than the one before; the middle of a bucket is within 0.5 % of all in it."""
LATENCY_MAX_US = 2**32 - 1
BUCKET_COUNT = math.ceil(math.log(LATENCY_MAX_US) / math.log(GROWTH)) + 1

Latencies = npt.NDArray[np.int64]

_BOUNDS_US = np.power(GROWTH, np.arange(BUCKET_COUNT, dtype=np.float64))
"""The largest latency of each bucket. Buckets are found by comparing with it, so that no two ways of rounding exist."""
_FORMAT = 1
_WIDTHS: dict[int, np.dtype[Any]] = {width: np.dtype(f"<u{width}") for width in (1, 2, 4, 8)}
_INDEX: np.dtype[np.uint16] = np.dtype("<u2")
_HALF_BITS = 16


def middle_us(bucket: int) -> float:
    """The latency that stands for all in a bucket."""
    return 1.0 if bucket == 0 else float(2 * _BOUNDS_US[bucket] / (GROWTH + 1))


@dataclass(frozen=True, slots=True)
class CountedLatencies:
    """Some latencies, counted: the buckets that hold something, ascending, and the exact moments."""

    indexes: Latencies
    counts: Latencies
    count: int
    sum_us: int
    sum_squares_us2: int


def count_latencies(latencies_us: Latencies) -> CountedLatencies:
    """Counts latencies of 0 to 2^32 - 1 µs."""
    buckets = np.bincount(np.searchsorted(_BOUNDS_US, latencies_us, side="left"))
    indexes = np.flatnonzero(buckets)
    return CountedLatencies(
        indexes, buckets[indexes], len(latencies_us), int(latencies_us.sum()), _sum_of_squares(latencies_us)
    )


class LatencySketch:
    """The latencies of some requests: bucket counts, and exact count, sum and sum of squares."""

    __slots__ = ("_buckets", "count", "sum_squares_us2", "sum_us")

    def __init__(self) -> None:
        self._buckets = np.zeros(BUCKET_COUNT, dtype=np.int64)
        self.count = 0
        self.sum_us = 0
        self.sum_squares_us2 = 0

    def add(self, latencies_us: Latencies) -> None:
        """Counts latencies of 0 to 2^32 - 1 µs."""
        self.add_counted(count_latencies(latencies_us))

    def add_counted(self, counted: CountedLatencies) -> None:
        """Adds latencies that are counted already."""
        self._buckets[counted.indexes] += counted.counts
        self.count += counted.count
        self.sum_us += counted.sum_us
        self.sum_squares_us2 += counted.sum_squares_us2

    def merge(self, other: "LatencySketch") -> None:
        """Counts all that `other` counted."""
        self._buckets += other._buckets  # noqa: SLF001 - its own kind
        self.count += other.count
        self.sum_us += other.sum_us
        self.sum_squares_us2 += other.sum_squares_us2

    def quantile_us(self, share: float) -> float:
        """The latency that `share` of the requests did not exceed (nearest rank), within 0.5 %. 0 without requests."""
        if self.count == 0:
            return 0.0
        rank = max(1, math.ceil(share * self.count))
        return middle_us(int(np.searchsorted(np.cumsum(self._buckets), rank, side="left")))

    @property
    def mean_us(self) -> float:
        """The exact mean. 0 without requests."""
        return self.sum_us / self.count if self.count else 0.0

    def buckets(self) -> dict[int, int]:
        """The counts of the buckets that hold something, by index."""
        return {int(index): int(self._buckets[index]) for index in np.flatnonzero(self._buckets)}

    def encode_buckets(self) -> bytes:
        """The bucket counts in as few bytes as hold them: format, width, indexes, counts. Equal sketches give equal
        bytes."""
        indexes = np.flatnonzero(self._buckets)
        counts = self._buckets[indexes]
        largest = int(counts.max()) if len(counts) else 0
        width = next(width for width in _WIDTHS if largest < 1 << (8 * width))
        return bytes((_FORMAT, width)) + indexes.astype(_INDEX).tobytes() + counts.astype(_WIDTHS[width]).tobytes()

    @staticmethod
    def decode(buckets: bytes, *, count: int, sum_us: int, sum_squares_us2: int) -> "LatencySketch":
        """The sketch that `encode_buckets` and the exact sums came from. Raises ValueError for other bytes."""
        if len(buckets) < 2 or buckets[0] != _FORMAT or buckets[1] not in _WIDTHS:
            raise ValueError(f"no latency sketch of format {_FORMAT}: begins with {buckets[:2].hex()!r}")
        counts_type = _WIDTHS[buckets[1]]
        size, rest = divmod(len(buckets) - 2, _INDEX.itemsize + counts_type.itemsize)
        if rest:
            raise ValueError(f"a latency sketch cut off at {len(buckets)} bytes")
        sketch = LatencySketch()
        indexes = np.frombuffer(buckets, _INDEX, count=size, offset=2)
        counts = np.frombuffer(buckets, counts_type, count=size, offset=2 + size * _INDEX.itemsize)
        sketch._buckets[indexes] = counts
        sketch.count, sketch.sum_us, sketch.sum_squares_us2 = count, sum_us, sum_squares_us2
        return sketch

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LatencySketch):
            return NotImplemented
        return (
            self.count == other.count
            and self.sum_us == other.sum_us
            and self.sum_squares_us2 == other.sum_squares_us2
            and bool(np.array_equal(self._buckets, other._buckets))
        )

    __hash__ = None  # type: ignore[assignment]


def _sum_of_squares(values: Latencies) -> int:
    """Exact where 64 bits are not enough for a square: (2^16 h + l)^2 summed by its three terms."""
    high, low = values >> _HALF_BITS, values & ((1 << _HALF_BITS) - 1)
    return (
        (int((high * high).sum()) << (2 * _HALF_BITS))
        + (int((high * low).sum()) << (_HALF_BITS + 1))
        + int((low * low).sum())
    )
