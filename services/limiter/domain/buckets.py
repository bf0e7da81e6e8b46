"""A token bucket in one number: the generic cell rate algorithm (ITU-T I.371, "virtual scheduling").

The number is the moment at which the bucket would be full again if nobody called ("theoretical arrival time"). A call
that costs `hits` tokens moves it on by as many times the time that a token takes; it is refused where that would put it
further ahead of now than a full bucket is worth. So there is no clock that fills buckets, and a refused call costs
nothing.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limit:
    """`rate` calls a second in the long run, `burst` at once. Both more than 0."""

    rate: float
    burst: float

    @property
    def token_s(self) -> float:
        """How long a token takes."""
        return 1 / self.rate

    @property
    def full_s(self) -> float:
        """How long an empty bucket takes to fill."""
        return self.burst / self.rate


@dataclass(frozen=True, slots=True)
class Decision:
    """What came of a call."""

    allowed: bool
    full_at_s: float
    """The number to keep, in seconds."""
    retry_after_s: float = 0.0
    """When the same call would be let through if nobody else called; 0 where it was."""


def decide(limit: Limit, full_at_s: float | None, now_s: float, hits: int = 1) -> Decision:
    """Lets a call through or not. `full_at_s` is the number that was kept; None: none was, the bucket is full.

    A call that asks for more than a whole bucket holds waits for a full one.
    """
    kept_s = max(full_at_s if full_at_s is not None else now_s, now_s)
    cost_s = min(hits, limit.burst) * limit.token_s
    ahead_s = kept_s + cost_s - now_s
    # Sums of floating numbers: a billionth of a bucket is no reason to refuse.
    if ahead_s <= limit.full_s * (1 + 1e-9):
        return Decision(True, kept_s + cost_s)
    return Decision(False, kept_s, ahead_s - limit.full_s)


def bucket_of(caller: str, limit: Limit) -> str:
    """The name of a caller's bucket. Whoever gets another limit begins with a full bucket: by the old rate it might
    have to wait for hours."""
    return f"{caller}:{limit.rate:g}:{limit.burst:g}"


def limit_of(requests_per_sec: float, burst: float) -> Limit | None:
    """The limit that a team or key has; None where it has none. A burst of 0 is as many as come in a second, at least
    one."""
    if requests_per_sec <= 0:
        return None
    return Limit(requests_per_sec, max(burst if burst > 0 else requests_per_sec, 1.0))
