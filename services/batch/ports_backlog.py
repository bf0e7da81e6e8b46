"""What watching the backlog needs from outside."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Backlog:
    """What has not ended, over all processes."""

    pending: int = 0
    """Jobs that wait for somebody to carry them."""
    running: int = 0
    paused: int = 0
    chunks_leased: int = 0
    """Chunks of running jobs that a worker does now."""
    chunks_waiting: int = 0
    """Chunks of running jobs that nobody does."""


class BacklogReader(Protocol):
    """Counts what has not ended. Raises StoreAwayError."""

    async def backlog(self) -> Backlog:
        """As it is now."""
        ...


class BacklogBoard(Protocol):
    """Shows it. Never fails and never waits."""

    def backlog(self, backlog: Backlog) -> None:
        """Replaces what is shown."""
        ...
