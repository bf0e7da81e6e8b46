"""How a version stands against each limit: what is measured, when it is proven, what is missing."""

from math import inf, nan

import pytest

from services.common.errors import MeshError, Reason
from services.router.domain.criteria import (
    UNBOUNDED,
    CriterionResult,
    MetricCriterion,
    SuccessCriteria,
    Verdict,
    judged,
)
from services.router.domain.criteria_checks import check_criteria
from services.router.domain.evidence import Latencies, MetricSum, VersionEvidence

NOTHING = VersionEvidence("v1.0.0")


def binary(count: int, total: int) -> MetricSum:
    return MetricSum(count, float(total), float(total))


def latencies(*, fast: int = 0, slow: int = 0) -> Latencies:
    """Some 21 ms and some 57 ms."""
    return Latencies(1.01, {1000: fast, 1100: slow})


def one(
    criteria: SuccessCriteria, canary: VersionEvidence, baseline: VersionEvidence = NOTHING, alpha: float = 0.0025
) -> CriterionResult:
    (result,) = judged(criteria, canary=canary, baseline=baseline, alpha=alpha)
    return result


@pytest.mark.parametrize(
    ("requests", "faults", "verdict"),
    [
        (99, 0, Verdict.WAITING),  # too few
        (99, 99, Verdict.WAITING),  # too few, however bad
        (100, 100, Verdict.BREACHED),
        (100, 1, Verdict.PASSING),
        (200, 3, Verdict.WAITING),  # 1.5 % may be chance
        (2000, 60, Verdict.BREACHED),
        (10**9, 10**7, Verdict.PASSING),
    ],
)
def test_the_error_rate_is_faults_of_requests(requests: int, faults: int, verdict: Verdict) -> None:
    result = one(SuccessCriteria(error_rate_max=0.01), VersionEvidence("v2.0.0", requests=requests, faults=faults))
    assert result.verdict is verdict
    assert (result.criterion, result.limit, result.request_count) == ("error_rate_max", 0.01, requests)
    assert result.measured == faults / requests
    assert result.low <= result.measured <= result.high


def test_a_canary_without_requests_waits_and_its_results_can_be_written_as_json() -> None:
    criteria = SuccessCriteria(
        error_rate_max=0.01,
        latency_p95_max_ms=100,
        latency_p99_max_ms=200,
        accuracy_min=0.9,
        error_rate_increase_max=0.0,
        latency_p95_ratio_max=1.2,
        accuracy_decrease_max=0.01,
        prediction_shift_max=0.1,
        shadow_disagreement_max=0.05,
        metrics=(MetricCriterion("ctr", min=0.01, max=0.5, decrease_max=0.1),),
    )
    results = judged(criteria, canary=NOTHING, baseline=NOTHING, alpha=0.0025)
    assert [result.criterion for result in results] == list(criteria.limits)
    assert [result.criterion for result in results][-3:] == [
        "metrics.ctr.min",
        "metrics.ctr.max",
        "metrics.ctr.decrease_max",
    ]
    assert all(result.verdict is Verdict.WAITING and result.measured == 0.0 for result in results)
    assert all(abs(value) <= UNBOUNDED for result in results for value in (result.low, result.high))
    assert list(criteria.absolute.limits) == [
        "error_rate_max",
        "latency_p95_max_ms",
        "latency_p99_max_ms",
        "accuracy_min",
        "shadow_disagreement_max",
        "metrics.ctr.min",
        "metrics.ctr.max",
    ]


@pytest.mark.parametrize(
    ("fast", "slow", "verdict"),
    [
        (90, 9, Verdict.WAITING),
        (970, 30, Verdict.PASSING),
        (944, 56, Verdict.WAITING),
        (850, 150, Verdict.BREACHED),
        (0, 100, Verdict.BREACHED),
    ],
)
def test_a_latency_limit_is_a_limit_of_the_share_that_takes_longer(fast: int, slow: int, verdict: Verdict) -> None:
    canary = VersionEvidence("v2.0.0", requests=5000, latencies=latencies(fast=fast, slow=slow))
    result = one(SuccessCriteria(latency_p95_max_ms=30.0), canary)
    assert result.verdict is verdict
    assert result.request_count == fast + slow
    assert result.measured == pytest.approx(20.9 if slow <= 0.05 * (fast + slow) else 56.6, rel=0.01)


