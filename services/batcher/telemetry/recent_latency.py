"""The latency of versions since it was last asked for, out of the counts that metrics have anyway."""

from collections.abc import Callable, Iterable, Mapping

from services.batcher.telemetry.buckets import percentile_ms
from services.batcher.telemetry.version_stats import VersionStats

VersionKey = tuple[str, str]


class RecentLatency:
    """Of versions that are asked about. One that was not asked about the last time is known from the next time on: its
    counts since whenever that was would say little about now."""

    def __init__(self, *, stats: Callable[[str, str], VersionStats | None], settle: Callable[[], None]) -> None:
        """`stats` finds the counts of a model's version; `settle` has counted whatever was only noted so far."""
        self._stats = stats
        self._settle = settle
        self._before: dict[VersionKey, list[int]] = {}

    def p95_ms(self, keys: Iterable[VersionKey]) -> Mapping[VersionKey, float]:
        """The 95th percentile of each, errors and cached answers included; 0 where nothing was answered. Those that are
        not known are left out."""
        self._settle()
        found = {key: self._stats(*key) for key in keys}
        now = {key: list(stats.latency) for key, stats in found.items() if stats is not None}
        before, self._before = self._before, now
        return {
            key: percentile_ms([count - then for count, then in zip(counts, before[key], strict=True)], 0.95)
            for key, counts in now.items()
            if key in before
        }
