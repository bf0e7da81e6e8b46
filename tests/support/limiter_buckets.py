"""A store of buckets in memory, which passes the same tests as the one in Redis."""

from collections.abc import Callable

from services.limiter.domain.buckets import Decision, Limit, bucket_of, decide


class MemoryBuckets:
    """A `BucketStore` by a clock of the test's own, in seconds."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._full_at_s: dict[str, float] = {}

    async def take(self, key: str, limit: Limit, hits: int) -> Decision:
        """Lets a call through or not."""
        bucket = bucket_of(key, limit)
        decision = decide(limit, self._full_at_s.get(bucket), self._now_s(), hits)
        self._full_at_s[bucket] = decision.full_at_s
        return decision
