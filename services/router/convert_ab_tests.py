"""Protobuf ⇄ domain values of A/B tests."""

from infermesh.router.v1 import ab_test_pb2, router_service_pb2

from services.router.convert import timestamp
from services.router.domain.ab_results import AbTestResults, Arm, Compared
from services.router.domain.ab_test import AbTestWish
from services.router.engines.ab_tests import AbTestView
from services.router.engines.changing import Call

_DAY_S = 86_400.0


def ab_test_wish_from_proto(request: router_service_pb2.CreateAbTestRequest) -> AbTestWish:
    """A test that is asked for."""
    return AbTestWish(
        name=request.name,
        versions=dict(request.versions),
        duration_days=request.duration_days,
        metrics=tuple(request.metrics),
        rollback_on_error_rate=request.rollback_on_error_rate,
        auto_promote=request.auto_promote,
        sticky_key_header=request.sticky_key_header,
    )


def ab_test_call_from_proto(
    request: router_service_pb2.StopAbTestRequest | router_service_pb2.ConcludeAbTestRequest, *, actor: str
) -> Call:
    """What both calls that end a test have in common."""
    return Call(model_name=request.model_name, etag=request.etag, reason=request.reason, actor=actor)


def ab_test_to_proto(view: AbTestView, *, with_results: bool = True) -> ab_test_pb2.AbTest:
    """A test and how it stands."""
    test, rollout, plan = view.test, view.rollout, view.test.plan
    return ab_test_pb2.AbTest(
        name=test.name,
        model_name=test.model_name,
        versions=plan.versions,
        duration_days=plan.duration_s / _DAY_S,
        metrics=plan.metrics,
        rollback_on_error_rate=plan.error_rate_max,
        auto_promote=plan.auto_promote,
        sticky_key_header=plan.sticky_header,
        status=test.status.value,
        status_reason=test.status_reason,
        start_time=timestamp(test.started_at),
        end_time=timestamp(rollout.ended_at or test.ends_at),
        results=_results_to_proto(view.results) if with_results else None,
        created_by=rollout.created_by,
        etag=rollout.etag,
    )


def _results_to_proto(results: AbTestResults) -> ab_test_pb2.AbTestResults:
    return ab_test_pb2.AbTestResults(
        control=results.control,
        arms=[_arm_to_proto(arm) for arm in results.arms],
        comparisons=[_comparison_to_proto(row) for row in results.comparisons],
        winner=results.winner,
        conclusion=results.conclusion,
        as_of=timestamp(results.as_of) if results.as_of is not None else None,
        outcome=results.outcome.value,
        sample_ratio_p_value=results.sample_ratio_p_value,
        sample_ratio_mismatch=results.sample_ratio_mismatch,
        basis=results.basis.value,
    )


def _arm_to_proto(arm: Arm) -> ab_test_pb2.AbTestArm:
    return ab_test_pb2.AbTestArm(
        version=arm.version,
        request_count=arm.request_count,
        error_rate=arm.error_rate,
        latency_avg_ms=arm.latency_avg_ms,
        latency_p95_ms=arm.latency_p95_ms,
        outcomes=arm.outcomes,
        outcome_counts=arm.outcome_counts,
    )


def _comparison_to_proto(row: Compared) -> ab_test_pb2.AbTestComparison:
    return ab_test_pb2.AbTestComparison(
        metric=row.metric,
        version=row.version,
        test=row.test,
        control_samples=row.control_samples,
        version_samples=row.version_samples,
        control_value=row.control_value,
        version_value=row.version_value,
        difference_low=row.difference_low,
        difference_high=row.difference_high,
        p_value=row.p_value,
        verdict=row.verdict.value,
        p_value_adjusted=row.p_value_adjusted,
        effect_size=row.effect_size,
        sequential_low=row.sequential_low,
        sequential_high=row.sequential_high,
    )
