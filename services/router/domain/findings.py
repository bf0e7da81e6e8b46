"""What evidence says of each limit that a version may have to keep. Pure.

A finding compares what was measured with the limit (`within`), and says whether the limit is proven broken (`broken`)
at a level `alpha`, whenever and however often one asks. Rates are compared with the baseline's by one test for both
(`log_evidence_increase`). For quantiles, means of any values, and shares of many classes half of alpha goes to the
bound of the version and half to that of the baseline: both hold at once, and so does what follows from both.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf, log

import numpy as np

from services.router.domain.evidence import MetricSum, VersionEvidence
from services.router.domain.latencies import count_above, count_of, quantile_interval_ms, quantile_ms
from services.router.domain.sequential import (
    Interval,
    is_binary,
    log_evidence_increase,
    mean_interval,
    share_interval,
    shares_high,
    shares_low,
)

ACCURACY = "accuracy"
"""The outcome that ground truth gives."""
_CLASSES_MIN = 10
"""A shift is looked for in every class, and alpha divided by their number. Classes turn up as time goes by, so at least
this many are counted from the beginning."""
_CLASSES_LOOKED_AT = 8
"""Bounds are computed for the classes whose shares moved most; none of the others can be further off."""
_TIE = 1e-12
"""Differences of shares that are equal come out this far apart."""

Finder = Callable[[float, VersionEvidence, VersionEvidence, float], "Finding"]
"""From the limit, the evidence on the version, that on the baseline, and alpha."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What the evidence says of one limit."""

    measured: float
    count: int
    """The samples of the version."""
    low: float
    high: float
    """Where the version's true value lies."""
    within: bool
    """Whether what was measured keeps the limit."""
    broken: bool
    """Whether it is proven that the true value does not."""
    baseline: float = 0.0
    baseline_count: float = inf
    """The samples of the baseline; infinite where it is not asked for."""


def error_rate_max(limit: float, canary: VersionEvidence, _baseline: VersionEvidence, alpha: float) -> Finding:
    """Faults of the platform or the model, of all requests."""
    return _share_max(limit, canary.faults, canary.requests, alpha)


def shadow_disagreement(limit: float, canary: VersionEvidence, _baseline: VersionEvidence, alpha: float) -> Finding:
    """Answers to shadow copies that disagree, of those that were compared."""
    return _share_max(limit, canary.shadows_disagreed, canary.shadows_compared, alpha)


def error_rate_increase(limit: float, canary: VersionEvidence, baseline: VersionEvidence, alpha: float) -> Finding:
    """The error rate less the baseline's."""
    mine = share_interval(canary.faults, canary.requests, alpha)
    rate, base = _share(canary.faults, canary.requests), _share(baseline.faults, baseline.requests)
    return Finding(
        measured=rate,
        count=canary.requests,
        low=mine.low,
        high=mine.high,
        within=rate - base <= limit + _TIE,
        broken=_increased((canary.faults, canary.requests), (baseline.faults, baseline.requests), limit, alpha=alpha),
        baseline=base,
        baseline_count=baseline.requests,
    )


def latency_max(quantile: float) -> Finder:
    """A quantile of the latency of successful requests, in milliseconds."""

    def find(limit: float, canary: VersionEvidence, _baseline: VersionEvidence, alpha: float) -> Finding:
        latencies = canary.latencies
        count, bounds = count_of(latencies), quantile_interval_ms(latencies, quantile, alpha)
        return Finding(
            measured=quantile_ms(latencies, quantile),
            count=count,
            low=bounds.low,
            high=bounds.high,
            # A request in the bucket that the limit lies within counts in favour of the version.
            within=count_above(latencies, limit) <= (1.0 - quantile) * count + _TIE,
            broken=bounds.low >= limit,
        )

    return find


def latency_p95_ratio(limit: float, canary: VersionEvidence, baseline: VersionEvidence, alpha: float) -> Finding:
    """The 95th percentile of the latency, as a multiple of the baseline's."""
    mine = quantile_interval_ms(canary.latencies, 0.95, alpha / 2)
    other = quantile_interval_ms(baseline.latencies, 0.95, alpha / 2)
    measured, base = quantile_ms(canary.latencies, 0.95), quantile_ms(baseline.latencies, 0.95)
    return Finding(
        measured=measured,
        count=count_of(canary.latencies),
        low=mine.low,
        high=mine.high,
        # Equal buckets are equal latencies, whatever rounding makes of their product.
        within=measured <= limit * base * (1.0 + _TIE),
        broken=mine.low > limit * other.high,
        baseline=base,
        baseline_count=count_of(baseline.latencies),
    )


def accuracy_min(limit: float, canary: VersionEvidence, _baseline: VersionEvidence, alpha: float) -> Finding:
    """The share of predictions that ground truth confirms."""
    sample = _outcomes(canary, ACCURACY)
    return _mean_finding(
        sample, mean_interval(sample, alpha, binary=True), within=lambda m: m >= limit, broken=lambda b: b.high < limit
    )


def accuracy_decrease(limit: float, canary: VersionEvidence, baseline: VersionEvidence, alpha: float) -> Finding:
    """The baseline's accuracy less the version's."""
    sample, other = _outcomes(canary, ACCURACY), _outcomes(baseline, ACCURACY)
    wrong = [(round(one.count - one.total), one.count) for one in (sample, other)]
    return _mean_finding(
        sample,
        mean_interval(sample, alpha, binary=True),
        within=lambda mean: mean >= _mean(other) - limit - _TIE,
        broken=lambda _: _increased(wrong[0], wrong[1], limit, alpha=alpha),
        baseline=other,
    )


