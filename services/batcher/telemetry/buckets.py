"""Histograms as plain lists of counts: a search in a short table on the hot path, all else when somebody scrapes."""

from collections.abc import Sequence

LATENCY_BOUNDS_MS = (
    *(0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 50.0, 75.0, 100.0, 150.0, 200.0, 300.0),
    *(500.0, 1000.0, 2000.0, 5000.0, 10000.0),
)
"""Upper bounds of all times, inclusive. The first ones are for stages that take no millisecond."""
LATENCY_BOUNDS_S = tuple(bound / 1000 for bound in LATENCY_BOUNDS_MS)
"""The same in seconds, as times are measured."""
BATCH_BOUNDS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
"""Upper bounds of a batch's rows."""


def new_counts(bounds: Sequence[float]) -> list[int]:
    """A count for each bucket and one for what lies beyond the last bound."""
    return [0] * (len(bounds) + 1)


def add_counts(into: list[int], counts: Sequence[int]) -> None:
    """Adds one histogram's counts to another's."""
    for place, count in enumerate(counts):
        into[place] += count


def cumulative(counts: Sequence[int], bounds: Sequence[float]) -> list[tuple[str, float]]:
    """The buckets as Prometheus wants them: each with the count of all up to its bound."""
    total = 0
    buckets: list[tuple[str, float]] = []
    for bound, count in zip((*(f"{bound:g}" for bound in bounds), "+Inf"), counts, strict=True):
        total += count
        buckets.append((bound, total))
    return buckets


def percentile_ms(counts: Sequence[int], share: float) -> float:
    """The latency below which `share` of the requests lie, by linear interpolation inside its bucket; 0 where there are
    none. At most the last bound."""
    wanted = share * sum(counts)
    if not wanted:
        return 0.0
    below = 0
    for place, count in enumerate(counts):
        if below + count >= wanted:
            low = LATENCY_BOUNDS_MS[place - 1] if place else 0.0
            high = LATENCY_BOUNDS_MS[place] if place < len(LATENCY_BOUNDS_MS) else low
            return low + (high - low) * (wanted - below) / count
        below += count
    return LATENCY_BOUNDS_MS[-1]
