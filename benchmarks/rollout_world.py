"""Rollouts played through by chance, thousands at once: how often is a good version taken back, how soon a bad one?

Every run is a whole rollout that is looked at after every few requests. Tests are those of `services.router.domain`,
over arrays of runs; a test holds them against `judged` on the same figures.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import log

import numpy as np
from numpy.typing import NDArray
from scipy import special

from services.router.domain.sequential import Floats, log_evidence_above, log_evidence_below, log_evidence_increase

ROLLOUT_ALPHA = 0.01
"""What a whole rollout may be wrong by."""
P95_SHARE = 0.05
"""The share of requests above the 95th percentile."""
TAILS = (0.1, 0.07, P95_SHARE, 0.035, 0.02)
"""The shares of requests that take longer than each of five bounds of latency; the limit is the bound of 5 %."""
LIMIT_PLACE = TAILS.index(P95_SHARE)

Flags = NDArray[np.bool_]
Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What a version does."""

    error_rate: float = 0.01
    tails: Sequence[float] = TAILS
    """The shares of its requests that take longer than each bound."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What is judged; each that is set is one limit. Absent ones are not."""

    error_rate_max: float | None = None
    p95_max: bool = False
    """That the 95th percentile is at most the bound of `LIMIT_PLACE`."""
    error_rate_increase_max: float | None = None
    p95_ratio_max: bool = False
    """That it is at most the baseline's (a ratio of 1)."""

    @property
    def count(self) -> int:
        """How many there are."""
        return sum(
            (
                self.error_rate_max is not None,
                self.p95_max,
                self.error_rate_increase_max is not None,
                self.p95_ratio_max,
            )
        )

    @property
    def absolute(self) -> "Limits":
        """Those that need no baseline."""
        return Limits(error_rate_max=self.error_rate_max, p95_max=self.p95_max)


@dataclass(slots=True)
class Tally:
    """What one version did so far, in every run."""

    runs: int
    requests: int = 0
    faults: Counts = field(init=False)
    above: Counts = field(init=False)
    """By run and bound: how many requests took longer."""

    def __post_init__(self) -> None:
        self.faults = np.zeros(self.runs, dtype=np.int64)
        self.above = np.zeros((self.runs, len(TAILS)), dtype=np.int64)

    def serve(self, behaviour: Behaviour, requests: int, random: np.random.Generator, *, timed: bool) -> None:
        """More requests in every run. Latencies are of all requests, which is as near as errors are rare."""
        if not requests:
            return
        self.requests += requests
        self.faults += random.binomial(requests, behaviour.error_rate, len(self.faults))
        if not timed:
            return
        shares = -np.diff([1.0, *behaviour.tails, 0.0])
        held = random.multinomial(requests, shares, len(self.faults))
        # Requests in the bins beyond a bound are above it.
        self.above += held[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]

    def keep(self, which: Flags) -> None:
        """Goes on with these runs alone."""
        self.faults, self.above = self.faults[which], self.above[which]


@dataclass(frozen=True, slots=True)
class Found:
    """When each run was found to break a limit."""

    at: Counts
    """After how many of the canary's requests; 0: never."""

    @property
    def share(self) -> float:
        """The share of runs that were."""
        return float(np.mean(self.at > 0))

    def within(self, share: float) -> float:
        """The number of requests within which `share` of the runs were found; infinite where fewer ever were."""
        when = np.where(self.at > 0, self.at.astype(np.float64), np.inf)
        return float(np.quantile(when, share, method="higher"))


def rollouts(
    canary: Behaviour,
    baseline: Behaviour,
    limits: Limits,
    *,
    runs: int,
    seed: int,
    stages: Sequence[int] = (1, 10, 50, 100),
    stage_requests: int = 2000,
    look_every: int = 10,
    requests_min: int = 100,
) -> Found:
    """Whole rollouts: in each stage the canary gets `stage_requests`, and is looked at after every `look_every`. At
    100 % there is no baseline, so limits that are relative to it are not judged."""
    random = np.random.default_rng(seed)
    at, left = np.zeros(runs, dtype=np.int64), np.arange(runs)
    timed = limits.p95_max or limits.p95_ratio_max
    for number, percent in enumerate(stages):
        judged = limits if percent < 100 else limits.absolute
        mine, other = Tally(len(left)), Tally(len(left))
        for _ in range(stage_requests // look_every):
            mine.serve(canary, look_every, random, timed=timed)
            if percent < 100:
                other.serve(baseline, round(look_every * (100 - percent) / percent), random, timed=timed)
            if mine.requests >= requests_min and (percent == 100 or other.requests >= requests_min):
                broken = breached(judged, mine, other, alpha=ROLLOUT_ALPHA / len(stages))
                at[left[broken]] = number * stage_requests + mine.requests
                left = left[~broken]
                mine.keep(~broken)
                other.keep(~broken)
    return Found(at)


def breached(limits: Limits, mine: Tally, other: Tally, *, alpha: float) -> Flags:
    """In which runs a limit is proven broken now."""
    if not limits.count:
        return np.zeros(len(mine.faults), dtype=np.bool_)
    part = alpha / limits.count
    broken = np.zeros(len(mine.faults), dtype=np.bool_)
    if limits.error_rate_max is not None:
        broken |= proven_above(mine.faults, mine.requests, limits.error_rate_max, part)
    if limits.p95_max:
        broken |= proven_above(mine.above[:, LIMIT_PLACE], mine.requests, P95_SHARE, part)
    if limits.error_rate_increase_max is not None:
        broken |= _rate_increased(mine, other, limits.error_rate_increase_max, part)
    if limits.p95_ratio_max:
        above = proven_above(mine.above, mine.requests, P95_SHARE, part / 2)
        below = _proven_below(other.above, other.requests, P95_SHARE, part / 2)
        # The canary's percentile is above one bound, the baseline's below a lower one.
        broken |= np.any(above[:, 1:] & np.logical_or.accumulate(below, axis=1)[:, :-1], axis=1)
    return broken


def proven_above(hits: Counts, count: int, limit: float, alpha: float) -> Flags:
    """Where `log_evidence_above` proves a share above the limit. It is computed only where it can: no mixture of
    likelihood ratios exceeds the largest of them."""
    proven = (hits > limit * count) & (_largest_ratio(hits, count, limit) >= -log(alpha))
    proven[proven] = log_evidence_above(hits[proven], count, limit) >= -log(alpha)
    return proven


def _proven_below(hits: Counts, count: int, limit: float, alpha: float) -> Flags:
    proven = (hits < limit * count) & (_largest_ratio(hits, count, limit) >= -log(alpha))
    proven[proven] = log_evidence_below(hits[proven], count, limit) >= -log(alpha)
    return proven


def _rate_increased(mine: Tally, other: Tally, limit: float, alpha: float) -> Flags:
    # Nothing is proven within two standard errors.
    rate, base = mine.faults / mine.requests, other.faults / other.requests
    error = np.sqrt(rate * (1 - rate) / mine.requests + base * (1 - base) / other.requests)
    broken: Flags = rate - base > limit + 2.0 * error
    faults, base_faults = mine.faults[broken], other.faults[broken]
    evidence = log_evidence_increase(faults, mine.requests, base_faults, other.requests, limit)
    broken[broken] = evidence >= -log(alpha)
    return broken


def _largest_ratio(hits: Counts, count: int, limit: float) -> Floats:
    share = hits / count
    return np.asarray(special.xlogy(hits, share / limit) + special.xlogy(count - hits, (1.0 - share) / (1.0 - limit)))
