"""What became of shadow copies: counts that only grow for each shadow version, and sums since the last report for each
pair of a shadow version and a version that answered callers."""

from dataclasses import dataclass, field

from services.common.errors import Reason

EXAMPLES_MAX = 3
"""Disagreements that a report shows of each pair."""


@dataclass(frozen=True, slots=True)
class Example:
    """A request that two versions answered differently."""

    request_id: str
    answered_s: float
    """When the caller was answered, on the monotonic clock."""
    row: int
    primary_output: str
    shadow_output: str
    difference: float


@dataclass(slots=True)
class PairSums:
    """Of one pair, since they were last reported."""

    compared: int = 0
    disagreed: int = 0
    failed: dict[Reason, int] = field(default_factory=dict)
    dropped: int = 0
    examples: list[Example] = field(default_factory=list)

    @property
    def wants_example(self) -> bool:
        """Whether there is room for one more."""
        return len(self.examples) < EXAMPLES_MAX

    def fail(self, reason: Reason) -> None:
        """A copy was not answered."""
        self.failed[reason] = self.failed.get(reason, 0) + 1


@dataclass(slots=True)
class CopyCounts:
    """Of one shadow version since the start. They only grow."""

    answered: int = 0
    disagreed: int = 0
    """Of those that were answered."""
    failed: int = 0
    dropped: int = 0
    """Never sent: too many were on their way, or nothing was idle for too long."""

    @property
    def sent(self) -> int:
        """Those that are not on their way any more."""
        return self.answered + self.failed