def metric_min(name: str) -> Finder:
    """The smallest mean of a metric that outcomes report."""

    def find(limit: float, canary: VersionEvidence, baseline: VersionEvidence, alpha: float) -> Finding:
        sample = _outcomes(canary, name)
        bounds = mean_interval(sample, alpha, binary=_binary(name, canary, baseline))
        return _mean_finding(sample, bounds, within=lambda m: m >= limit, broken=lambda b: b.high < limit)

    return find


def metric_max(name: str) -> Finder:
    """The largest mean of a metric that outcomes report."""

    def find(limit: float, canary: VersionEvidence, baseline: VersionEvidence, alpha: float) -> Finding:
        sample = _outcomes(canary, name)
        bounds = mean_interval(sample, alpha, binary=_binary(name, canary, baseline))
        return _mean_finding(sample, bounds, within=lambda m: m <= limit, broken=lambda b: b.low > limit)

    return find


def metric_decrease(name: str) -> Finder:
    """How much lower the mean of a metric is than the baseline's, as a share of that."""

    def find(limit: float, canary: VersionEvidence, baseline: VersionEvidence, alpha: float) -> Finding:
        sample, other = _outcomes(canary, name), _outcomes(baseline, name)
        binary = _binary(name, canary, baseline)
        least = _less(mean_interval(other, alpha / 2, binary=binary).low, limit)
        return _mean_finding(
            sample,
            mean_interval(sample, alpha / 2, binary=binary),
            within=lambda mean: mean >= _less(_mean(other), limit) - _TIE,
            broken=lambda bounds: bounds.high < least,
            baseline=other,
        )

    return find


def prediction_shift(limit: float, canary: VersionEvidence, baseline: VersionEvidence, alpha: float) -> Finding:
    """How far the share of any class is from the baseline's; of confidences where there are no classes."""
    mine, other = canary.by_class, baseline.by_class
    if not mine and not other:
        mine, other = canary.by_confidence, baseline.by_confidence
    classes = sorted({*mine, *other})
    count, baseline_count = sum(mine.values()), sum(other.values())
    if not count or not baseline_count:
        return Finding(0.0, count, 0.0, 1.0, within=True, broken=False, baseline_count=baseline_count)
    hits, base = _by(classes, mine), _by(classes, other)
    shifts = np.abs(hits / count - base / baseline_count)
    most = np.argsort(-shifts)[:_CLASSES_LOOKED_AT]
    # Either side of either share, for every class.
    part = alpha / (4 * max(_CLASSES_MIN, len(classes)))
    low, high = shares_low(hits[most], count, part), shares_high(hits[most], count, part)
    base_low, base_high = shares_low(base[most], baseline_count, part), shares_high(base[most], baseline_count, part)
    proven = float(max(0.0, np.max(np.maximum(low - base_high, base_low - high))))
    return Finding(
        measured=float(shifts.max()),
        count=count,
        low=proven,
        high=float(np.max(np.maximum(high - base_low, base_high - low))),
        within=bool(shifts.max() <= limit + _TIE),
        broken=proven > limit,
        baseline_count=baseline_count,
    )


def _increased(mine: tuple[int, int], other: tuple[int, int], limit: float, *, alpha: float) -> bool:
    """Whether the share of the first, hits of samples, is proven to exceed that of the second by more than `limit`."""
    return float(log_evidence_increase(*mine, *other, limit)) >= -log(alpha)


def _share_max(limit: float, hits: int, count: int, alpha: float) -> Finding:
    bounds, measured = share_interval(hits, count, alpha), _share(hits, count)
    return Finding(measured, count, bounds.low, bounds.high, within=measured <= limit, broken=bounds.low > limit)


def _mean_finding(
    sample: MetricSum,
    bounds: Interval,
    *,
    within: Callable[[float], bool],
    broken: Callable[[Interval], bool],
    baseline: MetricSum | None = None,
) -> Finding:
    mean = _mean(sample)
    return Finding(
        measured=mean,
        count=sample.count,
        low=bounds.low,
        high=bounds.high,
        within=within(mean),
        broken=broken(bounds),
        baseline=_mean(baseline) if baseline is not None else 0.0,
        baseline_count=baseline.count if baseline is not None else inf,
    )


def _binary(name: str, canary: VersionEvidence, baseline: VersionEvidence) -> bool:
    """Whether a metric has the values 0 and 1 alone, as far as either version shows. One that was always 0 may yet be
    anything, such as what someone paid."""
    samples = [_outcomes(one, name) for one in (canary, baseline)]
    return all(map(is_binary, samples)) and any(sample.total > 0.0 for sample in samples)


def _less(mean: float, share: float) -> float:
    return mean - share * abs(mean) if mean > -inf else -inf


def _outcomes(evidence: VersionEvidence, name: str) -> MetricSum:
    return evidence.outcomes.get(name, MetricSum())


def _mean(sample: MetricSum) -> float:
    return sample.total / sample.count if sample.count else 0.0


def _share(hits: int, count: int) -> float:
    return hits / count if count else 0.0


def _by(classes: list[str], counts: Mapping[str, int]) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    return np.asarray([counts.get(one, 0) for one in classes], dtype=np.float64)