def test_the_limit_of_the_99th_percentile_is_another() -> None:
    canary = VersionEvidence("v2.0.0", latencies=latencies(fast=9700, slow=300))
    assert one(SuccessCriteria(latency_p95_max_ms=30.0), canary).verdict is Verdict.PASSING
    assert one(SuccessCriteria(latency_p99_max_ms=30.0), canary).verdict is Verdict.BREACHED


def test_a_relative_error_rate_wants_a_baseline_of_the_same_time() -> None:
    criteria = SuccessCriteria(error_rate_increase_max=0.01)
    canary = VersionEvidence("v2.0.0", requests=4000, faults=200)
    assert one(criteria, canary).verdict is Verdict.WAITING
    assert one(criteria, canary, VersionEvidence("v1.0.0", requests=99)).verdict is Verdict.WAITING
    same = VersionEvidence("v1.0.0", requests=40_000, faults=2000)
    assert one(criteria, canary, same).verdict is Verdict.PASSING
    better = VersionEvidence("v1.0.0", requests=40_000, faults=400)
    result = one(criteria, canary, better)
    assert result.verdict is Verdict.BREACHED
    assert (result.measured, result.baseline) == (0.05, 0.01)


def test_a_latency_ratio_is_of_the_95th_percentiles() -> None:
    fast = VersionEvidence("v1.0.0", latencies=latencies(fast=5000))
    slow = VersionEvidence("v2.0.0", latencies=latencies(slow=1000))
    assert one(SuccessCriteria(latency_p95_ratio_max=3.0), slow, fast).verdict is Verdict.PASSING
    result = one(SuccessCriteria(latency_p95_ratio_max=1.2), slow, fast)
    assert result.verdict is Verdict.BREACHED
    assert result.measured / result.baseline == pytest.approx(1.01**100)
    assert one(SuccessCriteria(latency_p95_ratio_max=1.0), fast, fast).verdict is Verdict.PASSING


def test_accuracy_comes_from_outcomes() -> None:
    bad = VersionEvidence("v2.0.0", outcomes={"accuracy": binary(1000, 800)})
    good = VersionEvidence("v1.0.0", outcomes={"accuracy": binary(9000, 8100)})
    assert one(SuccessCriteria(accuracy_min=0.9), bad).verdict is Verdict.BREACHED
    assert one(SuccessCriteria(accuracy_min=0.82), bad).verdict is Verdict.WAITING
    assert one(SuccessCriteria(accuracy_min=0.8), bad).verdict is Verdict.PASSING
    assert one(SuccessCriteria(accuracy_decrease_max=0.02), bad, good).verdict is Verdict.BREACHED
    assert one(SuccessCriteria(accuracy_decrease_max=0.1), bad, good).verdict is Verdict.PASSING
    assert one(SuccessCriteria(accuracy_min=0.9), NOTHING).verdict is Verdict.WAITING


def test_a_shift_of_predictions_is_the_largest_of_any_class() -> None:
    before = VersionEvidence("v1.0.0", by_class={"cat": 5000, "dog": 4900, "owl": 100})
    after = VersionEvidence("v2.0.0", by_class={"cat": 650, "dog": 350})
    result = one(SuccessCriteria(prediction_shift_max=0.03), after, before)
    assert result.verdict is Verdict.BREACHED
    assert result.measured == pytest.approx(0.15)
    assert 0.03 < result.low < 0.15 < result.high
    assert one(SuccessCriteria(prediction_shift_max=0.05), before, before).verdict is Verdict.PASSING
    assert one(SuccessCriteria(prediction_shift_max=0.14), after, before).verdict is Verdict.WAITING


def test_without_classes_confidences_shift() -> None:
    before = VersionEvidence("v1.0.0", by_confidence={"high": 9000, "low": 1000})
    after = VersionEvidence("v2.0.0", by_confidence={"high": 500, "low": 500})
    assert one(SuccessCriteria(prediction_shift_max=0.1), after, before).verdict is Verdict.BREACHED


def test_shadows_are_judged_by_what_was_compared() -> None:
    criteria = SuccessCriteria(shadow_disagreement_max=0.02)
    agreed = VersionEvidence("v2.0.0", shadows_compared=500, shadows_disagreed=5)
    differed = VersionEvidence("v2.0.0", shadows_compared=500, shadows_disagreed=100)
    assert one(criteria, agreed).verdict is Verdict.PASSING
    assert one(criteria, differed).verdict is Verdict.BREACHED


