"""What an A/B test shows: each version's figures, each comparison with the control, and what may be concluded. Pure.

Whoever looks before the planned end may look again, so verdicts then go by intervals that hold at all times together
(`sequential`, Bonferroni's part of 5 % for each comparison). At the planned end there is one look, and verdicts go by
the tests for that (`fixed_horizon`, Holm's correction). Both intervals are always shown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from math import inf, log

from services.router.domain.ab_test import ACCURACY, ERROR_RATE, LATENCY, AbTestPlan
from services.router.domain.criteria import UNBOUNDED
from services.router.domain.evidence import Evidence, MetricSum, VersionEvidence
from services.router.domain.fixed_horizon import (
    CONFIDENCE,
    RATIO_ALPHA,
    Comparison,
    holm,
    sample_ratio_evidence,
    sample_ratio_p_value,
    two_proportions,
    welch,
)
from services.router.domain.latencies import quantile_ms
from services.router.domain.sequential import Interval, is_binary, mean_radius, variance

SAMPLES_MIN = 1000
"""Of each side, before anything is said of a comparison."""
BEST_AT = 20_000.0
"""The number of samples, of both sides together, at which intervals that hold at all times are tightest."""
_DROPPED_MAX = 0.05
"""The share of requests that batchers may have dropped from their log before nothing is concluded from the rest."""
_NOTHING = Comparison(0.0, -UNBOUNDED, UNBOUNDED, 1.0, 0.0)
_LOWER_IS_BETTER = (LATENCY, ERROR_RATE)


class Verdict(StrEnum):
    """What a comparison says of a version."""

    BETTER = "better"
    WORSE = "worse"
    NO_DIFFERENCE = "no_difference"
    WAITING = "waiting"


class Basis(StrEnum):
    """How verdicts were reached."""

    FIXED_HORIZON = "fixed_horizon"
    SEQUENTIAL = "sequential"


class Outcome(StrEnum):
    """What came of a test."""

    WAITING = "waiting"
    WINNER = "winner"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Arm:
    """What one version did."""

    version: str
    request_count: int = 0
    error_rate: float = 0.0
    latency_avg_ms: float = 0.0
    latency_p95_ms: float = 0.0
    outcomes: Mapping[str, float] = field(default_factory=dict)
    outcome_counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Compared:
    """A version against the control by one metric; differences are version minus control."""

    metric: str
    version: str
    test: str
    """"welch_t" or "two_proportion_z"."""
    control_samples: int
    version_samples: int
    control_value: float
    version_value: float
    difference_low: float
    difference_high: float
    p_value: float
    p_value_adjusted: float
    effect_size: float
    sequential_low: float
    sequential_high: float
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class AbTestResults:
    """What a test shows."""

    control: str
    arms: tuple[Arm, ...] = ()
    comparisons: tuple[Compared, ...] = ()
    winner: str = ""
    conclusion: str = ""
    as_of: datetime | None = None
    outcome: Outcome = Outcome.WAITING
    sample_ratio_p_value: float = 1.0
    sample_ratio_mismatch: bool = False
    basis: Basis = Basis.SEQUENTIAL
    spoilt: str = ""
    """Why nothing can be concluded, whatever the figures; empty: something can."""


def results_of(plan: AbTestPlan, evidence: Evidence, *, over: bool) -> AbTestResults:
    """What the test shows while it runs. `over`: its planned time is, so this is the one look that was planned."""
    basis = Basis.FIXED_HORIZON if over else Basis.SEQUENTIAL
    by_version = {version: evidence.versions.get(version, VersionEvidence(version)) for version in plan.versions}
    requests = {version: one.requests for version, one in by_version.items()}
    p_value = sample_ratio_p_value(requests, plan.versions)
    mismatch = p_value < RATIO_ALPHA and (over or sample_ratio_evidence(requests, plan.versions) >= -log(RATIO_ALPHA))
    results = AbTestResults(
        control=plan.control,
        arms=tuple(_arm(by_version[version]) for version in (plan.control, *plan.others)),
        comparisons=_compared_all(plan, by_version, basis),
        as_of=evidence.window_end,
        sample_ratio_p_value=p_value,
        sample_ratio_mismatch=mismatch,
        basis=basis,
    )
    spoilt = _mismatched(p_value) if mismatch else _incomplete(evidence.dropped, sum(requests.values()))
    results = replace(results, spoilt=spoilt, winner="" if spoilt else _winner(plan, results.comparisons))
    return replace(results, conclusion=_running_sentence(plan, results))


def ended(plan: AbTestPlan, results: AbTestResults) -> AbTestResults:
    """`results` as the last that the test shows."""
    outcome = Outcome.WINNER if results.winner else Outcome.INCONCLUSIVE
    return replace(results, outcome=outcome, conclusion=_sentence(plan, results))


def _arm(evidence: VersionEvidence) -> Arm:
    moments = evidence.latencies.moments_ms
    return Arm(
        version=evidence.version,
        request_count=evidence.requests,
        error_rate=evidence.faults / evidence.requests if evidence.requests else 0.0,
        latency_avg_ms=_mean(moments),
        latency_p95_ms=quantile_ms(evidence.latencies, 0.95),
        outcomes={name: _mean(sample) for name, sample in sorted(evidence.outcomes.items())},
        outcome_counts={name: sample.count for name, sample in sorted(evidence.outcomes.items())},
    )


def _compared_all(plan: AbTestPlan, by_version: Mapping[str, VersionEvidence], basis: Basis) -> tuple[Compared, ...]:
    pairs = [(metric, version) for metric in plan.metrics for version in plan.others]
    rows = [_compared(plan, metric, version, by_version, part=1.0 / len(pairs)) for metric, version in pairs]
    # Comparisons that wait are counted too: as many were planned.
    adjusted = holm([1.0 if row.verdict is Verdict.WAITING else row.p_value for row in rows])
    rows = [replace(row, p_value_adjusted=value) for row, value in zip(rows, adjusted, strict=True)]
    return tuple(replace(row, verdict=_verdict(row, basis)) for row in rows)


def _compared(
    plan: AbTestPlan, metric: str, version: str, by_version: Mapping[str, VersionEvidence], *, part: float
) -> Compared:
    control, other = _sample(by_version[plan.control], metric), _sample(by_version[version], metric)
    # Every version has a say in what values the metric takes.
    shares = metric in (ERROR_RATE, ACCURACY) or (
        metric != LATENCY and all(is_binary(_sample(one, metric)) for one in by_version.values())
    )
    enough = min(control.count, other.count) >= SAMPLES_MIN
    # Figures are shown early; it is the verdict that waits.
    shown = min(control.count, other.count) >= 2
    found = (two_proportions if shares else welch)(control, other) if shown else _NOTHING
    bounds = _always(control, other, shares=shares, alpha=(1.0 - CONFIDENCE) * part) if enough else Interval(-inf, inf)
    return Compared(
        metric=metric,
        version=version,
        test="two_proportion_z" if shares else "welch_t",
        control_samples=control.count,
        version_samples=other.count,
        control_value=_mean(control),
        version_value=_mean(other),
        difference_low=found.low,
        difference_high=found.high,
        p_value=found.p_value,
        p_value_adjusted=1.0,
        effect_size=found.effect_size,
        sequential_low=max(bounds.low, -UNBOUNDED),
        sequential_high=min(bounds.high, UNBOUNDED),
        verdict=Verdict.NO_DIFFERENCE if enough else Verdict.WAITING,
    )


def _always(control: MetricSum, other: MetricSum, *, shares: bool, alpha: float) -> Interval:
    """The interval of the difference that holds at all times together, from `SAMPLES_MIN` samples a side on."""
    spread = _binary_variance if shares else variance
    squared_error = spread(control) / control.count + spread(other) / other.count
    if squared_error <= 0.0:
        return Interval(-inf, inf)
    difference = _mean(other) - _mean(control)
    radius = mean_radius(squared_error, control.count + other.count, alpha, best_at=BEST_AT)
    return Interval(difference - radius, difference + radius)


def _binary_variance(sample: MetricSum) -> float:
    # One more of each: where nothing has failed yet, something may.
    share = (sample.total + 1.0) / (sample.count + 2.0)
    return share * (1.0 - share)


def _verdict(row: Compared, basis: Basis) -> Verdict:
    if row.verdict is Verdict.WAITING:
        return row.verdict
    if basis is Basis.FIXED_HORIZON:
        significant = row.p_value_adjusted < 1.0 - CONFIDENCE
        larger = row.version_value > row.control_value
    else:
        significant = row.sequential_low > 0.0 or row.sequential_high < 0.0
        larger = row.sequential_low > 0.0
    if not significant:
        return Verdict.NO_DIFFERENCE
    return Verdict.WORSE if larger == (row.metric in _LOWER_IS_BETTER) else Verdict.BETTER


def _winner(plan: AbTestPlan, comparisons: Sequence[Compared]) -> str:
    """By the first metric: the best of those that are better than the control; the control where all are worse."""
    rows = [row for row in comparisons if row.metric == plan.metrics[0]]
    sign = -1.0 if plan.metrics[0] in _LOWER_IS_BETTER else 1.0
    better = [row for row in rows if row.verdict is Verdict.BETTER]
    if better:
        return max(better, key=lambda row: sign * row.version_value).version
    return plan.control if all(row.verdict is Verdict.WORSE for row in rows) else ""


def _running_sentence(plan: AbTestPlan, results: AbTestResults) -> str:
    if results.spoilt or results.winner:
        return _sentence(plan, results)
    short = _short(plan, results)
    if short:
        return f"Nothing can be concluded yet: {short}."
    return f"No significant difference in {plan.metrics[0]} so far."


def _sentence(plan: AbTestPlan, results: AbTestResults) -> str:
    metric = plan.metrics[0]
    if results.spoilt:
        return f"Nothing can be concluded: {results.spoilt}."
    if results.winner:
        return f"{results.winner} is significantly better in {metric}{_but(results)}."
    short = _short(plan, results)
    return f"Inconclusive: {short}." if short else f"Inconclusive: no significant difference in {metric}."


def _mismatched(p_value: float) -> str:
    said = f"the shares of requests are not those of the test (p = {p_value:.1g})"
    return f"{said}, so something loses or moves requests"


def _incomplete(dropped: int, seen: int) -> str:
    if dropped <= _DROPPED_MAX * (seen + dropped):
        return ""
    return f"batchers dropped {dropped} requests from their log, and {seen} were seen"


def _but(results: AbTestResults) -> str:
    rows = [row for row in results.comparisons if row.version == results.winner]
    worse = ", ".join(row.metric for row in rows if row.verdict is Verdict.WORSE)
    return f", and worse in {worse}" if worse else ""


def _short(plan: AbTestPlan, results: AbTestResults) -> str:
    """What is missing for the first metric; empty: nothing."""
    rows = [row for row in results.comparisons if row.metric == plan.metrics[0] and row.verdict is Verdict.WAITING]
    if not rows and results.comparisons:
        return ""
    fewest = min((min(row.control_samples, row.version_samples) for row in rows), default=0)
    return f"{fewest} samples of {plan.metrics[0]} where at least {SAMPLES_MIN} a side are needed"


def _sample(evidence: VersionEvidence, metric: str) -> MetricSum:
    if metric == LATENCY:
        return evidence.latencies.moments_ms
    if metric == ERROR_RATE:
        return MetricSum(evidence.requests, float(evidence.faults), float(evidence.faults))
    return evidence.outcomes.get(metric, MetricSum())


def _mean(sample: MetricSum) -> float:
    return sample.total / sample.count if sample.count else 0.0
