"""What logarithmic buckets of latencies tell: quantiles, and bounds of them that hold however often one looks.

A quantile is above a limit exactly where more than its share of requests is: the 95th percentile is above 100 ms where
more than 5 % take longer than that. So what `sequential` says of shares it says of quantiles, without a word about how
latencies are distributed; see also Howard and Ramdas, "Sequential estimation of quantiles with applications to A/B
testing and best-arm identification", Bernoulli 28(3) (2022). The number of requests above a bound only falls with the
bound, and so one sequence holds for all bounds at once.
"""

from math import inf, log

import numpy as np

from services.router.domain.evidence import Latencies
from services.router.domain.sequential import Interval, log_evidence_above, log_evidence_below


def count_of(latencies: Latencies) -> int:
    """How many requests there are."""
    return sum(latencies.counts.values())


def count_above(latencies: Latencies, limit_ms: float) -> int:
    """How many took longer than `limit_ms` for certain: a bucket that the limit lies within counts as not longer."""
    # Bucket i begins at growth^(i-1) µs. The slack takes back what the logarithm is off by at a bucket's bound.
    first = log(limit_ms * 1000.0) / log(latencies.growth) + 1.0 - 1e-9 if limit_ms > 0.0 else 0.0
    return sum(count for bucket, count in latencies.counts.items() if bucket >= max(first, 1.0))


def quantile_ms(latencies: Latencies, quantile: float) -> float:
    """The quantile in milliseconds: the middle of its bucket. 0 where nothing was measured."""
    left = quantile * count_of(latencies)
    bucket = 0
    for bucket, count in sorted(latencies.counts.items()):  # noqa: B007 - the last one is the answer
        left -= count
        if left <= 0.0:
            break
    else:
        if not latencies.counts:
            return 0.0
    return _upper_ms(latencies, bucket) / (latencies.growth**0.5 if bucket else 1.0)


def quantile_interval_ms(latencies: Latencies, quantile: float, alpha: float) -> Interval:
    """The quantile in milliseconds between its sequences; each end fails with a probability of at most `alpha`. The
    upper end is infinite while too few requests were measured for one."""
    count = count_of(latencies)
    if not count:
        return Interval(0.0, inf)
    buckets = sorted(bucket for bucket, one in latencies.counts.items() if one)
    # Between buckets that hold something nothing changes: bounds need to be looked for only where one begins or ends.
    bounds = np.unique(np.asarray([bound for bucket in buckets for bound in (max(bucket - 1, 0), bucket)]))
    held = np.asarray([latencies.counts[bucket] for bucket in buckets], dtype=np.float64)
    from_top = np.append(np.cumsum(held[::-1])[::-1], 0.0)
    above = from_top[np.searchsorted(np.asarray(buckets), bounds, side="right")]
    share = 1.0 - quantile
    longer = bounds[log_evidence_above(above, count, share) >= -log(alpha)]
    shorter = bounds[log_evidence_below(above, count, share) >= -log(alpha)]
    return Interval(
        _upper_ms(latencies, int(longer.max())) if longer.size else 0.0,
        _upper_ms(latencies, int(shorter.min())) if shorter.size else inf,
    )


def _upper_ms(latencies: Latencies, bucket: int) -> float:
    return latencies.growth**bucket / 1000.0