def metric(**limits: float) -> SuccessCriteria:
    return SuccessCriteria(metrics=(MetricCriterion("ctr", **limits),))


def test_a_metric_of_zeros_and_ones_is_a_share() -> None:
    canary = VersionEvidence("v2.0.0", outcomes={"ctr": binary(4000, 80)})
    baseline = VersionEvidence("v1.0.0", outcomes={"ctr": binary(40_000, 2000)})
    assert one(metric(min=0.04), canary).verdict is Verdict.BREACHED
    assert one(metric(max=0.01), canary).verdict is Verdict.BREACHED
    assert one(metric(min=0.02), canary).verdict is Verdict.PASSING
    assert one(metric(decrease_max=0.3), canary, baseline).verdict is Verdict.BREACHED
    assert one(metric(decrease_max=0.7), canary, baseline).verdict is Verdict.PASSING
    never = VersionEvidence("v2.0.0", outcomes={"ctr": MetricSum(1000)})
    assert one(metric(min=0.04), never).verdict is Verdict.WAITING, "it may be money, of which much comes at once"
    assert one(metric(min=0.04), never, baseline).verdict is Verdict.BREACHED, "the baseline shows that it is not"


def test_a_metric_of_other_values_is_a_mean() -> None:
    spread = 4.0
    canary = VersionEvidence("v2.0.0", outcomes={"ctr": MetricSum(5000, 5000 * 10.0, 5000 * (100.0 + spread))})
    baseline = VersionEvidence("v1.0.0", outcomes={"ctr": MetricSum(50_000, 50_000 * 12.0, 50_000 * (144.0 + spread))})
    assert one(metric(min=10.5), canary).verdict is Verdict.BREACHED
    assert one(metric(min=10.05), canary).verdict is Verdict.WAITING
    assert one(metric(decrease_max=0.1), canary, baseline).verdict is Verdict.BREACHED
    assert one(metric(decrease_max=0.2), canary, baseline).verdict is Verdict.PASSING


@pytest.mark.parametrize(
    ("criteria", "field"),
    [
        (SuccessCriteria(error_rate_max=1.5), "canary_config.success_criteria.error_rate_max"),
        (SuccessCriteria(error_rate_max=nan), "canary_config.success_criteria.error_rate_max"),
        (SuccessCriteria(latency_p95_max_ms=0), "canary_config.success_criteria.latency_p95_max_ms"),
        (SuccessCriteria(latency_p99_max_ms=inf), "canary_config.success_criteria.latency_p99_max_ms"),
        (SuccessCriteria(accuracy_min=-0.1), "canary_config.success_criteria.accuracy_min"),
        (SuccessCriteria(error_rate_max=0.1, requests_min=0), "canary_config.success_criteria.requests_min"),
        (SuccessCriteria(error_rate_max=0.1, requests_min=1_000_001), "canary_config.success_criteria.requests_min"),
        (SuccessCriteria(), "canary_config.success_criteria"),
        (metric(), "canary_config.success_criteria.metrics[0]"),
        (metric(min=2, max=1), "canary_config.success_criteria.metrics[0].min"),
        (metric(max=inf), "canary_config.success_criteria.metrics[0].max"),
        (metric(decrease_max=1.1), "canary_config.success_criteria.metrics[0].decrease_max"),
        (
            SuccessCriteria(metrics=(MetricCriterion("c t r", min=1),)),
            "canary_config.success_criteria.metrics[0].name",
        ),
        (
            SuccessCriteria(metrics=(MetricCriterion("ctr", min=1), MetricCriterion("ctr", max=1))),
            "canary_config.success_criteria.metrics[1].name",
        ),
        (
            SuccessCriteria(metrics=tuple(MetricCriterion(f"m{number}", min=1) for number in range(9))),
            "canary_config.success_criteria.metrics",
        ),
    ],
)
def test_a_limit_out_of_range_is_named(criteria: SuccessCriteria, field: str) -> None:
    with pytest.raises(MeshError) as caught:
        check_criteria(criteria)
    assert caught.value.reason is Reason.INVALID_FIELD
    assert [violation.field for violation in caught.value.violations] == [field]


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(MeshError) as caught:
        check_criteria(SuccessCriteria(error_rate_max=2, latency_p95_ratio_max=-1))
    assert len(caught.value.violations) == 2
    fine = SuccessCriteria(error_rate_max=0.0, latency_p95_ratio_max=1.2)
    assert check_criteria(fine) is fine
