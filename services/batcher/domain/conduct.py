"""What a place did lately, and whether it is ejected for it: counts of batches, no clock and no neighbours."""

from dataclasses import dataclass
from math import inf

_WEIGHT = 0.1
"""Of the newest batch in the share of failures: about the last twenty count."""


@dataclass(frozen=True, slots=True)
class EjectionRules:
    """When a place is set aside and for how long."""

    failures_in_a_row: int = 5
    """Batches that failed one after another."""
    share: float = 0.5
    """The share of failed batches among the last twenty or so."""
    share_batches_min: int = 10
    """Batches before the share says anything."""
    slow_in_a_row: int = 5
    """Batches that were slow one after another: one that stood still once is no reason."""
    slow_times: float = 5.0
    """A batch is slow where it takes this many times the median of the other places' usual time,"""
    slow_over_s: float = 0.05
    """and at least this much longer: below it nobody notices."""
    time_min_s: float = 2.0
    """How long the first ejection lasts; it doubles with each one."""
    time_max_s: float = 60.0
    """The longest ejection. A place that has been back for as long begins anew."""


class Conduct:
    """The record of one place."""

    __slots__ = (
        "back_s",
        "batches",
        "ejected",
        "failed_in_a_row",
        "failed_share",
        "reason",
        "slow_in_a_row",
        "times",
        "total",
        "until_s",
    )

    def __init__(self) -> None:
        self.ejected = False
        """Set aside: until `until_s` it gets nothing, then one batch alone decides whether it returns."""
        self.until_s = -inf
        self.back_s = -inf
        """When it last returned."""
        self.times = 0
        """Ejections since it last behaved for long."""
        self.total = 0
        """All ejections."""
        self.reason = ""
        """Why it was last ejected, for people."""
        self._forget()

    def _forget(self) -> None:
        self.batches = 0
        self.failed_in_a_row = 0
        self.slow_in_a_row = 0
        self.failed_share = 0.0

    def answered(self, *, slow: bool) -> None:
        """A batch was answered."""
        self.batches += 1
        self.failed_in_a_row = 0
        self.failed_share -= _WEIGHT * self.failed_share
        self.slow_in_a_row = self.slow_in_a_row + 1 if slow else 0

    def failed(self) -> None:
        """A batch failed in a way that may be the place's fault."""
        self.batches += 1
        self.failed_in_a_row += 1
        self.failed_share += _WEIGHT * (1.0 - self.failed_share)

    def on_trial(self, now_s: float) -> bool:
        """Whether its time is over and a batch may show how it does."""
        return self.ejected and self.until_s <= now_s

    def eject(self, now_s: float, reason: str, rules: EjectionRules) -> None:
        """Sets it aside, for twice as long as the last time."""
        if not self.ejected and now_s - self.back_s > rules.time_max_s:
            self.times = 0
        self.until_s = now_s + min(rules.time_max_s, rules.time_min_s * 2 ** min(self.times, 16))
        self.times += 1
        self.total += 1
        self.ejected = True
        self.reason = reason

    def restore(self, now_s: float) -> None:
        """Lets it return with a clean record; how often it was ejected is remembered."""
        self.ejected = False
        self.back_s = now_s
        self._forget()
