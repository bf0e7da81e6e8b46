"""A rate limit as a bucket that is filled at intervals, which is how gateways keep one."""

import math
from dataclasses import dataclass

_INTERVAL_MIN_S = 0.05
"""Gateways fill buckets no more often."""
_TOKENS_MAX = 2**31


@dataclass(frozen=True, slots=True)
class Bucket:
    """`tokens` are added every `interval_s`, up to `most`; a request takes one."""

    most: int
    tokens: int
    interval_s: float


def bucket_of(requests_per_sec: float, burst: float) -> Bucket | None:
    """The bucket of a limit; None where there is none (a rate of 0). A burst of 0 is as many as come in a second, at
    least one. In the long run exactly `requests_per_sec` pass; no fill is larger than it must be, so that what passes
    is spread over the second."""
    if requests_per_sec <= 0:
        return None
    tokens = max(1, math.ceil(requests_per_sec * _INTERVAL_MIN_S))
    most = math.floor(burst if burst > 0 else requests_per_sec)
    return Bucket(min(max(most, tokens, 1), _TOKENS_MAX), min(tokens, _TOKENS_MAX), tokens / requests_per_sec)
