"""What the limiter needs of the world."""

from typing import Protocol

from services.limiter.domain.buckets import Decision, Limit


class BucketStore(Protocol):
    """Where buckets are kept for all gateways."""

    async def take(self, key: str, limit: Limit, hits: int) -> Decision:
        """Lets a call through or not, as `domain.buckets.decide` does, and keeps what came of it, in one step.

        Raises DEPENDENCY_UNAVAILABLE where the store does not answer at once.
        """
        ...
