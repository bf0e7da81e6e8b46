"""How much versions are asked for: what one batcher tells the deployer, window by window.

A window that could not be told is added to the next one. The wire allows a window of 60 s, so of a longer one as much
is told as falls to 60 s: the pace stays what it was, and no version that was asked for is left out.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

WINDOW_MAX_S = 60.0
VERSIONS_MAX = 10_000
"""Of windows that could not be told, so many versions are remembered; beyond it those of the newest window alone."""
COUNT_MAX = 2**32 - 1
"""The largest count that the wire takes."""


@dataclass(frozen=True, slots=True)
class Demand:
    """Of one version in one window. Shadow copies and what was refused or answered from the cache do not count."""

    model_name: str
    version: str
    requests: int = 0
    """That came in the window."""
    rows: int = 0
    in_flight: int = 0
    """Requests at model servers at the end of the window; each part of one that was split counts."""
    queued: int = 0
    """Requests that waited then."""
    waited_max_s: float = 0.0
    """The longest wait in the queue of a request that somebody waits for, batch jobs' rows not."""
    p95_ms: float = 0.0
    """Latency at the 95th percentile. 0: not known, or nothing was answered."""

    @property
    def key(self) -> tuple[str, str]:
        """Model name and version."""
        return (self.model_name, self.version)


class Untold:
    """What the deployer has not been told yet."""

    def __init__(self) -> None:
        self.window_s = 0.0
        """The time that it covers; at most WINDOW_MAX_S."""
        self._by_version: dict[tuple[str, str], Demand] = {}

    @property
    def demands(self) -> Iterable[Demand]:
        """Of each version."""
        return self._by_version.values()

    def add(self, demands: Iterable[Demand], seconds: float) -> None:
        """One more window."""
        newest = {demand.key: demand for demand in demands}
        seconds_all = self.window_s + seconds
        share = min(1.0, WINDOW_MAX_S / seconds_all) if seconds_all > 0 else 1.0
        self.window_s = min(WINDOW_MAX_S, seconds_all)
        older = self._by_version if len(self._by_version | newest) <= VERSIONS_MAX else {}
        self._by_version = {key: _sum(older.get(key), newest.get(key), key, share=share) for key in (older | newest)}

    def clear(self) -> None:
        """All was told."""
        self.window_s = 0.0
        self._by_version = {}


def _sum(older: Demand | None, newer: Demand | None, key: tuple[str, str], *, share: float) -> Demand:
    """Both windows in one: `share` of what came in them, and what there is at the end of the newer."""
    before, now = older or Demand(*key), newer or Demand(*key)
    return replace(
        now,
        requests=_shared(before.requests + now.requests, share),
        rows=_shared(before.rows + now.rows, share),
        waited_max_s=max(before.waited_max_s, now.waited_max_s),
        p95_ms=max(before.p95_ms, now.p95_ms),
    )


def _shared(count: int, share: float) -> int:
    if share < 1.0 and count:
        count = max(1, round(count * share))
    return min(count, COUNT_MAX)
