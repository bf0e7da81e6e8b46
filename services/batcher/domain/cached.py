"""What the prediction cache hands out, and how it behaves."""

from dataclasses import dataclass
from enum import StrEnum

from services.batcher.domain.request import InferResult


class CacheOutcome(StrEnum):
    """Where the rows of an answer came from."""

    HIT = "hit"
    """All were kept, or being computed for somebody else."""
    PARTIAL = "partial"
    """Some were; the others went to the model."""
    MISS = "miss"
    """All went to the model."""
    BYPASS = "bypass"
    """The request is none that is cached: too many rows, too large, or its version has no artifact's digest."""


@dataclass(frozen=True, slots=True)
class CachedAnswer:
    """The caller's own rows and where they came from."""

    result: InferResult
    outcome: CacheOutcome


@dataclass(frozen=True, slots=True)
class CacheOptions:
    """Bounds of the prediction cache."""

    bytes_max: int = 64 * 1024 * 1024
    """What the process keeps, overhead included."""
    ttl_s: float = 3600.0
    """How long an entry lives, in both layers together."""
    rows_max: int = 64
    """Requests with more rows pass by: a row costs some microseconds of the one thread, hit or miss."""
    input_bytes_max: int = 1024 * 1024
    """Requests with larger inputs pass by: digesting a megabyte holds the thread for half a millisecond."""
    entry_bytes_max: int = 64 * 1024
    """Rows of answers that are larger are not kept: one would push out hundreds."""
    followers_max: int = 20_000
    """Rows that may wait for another request's computation, over all versions; beyond it everybody asks the model."""


@dataclass(slots=True)
class CacheCounts:
    """Rows of one version since the start. They only grow."""

    memory: int = 0
    """Found in the process's memory."""
    store: int = 0
    """Found in Redis."""
    shared: int = 0
    """Computed once for several requests that asked at the same time; this counts all but the first."""
    missed: int = 0
    """Sent to the model."""


@dataclass(slots=True)
class StoreCounts:
    """What happened to the second layer since the start. They only grow."""

    errors: int = 0
    """Connections that failed, broke, or did not answer in time."""
    foreign: int = 0
    """Values that are none of ours."""
    skipped: int = 0
    """Rows that were not asked for: Redis is away, or too many wait."""
    written: int = 0
    """Rows."""
    dropped: int = 0
    """Rows that found Redis away, the queue full, or were refused."""
