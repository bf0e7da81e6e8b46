"""What forgetting jobs needs from outside."""

from collections.abc import Callable, Sequence
from typing import Protocol

from services.batch.ports import Leftover


class Attic(Protocol):
    """What is old enough to be forgotten. Raises StoreAwayError."""

    async def ended_before(self, *, age_s: float, limit: int) -> Sequence[Leftover]:
        """Jobs that ended so many seconds ago or earlier, the oldest first."""
        ...

    async def forget(self, job_id: str, *, age_s: float, discard: Callable[[], None]) -> bool:
        """Calls `discard` and forgets the job with all its rows, while nobody can begin it again. False: it is gone, or
        not so old any more."""
        ...

    async def forget_letters(self, *, age_s: float, limit: int) -> int:
        """Forgets notifications whose story ended so long ago; how many, at most `limit`."""
        ...
