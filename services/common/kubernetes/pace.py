"""A token bucket: how long who wants to call has to wait so that calls stay within a rate."""

from dataclasses import dataclass


@dataclass(slots=True)
class Pace:
    """At most `per_s` calls a second in the long run, and `burst` at once. Seconds of any monotonic clock."""

    per_s: float
    burst: int
    tokens: float
    at_s: float

    def take(self, now_s: float) -> float:
        """Takes one call's turn. In how many seconds it may begin; turns are given in the order in which they are
        taken."""
        self.tokens = min(float(self.burst), self.tokens + (now_s - self.at_s) * self.per_s)
        self.at_s = now_s
        self.tokens -= 1.0
        return max(0.0, -self.tokens / self.per_s)
